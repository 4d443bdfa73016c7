"""Mistakes in the MLPs, in the residual stream and at the end."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_paligemma.model.gemma import next_token_logits
from numpy_paligemma.model.layers import gelu, linear, soft_cap
from numpy_paligemma.traces.causes.variant import Here, Variant

Bend = Callable[[np.ndarray], np.ndarray]
_erf = np.vectorize(math.erf, otypes=[float])


def _gelu_erf(x: np.ndarray) -> np.ndarray:
    return (x * (1 + _erf(x / math.sqrt(2))) / 2).astype(x.dtype)


def _quick(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def _square(x: np.ndarray) -> np.ndarray:
    return np.square(np.maximum(x, 0))


def _not(x: np.ndarray) -> np.ndarray:
    return x


BENDS: tuple[tuple[str, str, Bend], ...] = (
    (
        "erf GELU",
        (
            "GELU is the exact one, with erf, where the tanh form is due: a small error "
            "everywhere from this MLP on"
        ),
        _gelu_erf,
    ),
    (
        "quick GELU",
        "the activation is quick GELU, x·sigmoid(1.702x), where tanh GELU is due",
        _quick,
    ),
    ("SiLU for GELU", "the activation is SiLU where tanh GELU is due", _silu),
    ("ReLU for GELU", "the activation is ReLU where tanh GELU is due", _relu),
    ("ReLU for GELU", "the activation is a leaky ReLU where tanh GELU is due", _leaky),
    (
        "ReLU for GELU",
        "the activation is a squared ReLU where tanh GELU is due",
        _square,
    ),
    ("activation left out", "the activation is left out", _not),
    ("activation", "the activation is tanh where tanh GELU is due", np.tanh),
)


def _eye(bend: Bend, here: Here, _: np.ndarray) -> np.ndarray:
    w, y = here.block, here.near("mlp_norm")
    return linear(bend(linear(y, *w.fc1)), *w.fc2)


def _eye_biases(first: bool, second: bool, here: Here, _: np.ndarray) -> np.ndarray:
    w, y = here.block, here.near("mlp_norm")
    h = gelu(linear(y, w.fc1.weight, w.fc1.bias if first else None))
    return linear(h, w.fc2.weight, w.fc2.bias if second else None)


def _gated(
    of: Callable[[np.ndarray, np.ndarray], np.ndarray], here: Here, _: np.ndarray
) -> np.ndarray:
    """Feed forward with another meeting of gate and up."""
    w, y = here.block, here.near("mlp_norm")
    return linear(of(linear(y, w.gate_proj), linear(y, w.up_proj)), w.down_proj)


def _bent(bend: Bend, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    return bend(gate) * up


GATES: tuple[tuple[str, str, Any], ...] = (
    ("gate and up swapped", "gate and up are swapped", lambda g, u: gelu(u) * g),
    ("up left out", "up is left out: the gate alone goes on", lambda g, _: gelu(g)),
    ("gate left out", "the gate is left out: up alone is bent", lambda _, u: gelu(u)),
    (
        "gate and up added",
        "gate and up are added, not multiplied",
        lambda g, u: gelu(g) + u,
    ),
    ("activation on both", "both gate and up are bent", lambda g, u: gelu(g) * gelu(u)),
    (
        "activation behind the product",
        "the product of gate and up is bent",
        lambda g, u: gelu(g * u),
    ),
)


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


def _not_normed_head(here: Here, _: np.ndarray) -> np.ndarray:
    c = here.setup.c.text
    x = here.seen[here.came_from(c.depth)]
    return next_token_logits(x, here.setup.w.decoder, c.logit_cap)


FEEDING = (
    *(
        Variant(cause, text, "vision/block/mlp/out", swap=partial(_eye, bend))
        for cause, text, bend in BENDS
    ),
    *(
        Variant(
            cause,
            text,
            "decoder/block/mlp/out",
            swap=partial(_gated, partial(_bent, bend)),
        )
        for cause, text, bend in BENDS
    ),
    *(
        Variant(cause, text, "decoder/block/mlp/out", swap=partial(_gated, of))
        for cause, text, of in GATES
    ),
    Variant(
        "bias dropped",
        "fc1's bias is left out",
        "vision/block/mlp/out",
        swap=partial(_eye_biases, False, True),
    ),
    Variant(
        "bias dropped",
        "fc2's bias is left out",
        "vision/block/mlp/out",
        swap=partial(_eye_biases, True, False),
    ),
    Variant(
        "bias dropped",
        "both biases of the MLP are left out",
        "vision/block/mlp/out",
        swap=partial(_eye_biases, False, False),
    ),
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
