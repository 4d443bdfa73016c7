"""Mistakes in the MLPs of eye and decoder."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_paligemma.model.layers import gelu, linear
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
)
