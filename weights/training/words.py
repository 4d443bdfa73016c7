"""The words of four languages, and how each says what an object is."""

from .colours import COLOURS
from .shapes import KINDS

# gender of each kind's noun: m, f or n
NOUNS = {
    "de": ("Kreis m", "Quadrat n", "Dreieck n", "Stern m", "Zahl f"),
    "fr": ("cercle m", "carré m", "triangle m", "étoile f", "nombre m"),
    "es": ("círculo m", "cuadrado m", "triángulo m", "estrella f", "número m"),
}
ARTICLES = {
    "de": {"m": "ein", "n": "ein", "f": "eine"},
    "fr": {"m": "un", "f": "une"},
    "es": {"m": "un", "f": "una"},
}
GERMAN_ENDINGS = {"m": "er", "n": "es", "f": "e"}
ADJECTIVES = {
    "de": ("rot", "grün", "blau", "gelb", "violett", "schwarz"),
    "fr": ("rouge", "vert/e", "bleu/e", "jaune", "violet/te", "noir/e"),
    "es": ("rojo/a", "verde", "azul", "amarillo/a", "morado/a", "negro/a"),
}
AND = {"en": "and", "de": "und", "fr": "et", "es": "y"}
LANGUAGES = tuple(AND)


def name(language: str, colour: int, kind: int) -> str:
    """Name an object with its article: `a red circle`, `une étoile bleue`."""
    if language == "en":
        return f"a {COLOURS[colour]} {KINDS[kind]}"
    noun, gender = NOUNS[language][kind].split()
    article = ARTICLES[language][gender]
    word = ADJECTIVES[language][colour]
    if language == "de":
        return f"{article} {word}{GERMAN_ENDINGS[gender]} {noun}"
    return f"{article} {noun} {agree(language, word, gender)}"


def agree(language: str, word: str, gender: str) -> str:
    """Put a French or Spanish adjective, `masculine/change`, into its gender."""
    masculine, _, change = word.partition("/")
    if gender != "f" or not change:
        return masculine
    return masculine[:-1] + change if language == "es" else masculine + change


def join(language: str, names: list[str]) -> str:
    """Enumerate: commas between all but the last two, which `and` joins."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {AND[language]} {names[-1]}"
