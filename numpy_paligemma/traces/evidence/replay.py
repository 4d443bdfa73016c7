"""A part of the model run again from what a trace holds, right or with a mistake.

Every tap that the side has is put in its place as the pass comes by, so that a step is
judged by its own inputs and nothing else; the pass ends at the tap that is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.fusion import embed_text, fuse, project
from numpy_paligemma.model.gemma import gemma_decoder, next_token_logits
from numpy_paligemma.model.siglip import siglip_encoder
from numpy_paligemma.model.tap import Tap, scoped
from numpy_paligemma.traces.causes.variant import Here, Setup, Variant
from numpy_paligemma.traces.reading.names import NUMBER, rank

Given = Callable[[str], np.ndarray | None]
CANNOT = (KeyError, IndexError, ValueError, TypeError, AttributeError)


class _ReachedError(Exception):
    """The tap that was asked for."""

    def __init__(self, x: np.ndarray) -> None:
        super().__init__()
        self.x = x


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the model is run: from a tap of the stream to another tap."""

    start: str  # "" for the beginning
    target: str
    caches: tuple[LayerCache, ...] | None = None  # of a decode step


class Seen(dict[str, np.ndarray]):
    """What a pass has made; what came before its start is taken from the trace."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.given = given

    def __missing__(self, name: str) -> np.ndarray:
        x = self.given(name)
        if x is None:
            raise KeyError(name)
        return x


def template(tap: str) -> str:
    """Leave the block's number out: ``decoder/block/attention/q``."""
    return NUMBER.sub("", tap, count=1)


def replay(
    setup: Setup, given: Given, part: Part, variant: Variant | None = None
) -> np.ndarray | None:
    """Run a part of the model; None where what it needs is not there.

    Parameters
    ----------
    setup : Setup
        As it is right; the variant changes it.
    given : callable
        An array of the side by the name of its tap, or None.
    part : Part
    variant : Variant, optional
        The mistake that is made on the way.
    """
    seen = Seen(given)
    try:
        setup = setup if variant is None else variant.applied(setup)
        tap = _substitute(setup, given, part, variant, seen)
        _walk(setup, tap, part)
    except _ReachedError as reached:
        return reached.x
    except CANNOT:
        return None
    return None


def _substitute(
    setup: Setup,
    given: Given,
    part: Part,
    variant: Variant | None,
    seen: "Seen",
) -> Tap:
    """Make the tap that puts given arrays in, and the mistake."""
    dtype = setup.w.projector.bias.dtype
    end = rank(part.target)

    def tap(name: str, x: np.ndarray) -> np.ndarray:
        at = rank(name)
        before = at is not None and end is not None and at < end
        here = given(name) if before else None
        if here is not None:
            x = here if here.dtype == np.bool_ else here.astype(dtype)
        elif variant is not None and variant.swap and template(name) == variant.at:
            x = variant.swap(_here(setup, name, seen), x)
        if name == part.target:
            raise _ReachedError(x)
        seen[name] = x
        change = variant and variant.behind.get(template(name))
        return change(_here(setup, name, seen), x) if change else x

    return tap


def _here(setup: Setup, name: str, seen: Mapping[str, np.ndarray]) -> Here:
    """Say where a tap stands."""
    number = NUMBER.search(name)
    room = "vision" if name.startswith(("vision", "projector")) else "decoder"
    c = setup.c
    last = c.vision.depth if room == "vision" else c.text.depth
    return Here(setup, room, int(number[0]) if number else last, seen)


def _walk(setup: Setup, tap: Tap, part: Part) -> None:
    """Run the model from a tap of the stream on, until the target stops it."""
    room = part.start.partition("/")[0]
    if part.caches is not None:
        embedded = tap("decoder/embed", _text(setup))
        _decoder(setup, tap, part, embedded)
        return
    x = None
    if room in {"", "vision"}:
        soft = _eye(setup, tap, part)
        x = _sequence(setup, tap, soft)
    elif room == "projector":
        x = _sequence(setup, tap, _unknown(setup, "soft"))
    _decoder(setup, tap, part, _unknown(setup, "text") if x is None else x)


def _unknown(setup: Setup, what: str) -> np.ndarray:
    """Make room for an array that is put in as its tap comes by."""
    c, ids = setup.c, setup.ids
    B, T = ids.shape if ids is not None else (1, 1)
    pictures = B if setup.pixels is None else len(setup.pixels)
    shape = {
        "soft": (pictures, c.vision.patches, c.text.width),
        "text": (B, T, c.text.width),
    }[what]
    return np.full(shape, np.nan, setup.w.projector.bias.dtype)


def _text(setup: Setup) -> np.ndarray:
    """Look the text up; unknown where the ids are."""
    if setup.ids is None:
        return _unknown(setup, "text")
    return embed_text(setup.ids, setup.w.decoder.embed)


def _eye(setup: Setup, tap: Tap, part: Part) -> np.ndarray:
    """Run the eye and the projector, the blocks behind the start alone."""
    first = _first(part.start)
    w, c = setup.w.vision, setup.c.vision
    pixels = setup.pixels
    if pixels is None:
        pixels = np.full((1, c.channels, c.image_size, c.image_size), np.nan)
    if part.start == "vision/out":
        first = c.depth
    blocks = w.blocks[first:]
    into = f"vision/block{first - 1:02}/out" if first else "vision/embed"
    renamed = _renamed(tap, {"embed": into}, "vision", first)
    pixels = pixels.astype(setup.w.projector.bias.dtype)
    features = siglip_encoder(pixels, replace(w, blocks=blocks), c, tap=renamed)
    return tap("projector/out", project(features, setup.w.projector))


def _sequence(setup: Setup, tap: Tap, soft: np.ndarray) -> np.ndarray:
    """Make one sequence of soft tokens and text, and say who may see whom."""
    soft = tap("projector/out", soft)
    text = tap("decoder/embed", _text(setup))
    if setup.ids is None:
        return tap("fusion/out", text)
    return tap("fusion/out", fuse(soft, text, setup.ids == setup.c.image_token_id))


def _decoder(setup: Setup, tap: Tap, part: Part, x: np.ndarray) -> None:
    """Run the decoder, the blocks behind the start alone, and the head."""
    first = _first(part.start) if part.start.startswith("decoder/block") else 0
    w, c = setup.w.decoder, setup.c.text
    if part.start == "decoder/out":
        first = c.depth
    into = f"decoder/block{first - 1:02}/out" if first else ""
    x = tap(into, x) if into else x
    if part.start == "fusion/out" and part.caches is None:
        x = tap("fusion/out", x)
    full, window = setup.masks
    for name, mask in (("fusion/mask", full), ("fusion/window_mask", window)):
        if mask is not None:
            tap(name, mask)
    sliding = frozenset(i - first for i in c.sliding_blocks if i >= first)
    x = gemma_decoder(
        x,
        setup.positions if setup.positions is not None else np.ones(x.shape[:2], int),
        full,
        replace(w, blocks=w.blocks[first:]),
        replace(c, sliding_blocks=sliding),
        None if part.caches is None else part.caches[first:],
        window_mask=window,
        tap=_renamed(tap, {}, "decoder", first),
    )
    if part.caches is not None:
        x = x[:, -1]
    tap("logits", next_token_logits(x, w, c.logit_cap))


def _first(start: str) -> int:
    """Give the number of the first block behind a tap of the stream."""
    number = NUMBER.search(start)
    return int(number[0]) + 1 if number else 0


def _renamed(tap: Tap, names: Mapping[str, str], room: str, first: int) -> Tap:
    """Give blocks their own numbers back, which count from nought in a part."""
    inner = scoped(tap, room)

    def renamed(name: str, x: np.ndarray) -> np.ndarray:
        if name in names:
            return tap(names[name], x)
        return inner(NUMBER.sub(lambda m: f"{int(m[0]) + first:02}", name, count=1), x)

    return renamed
