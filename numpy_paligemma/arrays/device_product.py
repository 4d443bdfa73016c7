"""The product of a held matrix on a device: in blocks of rows, and without threads.

A device shares its work out itself, and memory is what it has little of. So the matrix
stays as it is held, and as many rows become float32 at a time as 128 MB hold: most
matrices of a 3B at once, its embedding, which would be 2.1 GB, in 16 blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from numpy_paligemma.model.parallel import cut

if TYPE_CHECKING:
    from numpy_paligemma.arrays.formats import Format

BLOCK_NUMBERS = 1 << 25  # widened at a time


def device_product(
    x: np.ndarray, numbers: np.ndarray, form: Format, out: np.ndarray
) -> None:
    """Multiply: float32 x (M, in), numbers (N, in) -> out (M, N), all in one place.

    By NumPy's protocols alone, so that an ndarray does as well.
    """
    if numbers.dtype == np.float32:  # nothing to widen
        np.matmul(x, numbers.T, out=out)
        return
    out_width, in_width = numbers.shape
    step = max(1, min(out_width, BLOCK_NUMBERS // in_width))
    room = np.empty((step, in_width), np.float32, like=numbers)
    for rows in cut(out_width, step):
        held = numbers[rows]
        wide = form.widen(held, room[: len(held)])
        np.matmul(x, wide.T, out=out[:, rows])
