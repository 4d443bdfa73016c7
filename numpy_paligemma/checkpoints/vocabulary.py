"""The checkpoint's tokenizer, opened and held against what PaliGemma needs of it."""

from pathlib import Path

from numpy_paligemma.checkpoints.mistaken import what_it_is
from numpy_paligemma.inputs.tokenizer import Tokenizer
from numpy_paligemma.model.config import PaliGemmaConfig

PLACES = [f"<loc{i:04}>" for i in range(1024)] + [f"<seg{i:03}>" for i in range(128)]
# what a file that has lost its settings would change: spaces, letters, the beginning
CANARY = " a  b \tﬁ Å日 ½ "
LOOKED_AT = 512  # pieces, spread over the vocabulary; a few milliseconds
FEW = 1 / 16  # a vocabulary may have some pieces that its own merges never make


def open_tokenizer(
    path: Path, c: PaliGemmaConfig, *, told: str = "config.json"
) -> Tokenizer:
    """Open a checkpoint's tokenizer; `told` names the file that `c` was read from.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: no file, another file, a damaged one, or one that does not fit the
        model. A piece spelt wrongly cannot be noticed: no other file says it right.
    """
    try:
        tokenizer = Tokenizer(path, c.image_token_id)
        found = tokenizer.decode(tokenizer.encode(CANARY))
    except ValueError as error:
        is_else = what_it_is(path)
        if not (is_else or isinstance(error, UnicodeDecodeError)):
            raise
        msg = f"{path}: expected a tokenizer, but {is_else or error}"
        raise ValueError(msg) from error
    if found != CANARY:
        msg = f"{path}: {CANARY!r} comes back as {found!r}; download it again"
        raise ValueError(msg)
    _check_words(tokenizer, path)
    _check_places(tokenizer, path)
    _check_ids(tokenizer, path, c, told)
    return tokenizer


def _check_words(tokenizer: Tokenizer, path: Path) -> None:
    """Refuse a tokenizer that does not put its words together: its merges are lost."""
    step = max(1, tokenizer.pieces // LOOKED_AT)
    texts = {i: tokenizer.decode([i]) for i in range(0, tokenizer.pieces, step)}
    words = {i: t for i, t in texts.items() if t[:1] == " " and t[1:].isalpha()}
    cut = [word for i, word in words.items() if tokenizer.encode(word) != [i]]
    if len(cut) > FEW * len(words):
        msg = f"{path}: {len(cut)} of {len(words)} whole words that are pieces of it "
        msg += f"come in several, such as {cut[0]!r}: merges are missing; "
        raise ValueError(msg + "download it again")


def _check_places(tokenizer: Tokenizer, path: Path) -> None:
    """Refuse a tokenizer without every `<loc>` and `<seg>`, one behind the other."""
    first = tokenizer.token_id(PLACES[0])
    ids = range(first, first + len(PLACES))
    if tokenizer.decode(ids) == "".join(PLACES):
        return
    for id_, place in zip(ids, PLACES, strict=True):
        found = tokenizer.decode([id_])
        if found != place:
            msg = f"{path}: expected {place} to have id {id_}, which is {found!r}; "
            raise ValueError(msg + "download it again")


def _check_ids(tokenizer: Tokenizer, path: Path, c: PaliGemmaConfig, told: str) -> None:
    """Refuse a tokenizer whose ids are not those that the model was trained with."""
    pairs = [
        ("bos", tokenizer.bos_token_id, (c.bos_token_id,)),
        ("pad", tokenizer.pad_token_id, (c.pad_token_id,)),
        ("eos", tokenizer.eos_token_id, c.eos_token_ids),
    ]
    for name, found, wanted in pairs:
        if found not in wanted:
            ids = " or ".join(map(str, wanted))
            by = f"generation_config.json or {told}" if name == "eos" else told
            msg = f"{path}: <{name}> {found}, but by {by} {name} is {ids}; "
            raise ValueError(msg + "the two files are of different checkpoints")
    rows = c.text.vocab_size
    if tokenizer.pieces > rows:
        msg = f"{path}: {tokenizer.pieces} pieces, but by {told} the embedding has "
        raise ValueError(msg + f"{rows} rows; the two are of different checkpoints")
    if max(c.eos_token_ids) >= rows:
        msg = f"eos_token_id: expected ids below {rows}, found {max(c.eos_token_ids)}; "
        raise ValueError(msg + "correct generation_config.json or config.json")
