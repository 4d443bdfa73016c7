"""Let keras-hub work in float64 throughout: its falls to float32, each lifted by name.

A model made with ``dtype="float64"`` on Keras still falls back to float32 in five
places. A lift is to be on while the model is made and while it runs.
"""

from contextlib import AbstractContextManager
from typing import Any

import keras
import pytest
import torch
from lifts import all_but, by_name


def promotion_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Let two arrays of float64 meet as float64: on TensorFlow alone they do."""
    from keras.src.backend.common import dtypes

    patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")


def roots_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Take √D and the eye's √H, roots of integers, which PyTorch takes in float32."""
    real = keras.ops.sqrt

    def keep(x: Any) -> Any:
        return real(torch.tensor(x, dtype=torch.float64) if isinstance(x, int) else x)

    patch.setattr(keras.ops, "sqrt", keep)


def norms_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Cast to float64 where RMSNorm asks for float32 by name."""
    real = keras.ops.cast

    def keep(x: Any, dtype: Any) -> Any:
        return real(x, "float64" if dtype == "float32" else dtype)

    patch.setattr(keras.ops, "cast", keep)


def angles_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Count in float64 where RoPE starts from ranges of float32."""
    real = keras.ops.arange

    def keep(*args: Any, dtype: Any = None) -> Any:
        return real(*args, dtype="float64" if dtype == "float32" else dtype)

    patch.setattr(keras.ops, "arange", keep)


def softmax_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Make the decoder's softmax, a layer of float32, one of float64."""
    real = keras.layers.Softmax
    patch.setattr(keras.layers, "Softmax", lambda **_: real(dtype="float64"))


LIFTS = by_name(
    promotion_in_float64,
    roots_in_float64,
    norms_in_float64,
    angles_in_float64,
    softmax_in_float64,
)


def lifted(*, without: str | None = None) -> AbstractContextManager[None]:
    """Lift everything, or everything but one, around making and running a model."""
    return all_but(without, LIFTS)
