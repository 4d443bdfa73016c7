"""The leaves: six functions of arrays that every block is made of."""

import math
from typing import NamedTuple, Protocol

import numpy as np

from numpy_paligemma.model.parallel import over_rows

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715  # Hendrycks and Gimpel (2016), section 2: their fit to erf


class Transposed(Protocol):
    """The right-hand side of ``x @ w.T`` for a weight that is not an ndarray."""

    def __rmatmul__(self, x: np.ndarray, /) -> np.ndarray:
        """Multiply: (..., in) -> (..., out), of `x`'s dtype."""


class StoredMatrix(Protocol):
    """A weight (out, in) kept in another form than the one it is multiplied in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, (out, in)."""

    @property
    def T(self) -> Transposed:
        """The transpose, to stand on the right of ``@``."""

    def __getitem__(self, ids: np.ndarray, /) -> np.ndarray:
        """Pick rows: ids (...) -> (..., in)."""


Matrix = np.ndarray | StoredMatrix


class Affine(NamedTuple):
    """A matrix (out, in) and its bias (out,)."""

    weight: Matrix
    bias: np.ndarray


class Norm(NamedTuple):
    """A LayerNorm's gain and bias, each (D,)."""

    weight: np.ndarray
    bias: np.ndarray


def linear(x: np.ndarray, w: Matrix, bias: np.ndarray | None = None) -> np.ndarray:
    """Map every vector: (..., in) -> (..., out) by ``x @ w.T + bias``, w (out, in)."""
    y = x @ w.T
    return y if bias is None else np.add(y, bias, out=y)


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> np.ndarray:
    """Centre every vector, scale it to unit variance, then by a learned gain and bias.

        (x - mean(x)) / √(mean((x - mean(x))²) + eps) · weight + bias

    Parameters
    ----------
    x : float array, (..., D)
    weight, bias : float array, (D,)
    eps : float
        Inside the root; 1e-6 in SigLIP, where PyTorch's own default is 1e-5.

    References
    ----------
    Ba, Kiros and Hinton (2016), https://arxiv.org/abs/1607.06450, equation 4. The
    variance is the biased one: divided by D, not by D - 1.
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(np.square(centred), axis=-1, keepdims=True)  # (..., 1)
    return centred / np.sqrt(variance + eps) * weight + bias


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """Scale every vector to unit root mean square, then by a learned gain.

        x / √(mean(x²) + eps) · (1 + weight)

    Parameters
    ----------
    x : float array, (..., D)
    weight : float array, (D,)
        Gemma stores the gain's distance from one: zeros leave `x` unit-sized.
    eps : float
        Inside the root; keeps a zero vector at zero.

    References
    ----------
    Zhang and Sennrich (2019), https://arxiv.org/abs/1910.07467, equation 4; the
    ``1 +`` is Gemma's (big_vision/models/ppp/gemma.py, class RMSNorm).
    """
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True)  # (..., 1)
    return x / np.sqrt(mean_square + eps) * (1 + weight)


def gelu(x: np.ndarray) -> np.ndarray:
    """Let positive numbers pass and damp negative ones, by the tanh approximation.

        x/2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))

    Both SigLIP and Gemma were trained with this form; the exact one, with erf, is off
    by up to 5e-4, which is small enough to be overlooked and large enough to matter.

    References
    ----------
    Hendrycks and Gimpel (2016), https://arxiv.org/abs/1606.08415, section 2.
    """
    return over_rows(_gelu_into, x)


def _gelu_into(x: np.ndarray, out: np.ndarray) -> None:
    """Work `gelu` out in place, its root and cubic term multiplied together first."""
    np.multiply(x, x, out=out)
    out *= SQRT_2_OVER_PI * GELU_CUBIC
    out += SQRT_2_OVER_PI
    out *= x  # √(2/π) · (x + 0.044715 · x³)
    np.tanh(out, out=out)
    out += 1
    out *= x
    out *= 0.5


def soft_cap(x: np.ndarray, cap: float | None) -> np.ndarray:
    """Bend numbers to lie between minus and plus `cap`; None leaves them alone.

        cap · tanh(x / cap)

    Small numbers hardly change: the slope at nought is one.

    References
    ----------
    Gemma Team (2024), https://arxiv.org/abs/2408.00118, section 2.
    """
    return x if cap is None else cap * np.tanh(x / cap)


def softmax(x: np.ndarray) -> np.ndarray:
    """Turn the last axis into probabilities: eˣ / Σ eˣ, with the largest taken off.

    Taking the largest off changes nothing in exact arithmetic and keeps exp finite;
    minus infinity becomes an exact zero.
    """
    return over_rows(_softmax_into, x)


def _softmax_into(x: np.ndarray, out: np.ndarray) -> None:
    """Work `softmax` out in place."""
    np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= np.sum(out, axis=-1, keepdims=True)
