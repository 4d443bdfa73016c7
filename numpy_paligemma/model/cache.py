"""The one thing that changes in place: keys and values of the tokens so far."""

from __future__ import annotations

import numpy as np


class LayerCache:
    """Room for one layer's keys and values, filled from the left.

    Parameters
    ----------
    keys, values : float array, (B, K, S_max, H)
        Preallocated; their contents beyond `length` mean nothing.
    """

    __slots__ = ("keys", "length", "values")

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    @classmethod
    def empty(
        cls, batch: int, kv_heads: int, room: int, head_dim: int, like: np.ndarray
    ) -> LayerCache:
        """Make room for `room` positions, of the dtype and on the device of `like`."""
        shape = (batch, kv_heads, room, head_dim)
        return cls(
            np.empty(shape, like.dtype, like=like),
            np.empty(shape, like.dtype, like=like),
        )

    def extend(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write T new positions behind the old ones, and return views of all so far.

        k, v (B, K, T, H) -> keys, values (B, K, S, H), S = the old length + T;
        ValueError if there is no room for T more.
        """
        start, end = self.length, self.length + k.shape[2]
        if end > self.keys.shape[2]:
            left = self.keys.shape[2] - start
            msg = (
                f"the cache has room for {left} positions, but {end - start} are needed"
            )
            raise ValueError(msg)
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]
