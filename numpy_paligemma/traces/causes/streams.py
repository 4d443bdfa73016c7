"""Mistakes in the residual stream, and in the head at its end."""

from functools import partial

import numpy as np

from numpy_paligemma.model.gemma import next_token_logits
from numpy_paligemma.model.layers import soft_cap
from numpy_paligemma.traces.causes.variant import Here, Variant


def _branch(here: Here, kind: str) -> np.ndarray:
    """Take what a branch adds: Gemma 2 norms it first."""
    post = f"{kind}_post_norm"
    path = f"{here.room}/block{here.number:02}/{post}"
    return here.near(post) if path in here.seen else here.near(f"{kind}/out")


def _alone(kind: str, here: Here, _: np.ndarray) -> np.ndarray:
    return _branch(here, kind)


def _from_normed(kind: str, here: Here, _: np.ndarray) -> np.ndarray:
    return here.near(f"{kind}_norm") + _branch(here, kind)


def _not_normed(kind: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Leave Gemma 2's norm behind a branch out."""
    into = here.before if kind == "attention" else here.near("mid")
    return into + here.near(f"{kind}/out")


def _from_before(here: Here, _: np.ndarray) -> np.ndarray:
    """Add the MLP to what went into the block."""
    return here.before + _branch(here, "mlp")


def _branch_left_out(kind: str, here: Here, _: np.ndarray) -> np.ndarray:
    return here.before if kind == "attention" else here.near("mid")


def _halved(kind: str, here: Here, _: np.ndarray) -> np.ndarray:
    into = here.before if kind == "attention" else here.near("mid")
    return (into + _branch(here, kind)) * 0.5**0.5


def _streams() -> list[Variant]:
    """List the mistakes of the residual stream."""
    listed = []
    for room in ("vision", "decoder"):
        for kind, name in (("attention", "mid"), ("mlp", "out")):
            at = f"{room}/block/{name}"
            listed += [
                Variant(
                    "residual left out",
                    f"the residual around {kind} is left out",
                    at,
                    swap=partial(_alone, kind),
                ),
                Variant(
                    "residual from behind the norm",
                    f"the residual around {kind} is taken behind the norm",
                    at,
                    swap=partial(_from_normed, kind),
                ),
                Variant(
                    "branch left out",
                    f"what {kind} makes is not added",
                    at,
                    swap=partial(_branch_left_out, kind),
                ),
                Variant(
                    "residual scaled",
                    f"the sum behind {kind} is divided by √2",
                    at,
                    swap=partial(_halved, kind),
                ),
            ]
        listed.append(
            Variant(
                "residual from before attention",
                "the MLP is added to what went into the block, without attention",
                f"{room}/block/out",
                swap=_from_before,
            )
        )
    for kind, name in (("attention", "mid"), ("mlp", "out")):
        listed.append(
            Variant(
                "post norm left out",
                f"the norm behind {kind}, which Gemma 2 has, is left out: PaliGemma 2 "
                "read as PaliGemma 1",
                f"decoder/block/{name}",
                swap=partial(_not_normed, kind),
            )
        )
    return listed


def _logits(times: float, power: float, here: Here, _: np.ndarray) -> np.ndarray:
    c, w = here.setup.c.text, here.setup.w.decoder
    x = here.seen["decoder/out"]
    return next_token_logits(x, w, c.logit_cap) * times * c.width**power


def _capped(cap: float | None, here: Here, _: np.ndarray) -> np.ndarray:
    x = here.seen["decoder/out"]
    return soft_cap(next_token_logits(x, here.setup.w.decoder, None), cap)


def _capped_twice(here: Here, _: np.ndarray) -> np.ndarray:
    cap = here.setup.c.text.logit_cap
    return soft_cap(_capped(cap, here, _), cap)


def _not_normed_head(here: Here, _: np.ndarray) -> np.ndarray:
    c = here.setup.c.text
    x = here.seen[here.came_from(c.depth)]
    return next_token_logits(x, here.setup.w.decoder, c.logit_cap)


STREAMS = (
    *_streams(),
    Variant(
        "head scaled",
        "logits are multiplied by √D, like embeddings",
        "logits",
        swap=partial(_logits, 1.0, 0.5),
    ),
    Variant(
        "head scaled",
        "logits are divided by √D",
        "logits",
        swap=partial(_logits, 1.0, -0.5),
    ),
    Variant(
        "logit cap left out",
        "the cap on logits is left out",
        "logits",
        swap=partial(_capped, None),
    ),
    Variant(
        "logit cap applied twice",
        "logits are capped, and capped again",
        "logits",
        swap=_capped_twice,
    ),
    *(
        Variant(
            "logit cap",
            f"logits are capped at {cap:g}",
            "logits",
            swap=partial(_capped, cap),
        )
        for cap in (30.0, 50.0)
    ),
    Variant(
        "norm left out", "the last norm is left out", "logits", swap=_not_normed_head
    ),
)
