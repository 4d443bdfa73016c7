"""A strict stand-in for a CuPy array: NumPy's protocols, and nothing silent.

It answers NEP 13 (ufuncs), NEP 18 (functions) and NEP 35 (``like=``) as CuPy does, with
the functions and parameters that CuPy has. It refuses what CuPy refuses, arithmetic with
a host array and turning into one unasked; and more that CuPy would let pass slowly or by
luck: turning into a Python number, NumPy scalars of another dtype than the array's, masks
as indices (their count must be fetched), and functions that nobody has looked up. It
counts what goes to the device and what comes back, and what nobody has written is NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# CuPy 14.2; `test_device.py` reads the same off CuPy itself where it is installed
IN_CUPY: dict[Callable[..., Any], tuple[str, ...]] = {
    np.arange: ("start", "stop", "step", "dtype"),
    np.asarray: ("a", "dtype", "order"),
    np.concatenate: ("tup", "axis", "out"),
    np.copyto: ("dst", "src", "casting", "where"),
    np.cumsum: ("a", "axis", "dtype", "out"),
    np.empty: ("shape", "dtype", "order"),
    np.max: ("a", "axis", "out", "keepdims"),
    np.mean: ("a", "axis", "dtype", "out", "keepdims"),
    np.split: ("ary", "indices_or_sections", "axis"),
    np.sum: ("a", "axis", "dtype", "out", "keepdims"),
    np.swapaxes: ("a", "axis1", "axis2"),
    np.where: ("condition", "x", "y"),
}
UFUNCS = {
    *{np.add, np.subtract, np.multiply, np.divide, np.negative, np.power, np.square},
    *{np.sqrt, np.exp, np.tanh, np.cos, np.sin, np.matmul, np.equal, np.not_equal},
    *{np.left_shift, np.bitwise_and},
}
Shape = tuple[int, ...]


class Traffic:
    """The shapes of what went to the device and of what came back, in order."""

    def __init__(self) -> None:
        self.sent: list[Shape] = []
        self.fetched: list[Shape] = []


_watching: list[Traffic] = []


@contextmanager
def watched() -> Iterator[Traffic]:
    """Count every transfer in this block."""
    traffic = Traffic()
    _watching.append(traffic)
    yield traffic
    _watching.remove(traffic)


class DeviceArray(NDArrayOperatorsMixin):
    """An array that lives elsewhere."""

    __slots__ = ("_hidden",)
    __iter__ = None

    def __init__(self, host: np.ndarray) -> None:
        for traffic in _watching:
            traffic.sent.append(np.shape(host))
        self._hidden = np.array(host)

    def get(self) -> np.ndarray:
        """Copy to the host, the one way back."""
        for traffic in _watching:
            traffic.fetched.append(self.shape)
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
    ) -> Any:
        if any(getattr(x, "__array_ufunc__", self) is None for x in inputs):
            return NotImplemented
        if ufunc not in UFUNCS or method != "__call__" or kwargs.keys() - {"out"}:
            msg = f"{ufunc.__name__} {method} {kwargs}: not looked up in CuPy"
            raise TypeError(msg)
        dtypes = {x.dtype for x in inputs if isinstance(x, DeviceArray)}
        same = [x.item() if _is_scalar_of(x, dtypes) else x for x in inputs]
        found = ufunc(*_unwrap(same), **_unwrap(kwargs))
        return kwargs["out"][0] if "out" in kwargs else _wrap(found)

    def __array_function__(
        self, func: Callable[..., Any], _: object, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        known = IN_CUPY.get(func, ())
        if len(args) > len(known) or kwargs.keys() - set(known[len(args) :]):
            msg = f"{func.__name__} {tuple(kwargs)}: not looked up in CuPy"
            raise TypeError(msg)
        if func is np.asarray:
            return _asarray(*args, **kwargs)
        found = func(*_unwrap(args), **_unwrap(kwargs))
        if func is np.empty:
            found.view(np.uint8).fill(0xFF)  # NaN, or -1
        return None if found is None else _wrap(found)

    def __getitem__(self, key: Any) -> "DeviceArray":
        return _wrap(self._hidden[_index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._hidden[_index(key)] = _unwrap(value)

    def __len__(self) -> int:
        return len(self._hidden)

    @property
    def size(self) -> int:
        """Count the numbers."""
        return self._hidden.size

    @property
    def shape(self) -> Shape:
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
    def nbytes(self) -> int:
        """Bytes."""
        return self._hidden.nbytes

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

    def view(self, dtype: type[np.generic]) -> Self:
        """Read the bits as other numbers."""
        return _wrap(self._hidden.view(dtype))

    def copy(self) -> Self:
        """Copy on the device."""
        return _wrap(self._hidden.copy())


def _asarray(a: Any, dtype: Any = None) -> DeviceArray:
    """Send a host array; one that is there stays, or is converted there."""
    if isinstance(a, DeviceArray):
        return _wrap(a._hidden.astype(dtype or a.dtype, copy=False))
    return DeviceArray(np.asarray(a, dtype))


def _is_scalar_of(x: Any, dtypes: set[np.dtype[Any]]) -> bool:
    """Say whether `x` is a NumPy scalar of the only dtype there is."""
    return isinstance(x, np.generic) and {x.dtype} == dtypes


def _index(key: Any) -> Any:
    """Look inside an index; host integers are sent, as CuPy does."""
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    if isinstance(key, np.ndarray | list):
        key = DeviceArray(np.asarray(key))
    if isinstance(key, DeviceArray):
        if key.dtype == bool:
            msg = "a mask as an index: how many it picks would have to be fetched"
            raise TypeError(msg)
        return key._hidden
    return key


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


def fake_cupy(free: int = 1 << 30, devices: int = 1) -> ModuleType:
    """Make a module that stands in for CuPy in all that `arrays/device.py` asks of it."""
    cupy = ModuleType("cupy")
    cupy.asarray = _asarray
    cupy.ones = lambda shape, dtype: DeviceArray(np.ones(shape, dtype))
    cupy.cuda = ModuleType("cupy.cuda")
    cupy.cuda.runtime = ModuleType("cupy.cuda.runtime")
    cupy.cuda.runtime.getDeviceCount = lambda: devices
    cupy.cuda.runtime.memGetInfo = lambda: (free, free)
    return cupy
