"""Mistakes in LayerNorm and RMSNorm, wherever they stand."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from numpy_paligemma.model.layers import layer_norm, rms_norm
from numpy_paligemma.traces.causes.variant import Here, Setup, Swap, Variant

ONE_FORGOTTEN, TWICE_ONE = "norm gain w for 1 + w", "norm gain 2 + w"
EPS = (1e-5, 1e-12, 1e-8, 1e-7, 1e-4, 1e-3, 0.0)
# every norm: its tap, what goes in, and which field of the weights is its gain
INTO = {
    "attention_norm": ("", "attention_norm"),
    "mlp_norm": ("mid", "mlp_norm"),
    "attention_post_norm": ("attention/out", "attention"),
    "mlp_post_norm": ("mlp/out", "mlp"),
}


def _norm_of(here: Here, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take a norm's input, its gain (less one in the decoder) and its bias."""
    if name == "out":  # behind the last block
        w = here.setup.w
        x = here.seen[here.came_from(here.number)]
        norm: Any = (w.vision if here.room == "vision" else w.decoder).final_norm
    else:
        source, field = INTO[name]
        x = here.near(source) if source else here.before
        post = name.endswith("post_norm")
        norm = getattr(here.block.post_norms if post else here.block, field)
    if here.room == "vision":
        return x, norm.weight, norm.bias
    return x, norm, 0 * norm


def _eps(here: Here) -> float:
    return here.setup.sizes(here.room).norm_eps


def _outside(name: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Add eps to the root, not under it."""
    x, weight, bias = _norm_of(here, name)
    if here.room == "vision":
        y = x - np.mean(x, -1, keepdims=True)
        return y / (np.std(x, -1, keepdims=True) + _eps(here)) * weight + bias
    root = np.sqrt(np.mean(np.square(x), -1, keepdims=True))
    return x / (root + _eps(here)) * (1 + weight)


def _unbiased(name: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Divide the squares by n - 1."""
    x, weight, bias = _norm_of(here, name)
    if here.room == "vision":
        y = x - np.mean(x, -1, keepdims=True)
        variance = np.var(x, -1, keepdims=True, ddof=1)
        return y / np.sqrt(variance + _eps(here)) * weight + bias
    n = x.shape[-1]
    return rms_norm(x * ((n - 1) / n) ** 0.5, weight, _eps(here)) * ((n - 1) / n) ** 0.5


def _other_mean(name: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Take the mean off where it stays, and leave it where it goes."""
    x, weight, bias = _norm_of(here, name)
    if here.room == "vision":
        return rms_norm(x, weight - 1, _eps(here)) + bias
    return rms_norm(x - np.mean(x, -1, keepdims=True), weight, _eps(here))


def _gain(name: str, here: Here, _: np.ndarray, more: float) -> np.ndarray:
    """Move the gain by one."""
    x, weight, bias = _norm_of(here, name)
    if here.room == "vision":
        return layer_norm(x, weight + 1, bias, _eps(here))
    return rms_norm(x, weight + more, _eps(here))


def _no_gain(name: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Leave gain (and bias) out."""
    x, weight, bias = _norm_of(here, name)
    if here.room == "vision":
        return layer_norm(x, weight * 0 + 1, bias * 0, _eps(here))
    return rms_norm(x, weight * 0, _eps(here))


def _none(name: str, here: Here, _: np.ndarray) -> np.ndarray:
    """Let the input through."""
    return _norm_of(here, name)[0]


def _with_eps(room: str, eps: float, setup: Setup) -> Setup:
    return setup.vision(norm_eps=eps) if room == "vision" else setup.text(norm_eps=eps)


def _at(room: str, name: str) -> str:
    return f"{room}/out" if name == "out" else f"{room}/block/{name}"


def _of(room: str, name: str) -> list[Variant]:
    """List the mistakes of one norm."""
    at = _at(room, name)
    kind = "LayerNorm" if room == "vision" else "RMSNorm"
    post = name.endswith("post_norm")

    def swapped(cause: str, text: str, swap: Swap) -> Variant:
        return Variant(cause, f"{kind}: {text}", at, swap=swap)

    listed = [
        Variant(
            "norm eps", f"{kind}: eps is {eps:g}", at, partial(_with_eps, room, eps)
        )
        for eps in EPS
    ]
    listed += [
        swapped("norm eps", "eps stands outside the root", partial(_outside, name)),
        swapped(
            "variance by n - 1",
            "squares are divided by n - 1 where n is due",
            partial(_unbiased, name),
        ),
        swapped(
            "post norm left out" if post else "norm left out",
            "left out: the input goes on"
            + ", as where PaliGemma 2 is read as PaliGemma 1" * post,
            partial(_none, name),
        ),
        swapped(
            "norm gain left out",
            "the learned gain is left out",
            partial(_no_gain, name),
        ),
    ]
    if room == "vision":
        return [
            *listed,
            swapped(
                "mean not taken off",
                "the mean stays, as in RMSNorm",
                partial(_other_mean, name),
            ),
            swapped(
                "norm gain 1 + w for w",
                "the gain is 1 + w where w is due",
                partial(_gain, name, more=1),
            ),
        ]
    return [
        *listed,
        swapped(
            "mean taken off",
            "the mean is taken off, as in LayerNorm",
            partial(_other_mean, name),
        ),
        swapped(
            ONE_FORGOTTEN,
            "the gain is w where 1 + w is due",
            partial(_gain, name, more=-1),
        ),
        Variant(
            TWICE_ONE,
            f"{kind}: one is added to the gain twice",
            at,
            swap=partial(_gain, name, more=1),
        ),
    ]


def _of_attention(setup: Setup) -> Setup:
    """Give the norm before the MLP the gain of the one behind attention."""
    return setup.decoder(lambda w: replace(w, mlp_norm=w.post_norms.attention))


def _of_before(here: Here, _: np.ndarray) -> np.ndarray:
    """Norm what went into the block, not what attention made of it."""
    if here.room == "vision":
        gain, bias = here.block.mlp_norm
        return layer_norm(here.before, gain, bias, _eps(here))
    return rms_norm(here.before, here.block.mlp_norm, _eps(here))


BEFORE = "the MLP's norm reads what went into the block, without what attention added"
NORMS = (
    *(v for name in ("attention_norm", "mlp_norm", "out") for v in _of("vision", name)),
    *(v for name in (*INTO, "out") for v in _of("decoder", name)),
    Variant(
        "another norm's gain",
        "the norm before the MLP has the gain of the one behind attention, whose "
        "name, post_attention_layernorm, was Gemma 1's for it",
        "decoder/block/mlp_norm",
        _of_attention,
    ),
    Variant("residual left out", BEFORE, "vision/block/mlp_norm", swap=_of_before),
    Variant("residual left out", BEFORE, "decoder/block/mlp_norm", swap=_of_before),
)
