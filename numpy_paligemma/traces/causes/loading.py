"""Mistakes in which weights stand where: another block's, or another norm's."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from numpy_paligemma.model.gemma import PostNorms
from numpy_paligemma.traces.causes.variant import Setup, Variant

Blocks = tuple[Any, ...]

WEIGHED = {  # taps that a block's weights make
    "vision": ("q", "k", "v", "out"),
    "decoder": ("q_proj", "k_proj", "v_proj", "out"),
}
NORMED = ("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm")


def _next(blocks: Blocks) -> Blocks:
    return (*blocks[1:], blocks[-1])


def _before(blocks: Blocks) -> Blocks:
    return (blocks[0], *blocks[:-1])


def _first(blocks: Blocks) -> Blocks:
    return (blocks[0],) * len(blocks)


def _last(blocks: Blocks) -> Blocks:
    return (blocks[-1],) * len(blocks)


def _moved(room: str, move: Callable[[Blocks], Blocks], setup: Setup) -> Setup:
    """Give every block another one's weights."""
    part = getattr(setup.w, room)
    moved = replace(part, blocks=move(part.blocks))
    return replace(setup, w=replace(setup.w, **{room: moved}))


def _norms_exchanged(w: Any) -> Any:
    return replace(w, attention_norm=w.mlp_norm, mlp_norm=w.attention_norm)


def _post_norms_exchanged(w: Any) -> Any:
    if w.post_norms is None:
        return w
    return replace(w, post_norms=PostNorms(w.post_norms.mlp, w.post_norms.attention))


def _of_all(room: str, change: Callable[[Any], Any], setup: Setup) -> Setup:
    return setup.eye(change) if room == "vision" else setup.decoder(change)


def _last_block_s(room: str, setup: Setup) -> Setup:
    """Give the last norm the gain of the last block's first one."""
    part = getattr(setup.w, room)
    changed = replace(part, final_norm=part.blocks[-1].attention_norm)
    return replace(setup, w=replace(setup.w, **{room: changed}))


MOVES = (
    ("the next block's", _next),
    ("those of the block before", _before),
    ("the first block's", _first),
    ("the last block's", _last),
)
EXCHANGED = (
    ("attention_norm", _norms_exchanged, "the norms before attention and MLP"),
    ("mlp_norm", _norms_exchanged, "the norms before attention and MLP"),
    (
        "attention_post_norm",
        _post_norms_exchanged,
        "the norms behind attention and MLP",
    ),
    ("mlp_post_norm", _post_norms_exchanged, "the norms behind attention and MLP"),
)


def _of_room(room: str) -> list[Variant]:
    """List the mistakes of the eye or of the decoder."""
    taps = [*NORMED, *(f"attention/{name}" for name in WEIGHED[room]), "mlp/out"]
    listed = [
        Variant(
            "another block's weights",
            f"the weights are {whose}",
            f"{room}/block/{tap}",
            partial(_moved, room, move),
        )
        for tap in taps
        for whose, move in MOVES
    ]
    listed += [
        Variant(
            "another norm's gain",
            f"{which} are exchanged",
            f"{room}/block/{tap}",
            partial(_of_all, room, change),
        )
        for tap, change, which in EXCHANGED
    ]
    whose = "the last norm has the gain of the last block's first one"
    end = f"{room}/out"
    change = partial(_last_block_s, room)
    return [*listed, Variant("another norm's gain", whose, end, change)]


LOADING = (*_of_room("vision"), *_of_room("decoder"))
