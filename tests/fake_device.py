"""A strict stand-in for a CuPy array: NumPy's protocols, and nothing silent.

It answers NEP 13 (ufuncs), NEP 18 (functions) and NEP 35 (``like=``) as CuPy does. It
refuses what CuPy refuses, arithmetic with a host array and turning into one unasked;
and two things more, that CuPy would let pass slowly or by luck: NumPy scalars, and
functions that nobody has looked up in CuPy.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

CREATING = {np.asarray, np.empty}  # with ``like=``: the way from host to device
IN_CUPY = {
    *{np.concatenate, np.max, np.mean, np.split, np.sum, np.swapaxes, np.where},
    np.copy,
}


class DeviceArray(NDArrayOperatorsMixin):
    """An array that lives elsewhere."""

    __slots__ = ("_hidden",)

    def __init__(self, host: np.ndarray) -> None:
        self._hidden = np.array(host)

    def get(self) -> np.ndarray:
        """Copy to the host, the one way back."""
        return self._hidden.copy()

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        msg = "implicit conversion to a NumPy array; use .get()"
        raise TypeError(msg)

    def __bool__(self) -> bool:
        msg = "implicit conversion to a Python number"
        raise TypeError(msg)

    __float__ = __int__ = __index__ = __bool__

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> "DeviceArray":
        return _wrap(getattr(ufunc, method)(*_unwrap(inputs), **_unwrap(kwargs)))

    def __array_function__(
        self, func: Callable[..., Any], _: object, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if func in CREATING:
            held = [a._hidden if isinstance(a, DeviceArray) else a for a in args]
            return DeviceArray(func(*held, **kwargs))
        if func not in IN_CUPY:
            msg = f"{func.__name__}: not on the list of what CuPy dispatches"
            raise TypeError(msg)
        return _wrap(func(*_unwrap(args), **_unwrap(kwargs)))

    def __getitem__(self, key: Any) -> "DeviceArray":
        return _wrap(self._hidden[key])  # host integers may index, as in CuPy

    def __setitem__(self, key: Any, value: Any) -> None:
        self._hidden[key] = _unwrap(value)

    def __len__(self) -> int:
        return len(self._hidden)

    @property
    def size(self) -> int:
        """Count the numbers."""
        return self._hidden.size

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return self._hidden.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._hidden.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of number; NumPy's own, as in CuPy."""
        return self._hidden.dtype

    @property
    def T(self) -> Self:
        """The transpose, a view."""
        return _wrap(self._hidden.T)

    def reshape(self, *shape: int) -> Self:
        """Give other sizes."""
        return _wrap(self._hidden.reshape(*shape))

    def transpose(self, *axes: int) -> Self:
        """Permute the axes, as a view."""
        return _wrap(self._hidden.transpose(*axes))

    def copy(self) -> Self:
        """Copy on the device."""
        return _wrap(self._hidden.copy())


def _wrap(x: Any) -> Any:
    """Keep a result on the device, without a copy: views stay views."""
    if isinstance(x, Sequence):
        return [_wrap(part) for part in x]
    out = DeviceArray.__new__(DeviceArray)
    out._hidden = np.asanyarray(x)
    return out


def _unwrap(x: Any) -> Any:
    """Look inside device arrays wherever they stand; host arrays may not stand there."""
    if isinstance(x, DeviceArray):
        return x._hidden
    if isinstance(x, np.ndarray | np.generic):
        msg = f"unsupported type {type(x).__name__}: host and device do not mix"
        raise TypeError(msg)
    if isinstance(x, tuple | list):
        return type(x)(_unwrap(part) for part in x)
    return {k: _unwrap(v) for k, v in x.items()} if isinstance(x, dict) else x
