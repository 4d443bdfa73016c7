"""Boxes out of an answer's text, and what could not be read, in order and in full.

PaliGemma answers ``detect cat ; dog`` and ``segment cat`` with

    <loc0051><loc0309><loc0708><loc0646> cat ; <loc…> dog
    <loc0051><loc0309><loc0708><loc0646><seg012>…<seg127> cat

four places an object, top, left, bottom and right, each one of 1,024 bins along a side
of the *original* picture; sixteen mask codes or none; then a label that may hold spaces,
dots and apostrophes, or be missing. Source: big_vision, ``configs/proj/paligemma/`` and
``pp/proj/paligemma/segmentation.py``.
"""

import math
import re
from dataclasses import dataclass, replace

BINS = 1024
PLACES = 4
MASK_CODES = 16
CODEBOOK = 128
AGAIN = "repeats an earlier box"
BOX_SCALES = (1023, 1024)  # what a bin is divided by; see `box_in_pixels`

Box = tuple[float, float, float, float]  # left, top, right, bottom
Bins = tuple[int, int, int, int]  # top, left, bottom, right, as they are written

# a token, be it a broken one; not <local>, which is a word
_LOC, _SEG = (rf"<{kind}(?:[0-9]+>?|>|\Z)" for kind in ("loc", "seg"))
_TOKEN = f"{_LOC}|{_SEG}"
# one object, or what stands in its place, and all up to the next: every part may be
# missing, so that whatever the text is, the pieces found one after another are all of it
_PIECE = rf"""(?x)(?P<places>(?:{_LOC})*+)
    (?:\s*+(?P<codes>(?:{_SEG})++))?+
    (?P<label>(?:(?!{_LOC}|{_SEG}|<eos>|<bos>|<pad>|<(?:lo?|se?)\Z)[^;\n\r])*+)
    (?P<cut>(?:<(?:lo?|se?)\Z)?)
    (?P<end>(?:\s|;|<eos>|<bos>|<pad>)*+)"""


@dataclass(frozen=True, slots=True)
class Detection:
    """An object; `reason` says what is odd about it, and mostly is empty."""

    text: str  # as written, with what parts it from the next
    label: str
    bins: Bins
    codes: tuple[int, ...] = ()  # sixteen, or none
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text that is no object, and why; without a reason it need not be one."""

    text: str
    reason: str = ""


Part = Detection | Fragment


def parse_answer(text: str) -> list[Part]:
    """Read an answer as objects; nothing is dropped, and no text is refused.

    An answer without a place or a mask code, such as a caption, is one fragment without
    a fault; in any other, text that belongs to no object is a fault.

    Parameters
    ----------
    text : str
        What the model said.

    Returns
    -------
    list of Detection and Fragment
        In order; their `text` joined is the answer.
    """
    pieces = [found for found in re.finditer(_PIECE, text) if found[0]]
    if not any(it["places"] or it["codes"] or it["cut"] for it in pieces):
        return [Fragment(text)] if text else []
    parts: list[Part] = []
    seen: set[tuple[str, Bins]] = set()
    for piece in pieces:
        part = _read(piece, len(text))
        if isinstance(part, Detection):
            if (part.label, part.bins) in seen:
                part = replace(part, reason=f"{part.reason}; {AGAIN}".lstrip("; "))
            seen.add((part.label, part.bins))
        parts.append(part)
    return parts


def box_in_pixels(bins: Bins, size: tuple[int, int], *, scale: int = 1023) -> Box:
    """Place a box on the original picture.

        bin / scale · side

    big_vision writes round(v · 1023) and reads k / 1023, so that 0000 0000 1023 1023 is
    the whole picture: the published checkpoints were trained on that, and it is the
    default. Most other decoders (Hugging Face's blog, supervision, maestro) divide by
    1024, and some fine-tunes were trained so, as the miniature was. The two differ by
    1/1024 of a side at most, at the far edge.

    Parameters
    ----------
    bins : four ints, top, left, bottom, right
    size : width and height in pixels
    scale : {1023, 1024}

    Returns
    -------
    left, top, right, bottom : float
        Inverted where the bins are.
    """
    top, left, bottom, right = bins
    # divided first, as big_vision's evaluator does: pasted masks then agree to the pixel
    xs = [at / scale * size[0] for at in (left, right)]
    ys = [at / scale * size[1] for at in (top, bottom)]
    return xs[0], ys[0], xs[1], ys[1]


def bins_of_box(box: Box, size: tuple[int, int], *, scale: int = 1023) -> Bins:
    """Write a box as bins, the inverse of `box_in_pixels`; what is outside is clipped.

    Scale 1023 rounds to the nearest bin, as big_vision does, and is off by half a bin at
    most. Scale 1024 takes the bin that a place falls in: up to a whole bin too low,
    never too high.

    Parameters
    ----------
    box : left, top, right, bottom in pixels
    size : width and height in pixels
    scale : {1023, 1024}
    """
    left, top, right, bottom = box
    width, height = size
    shares = (top / height, left / width, bottom / height, right / width)
    whole = round if scale == BINS - 1 else math.floor
    a, b, c, d = (min(max(whole(at * scale), 0), BINS - 1) for at in shares)
    return a, b, c, d


def box_tokens(bins: Bins) -> str:
    """Spell bins as the model does: four ints -> ``<loc0051><loc0309>…``."""
    return "".join(f"<loc{at:04d}>" for at in bins)


def _read(piece: re.Match[str], length: int) -> Part:
    """Make one piece of a text an object, or say why it is none."""
    text, label = piece[0], piece["label"].strip()
    places, codes = (
        re.findall(_TOKEN, piece[kind] or "") for kind in ("places", "codes")
    )
    cut = piece.end() == length and not piece["label"] and not piece["end"]
    if not places:
        return Fragment(text, _why_no_box(label, piece))
    if fault := _fault(places, PLACES, BINS, "places", cut=cut and not codes):
        return Fragment(text, fault)
    top, left, bottom, right = map(_number, places)
    reasons = [] if top < bottom and left < right else ["a box without area"]
    if fault := _fault(codes, MASK_CODES, CODEBOOK, "mask codes", cut=cut):
        reasons += [fault] if codes else []
        codes = []
    if piece["cut"]:
        reasons.append("cut off within a token")
    bins = (top, left, bottom, right)
    return Detection(text, label, bins, tuple(map(_number, codes)), "; ".join(reasons))


def _why_no_box(label: str, piece: re.Match[str]) -> str:
    """Say what a piece without places is; nothing where it only parts others."""
    if piece["codes"]:
        return "mask codes without a box"
    if piece["cut"]:
        return "cut off within a token"
    return "text without a box" if label else ""


def _fault(
    tokens: list[str], expected: int, limit: int, what: str, *, cut: bool
) -> str:
    """Say what is wrong with a run of tokens; nothing where nothing is."""
    found = len(tokens)
    if cut and tokens and not tokens[-1].endswith(">"):
        tokens = tokens[:-1]
    digits = len(str(limit - 1))
    for token in tokens:
        whole = token.endswith(">") and len(token) == len("<loc>") + digits
        if not whole or _number(token) >= limit:
            return f"{token} is none of the {limit} {what}"
    if cut and len(tokens) < expected:
        return f"cut off after {len(tokens)} of {expected} {what}"
    return "" if found == expected else f"expected {expected} {what}, found {found}"


def _number(token: str) -> int:
    """Take the number out of a whole token."""
    return int(token[len("<loc") : -1])
