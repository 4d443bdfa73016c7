"""Whether a model fits into the memory that is there, and what would fit instead.

Refused is only what cannot work: where the process's own arrays are more than memory
and swap together, the system would end it without a word. A mapped file that is larger
than the memory works, slowly, and is warned of.
"""

import logging
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Literal

from numpy_paligemma.arrays.memory import Memory, memory_here
from numpy_paligemma.checkpoints.about.bill import (
    Bill,
    Stored,
    activation_bytes,
    cache_bytes,
    logits_bytes,
    memory_bills,
    rows_that_fit,
    usual_tokens,
)
from numpy_paligemma.checkpoints.tensor import Tensor
from numpy_paligemma.checkpoints.units import size_text
from numpy_paligemma.model.config import PaliGemmaConfig

log = logging.getLogger(__name__)
Fit = Literal["yes", "slow", "no"]
UNASKED = 100_000_000  # bytes for which nobody asks what memory there is: 1 ms
SMALLEST_PICTURE = 224  # pixels a side, of the published ones


def fit_of(bill: Bill, here: Memory) -> Fit:
    """Say whether a bill fits: "slow" where it does with swapping or reading again."""
    if bill.needed > here.most:
        return "no"
    return "yes" if bill.needed + bill.mapped <= here.free else "slow"


def require_room_to_load(
    place: Path,
    c: PaliGemmaConfig,
    dtype: str,
    tensors: Mapping[str, Tensor],
    changed: Container[str] = (),
    *,
    tied: bool,
) -> None:
    """Stop before the weights are read where they cannot fit; warn where it is slow.

    Counted for one picture with a short prompt and its answer.

    Parameters
    ----------
    place : Path
        As the message calls the model.
    c : PaliGemmaConfig
    dtype : one of `numpy_paligemma.arrays.hold.HELD_DTYPES`
    tensors : mapping of published name to Tensor
    changed : container of names
        What an adapter changes, and so is held as a copy.
    tied : bool
        Whether the head is the embedding.

    Raises
    ------
    MemoryError
        With what is needed, what is there, and the ways out.
    """

    def stored(name: str) -> Stored:
        tensor = tensors[name]
        return Stored(tensor.dtype, tensor.mapped, name in changed)

    here = memory_here()
    bills = memory_bills(c, usual_tokens(c), stored=stored, tied=tied)
    bill = bills[dtype]
    fit = fit_of(bill, here)
    if fit == "yes":
        return
    needs = f"{place} held as {dtype} needs {_parts(bill)}, but {_there(here)}"
    ways = _ways_out(c, dtype, bills, here)
    if fit == "no":
        msg = f"{needs}; {ways}"
        raise MemoryError(msg)
    if bill.needed > here.free:
        log.warning("warning: %s, so that it will be slow; %s", needs, ways)
        return
    log.warning(
        "warning: %s of weights stay in the file, but %s for them: what does not fit is "
        "read from the disk again for every token; %s",
        *(size_text(bill.mapped), _there(here, bill.needed), ways),
    )


def rows_at_once(
    c: PaliGemmaConfig,
    rows: int,
    tokens: int,
    dtype: str,
    mapped: int = 0,
    least: int = 1,
) -> int:
    """Say how many rows to read at once, and stop where not even one can be.

    The cache is there for all rows. What a mapped file's pages may take is left to
    them: smaller pieces cost little, reading the weights again costs much.

    Parameters
    ----------
    c : PaliGemmaConfig
    rows, tokens : int
        The batch, and the positions of its longest row, the answer included.
    dtype : str
        Of the arithmetic, or as matrices are held.
    mapped : int
        Bytes of weights that are a file's own pages.
    least : int
        How many rows must be read at once.

    Returns
    -------
    int, `least` to `rows`

    Raises
    ------
    MemoryError
        With what is needed, what is there, and the ways out.
    """
    cache = cache_bytes(c, tokens, dtype, rows)
    work = activation_bytes(c, tokens, dtype, least)
    if cache + activation_bytes(c, tokens, dtype, rows) < UNASKED:
        return rows
    here = memory_here()
    parts = {"cache": cache, "activations": work}
    _require(parts, rows, tokens, here, "max_new_tokens")
    left = here.free - cache - mapped
    return max(least, min(rows, rows_that_fit(c, tokens, dtype, left)))


def require_room_everywhere(
    c: PaliGemmaConfig, rows: int, tokens: int, pictures: int, dtype: str
) -> None:
    """Stop where the logits of every position cannot be worked out in one pass.

    Arguments as `rows_at_once`; `pictures` are those of all rows.

    Raises
    ------
    MemoryError
        With what is needed, what is there, and the ways out.
    """
    logits = logits_bytes(c, tokens, dtype, rows)
    work = activation_bytes(c, tokens, dtype, max(rows, pictures))
    if logits + work >= UNASKED:
        parts = {"logits": logits, "activations": work}
        _require(parts, rows, tokens, memory_here(), "the prompt's length")


def _require(
    parts: Mapping[str, int], rows: int, tokens: int, here: Memory, length: str
) -> None:
    """Raise if the parts are more than the memory that is there; `length` may fall."""
    needed = sum(parts.values())
    if needed > here.most:
        told = ", ".join(f"{part} {size_text(size)}" for part, size in parts.items())
        msg = (
            f"{rows} {'rows' if rows > 1 else 'row'} of {tokens:,} positions need "
            f"{size_text(needed)} of memory ({told}), but {_there(here)}; "
        )
        less = "ask fewer rows at once, or lower" if rows > 1 else "lower"
        raise MemoryError(msg + f"{less} {length}, or close other programs")


def _parts(bill: Bill) -> str:
    """Say what is needed, part by part."""
    parts = f"weights {size_text(bill.weights - bill.mapped)}, "
    parts += f"cache {size_text(bill.cache)}, activations {size_text(bill.activations)}"
    if bill.load_own > bill.total - bill.mapped:
        parts += f"; {size_text(bill.load_own)} while loading"
    return f"{size_text(bill.needed)} of memory ({parts})"


def _there(here: Memory, taken: int = 0) -> str:
    """Say what is there, swap told apart."""
    free = size_text(max(0, here.free - taken))
    if here.most > here.free and not taken:
        free += f" and {size_text(here.most - here.free)} of swap"
    return f"{here.whose} has {free} free"


def _ways_out(
    c: PaliGemmaConfig, asked: str, bills: Mapping[str, Bill], here: Memory
) -> str:
    """Name what would fit, or at least run, and what always helps."""
    fits = {d: fit_of(bill, here) for d, bill in bills.items() if d != asked}
    fit, slowly = ("yes", "") if "yes" in fits.values() else ("slow", ", slowly")
    best: dict[int, str] = {}  # by size; of equally large ones the one mapped
    for dtype in sorted(fits, key=lambda d: (-bills[d].total, bills[d].needed)):
        if fits[dtype] == fit:
            best.setdefault(bills[dtype].total, dtype)
    ways = [f"--dtype {d} ({size_text(size)}{slowly})" for size, d in best.items()][:2]
    if c.vision.image_size > SMALLEST_PICTURE:
        ways.append("a checkpoint for smaller pictures")
    use = f"use {', or '.join(ways)}, or " if ways else ""
    return use + "close other programs"
