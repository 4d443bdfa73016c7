"""From arrays to tokens: look, prefill, draw, decode, over and over.

Each forward pass holds BLAS to one thread, since the products of `arrays` and the
leaves of `model` use the cores themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.device import device_errors, to_host
from numpy_paligemma.arrays.threads import one_blas_thread
from numpy_paligemma.checkpoints.finite import check_logits
from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.parallel import cut
from numpy_paligemma.model.pipeline import (
    PaliGemmaWeights,
    decode_step,
    empty_caches,
    encode_images,
    prefill,
)
from numpy_paligemma.model.sampling import sample_token
from numpy_paligemma.model.tap import Tap

Draw = Callable[[np.ndarray], np.ndarray]  # logits (B, V) -> ids (B,)


def look(
    pixels: np.ndarray,
    at_once: int,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    tap: Tap,
) -> np.ndarray:
    """Encode pictures, `at_once` at a time: (pictures, P, D)."""
    with one_blas_thread(), device_errors():
        parts = [
            encode_images(pixels[some], w, c, tap=tap)
            for some in cut(len(pixels), at_once)
        ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def write_tokens(
    ids: np.ndarray,
    soft: np.ndarray,
    seen: np.ndarray,
    left: int,
    at_once: int,
    draw: Draw,
    ends: int | Sequence[int],
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    tap: Tap,
) -> Iterator[np.ndarray]:
    """Prefill, then draw and decode in turn, until `left` is used up or all ended.

    Parameters
    ----------
    ids, seen : integer array, (B, T)
        Prompts and their attention mask.
    soft : float array, (pictures, P, D)
    left : int
        How many tokens may be written, 1 or more.
    at_once : int
        How many rows the prefill reads at a time.
    draw : callable
    ends : int or several
        Tokens behind which a row gets the pad id.
    w, c : the model's numbers and sizes
    tap : Tap

    Yields
    ------
    int64 array, (B,)
    """
    batch, length = ids.shape
    caches = empty_caches(batch, length + left - 1, w, c)
    # the whole answer's mask goes to the weights' place once, a step takes its part
    seen = np.pad(seen, ((0, 0), (0, left - 1)), constant_values=1)
    seen = np.asarray(seen, like=w.decoder.final_norm)
    done = np.zeros(batch, bool)
    logits = _prefill_in_parts(ids, soft, seen[:, :length], at_once, w, c, caches, tap)
    while True:
        ids = np.where(done, c.pad_token_id, draw(logits))
        yield ids
        done |= np.isin(ids, ends)
        left -= 1
        if done.all() or not left:
            return
        length += 1
        with one_blas_thread(), device_errors():
            logits = decode_step(ids, seen[:, :length], w, c, caches, tap=tap)


def _prefill_in_parts(
    ids: np.ndarray,
    soft: np.ndarray,
    seen: np.ndarray,
    at_once: int,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    caches: Sequence[LayerCache],
    tap: Tap,
) -> np.ndarray:
    """Prefill `at_once` rows at a time: the logits and caches of all, (B, V)."""
    soft = soft.reshape(1, -1, soft.shape[-1])  # `fuse` takes them one by one
    ends = np.cumsum((ids == c.image_token_id).sum(axis=1))  # (B,)
    starts = np.append(0, ends)
    parts = []
    for rows in cut(len(ids), at_once):
        own = [LayerCache(cache.keys[rows], cache.values[rows]) for cache in caches]
        some = soft[:, starts[rows.start] : starts[rows.stop]]
        with one_blas_thread(), device_errors():
            parts.append(prefill(ids[rows], some, seen[rows], w, c, own, tap=tap))
    for cache in caches:
        cache.length = ids.shape[1]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def drawer(
    batch: int,
    temperature: float,
    top_p: float,
    seed: int | None,
    folder: Path | None,
) -> Draw:
    """Make the function that draws one token a row, each row from its own generator.

    Raises
    ------
    ValueError
        From that function: if the logits are not finite, with the tensor of `folder`
        that is to blame.
    """
    seeds = [None if seed is None else [seed, row] for row in range(batch)]
    rngs = [np.random.default_rng(s) for s in seeds]

    def draw(logits: np.ndarray) -> np.ndarray:
        host = to_host(logits)  # (B, V)
        check_logits(host, folder)
        pairs = zip(host, rngs, strict=True)
        return np.array(
            [sample_token(x, g, temperature=temperature, top_p=top_p) for x, g in pairs]
        )

    return draw
