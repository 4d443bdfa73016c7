"""What a user holds: a loaded model, and all that can be asked of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from numpy_paligemma.arrays.device import device_errors
from numpy_paligemma.arrays.memory import is_mapped
from numpy_paligemma.arrays.threads import one_blas_thread
from numpy_paligemma.checkpoints.about.room import (
    require_room_everywhere,
    rows_at_once,
)
from numpy_paligemma.checkpoints.about.sizes import count_parameters
from numpy_paligemma.checkpoints.finite import check_soft_tokens_finite
from numpy_paligemma.checkpoints.lora.merge import Change
from numpy_paligemma.decoding import Draw, drawer, look, write_tokens
from numpy_paligemma.inputs.checks import (
    check_arrays,
    check_ends,
    check_options,
    check_padding,
    check_pictures,
    check_soft_tokens,
)
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.pipeline import PaliGemmaWeights, logits_everywhere
from numpy_paligemma.model.tap import Tap, no_tap

PIXEL_AXES = 4  # (pictures, 3, height, width); soft tokens have three


class Options(TypedDict, total=False):
    """How to generate; the defaults are those of `PaliGemma.stream`."""

    max_new_tokens: int
    temperature: float
    top_p: float
    do_sample: bool
    eos_token_id: int | Sequence[int] | None
    seed: int | None
    soft_tokens: np.ndarray | None
    tap: Tap


@dataclass(frozen=True, slots=True)
class PaliGemma:
    """A loaded model: sizes and weights, and what can be asked of them."""

    config: PaliGemmaConfig
    weights: PaliGemmaWeights
    changes: tuple[Change, ...] = ()  # what an adapter did, matrix by matrix
    source: Path | None = None  # where the weights came from, to name a broken one

    def logits(
        self,
        input_ids: np.ndarray,
        pixel_values: np.ndarray,
        attention_mask: np.ndarray,
        token_type_ids: np.ndarray | None = None,
        tap: Tap = no_tap,
    ) -> np.ndarray:
        """Work out the logits of every position, without a cache.

        What comparisons use. transformers makes everything causal, the picture too,
        where it is not given `token_type_ids`; here None means what generation does:
        all is prefix, and sees all.

        Parameters
        ----------
        input_ids, attention_mask : integer array, (B, T)
            The mask is 0 for padding.
        pixel_values : float array, (pictures, 3, height, width)
        token_type_ids : integer array, (B, T), optional
            0 for prefix, 1 for answer (causal).
        tap : Tap
            Sees every intermediate by name.

        Returns
        -------
        float array, (B, T, V)

        Raises
        ------
        MemoryError
            If logits and activations are more than the memory that is there.
        """
        check_arrays(input_ids, pixel_values, attention_mask, self.config)
        rows, tokens = input_ids.shape
        self._require_room_everywhere(rows, tokens, len(pixel_values))
        with one_blas_thread(), device_errors():
            return logits_everywhere(
                input_ids,
                self._pixels(pixel_values),
                attention_mask,
                token_type_ids,
                self.weights,
                self.config,
                tap=tap,
            )

    def look(self, pixel_values: np.ndarray, tap: Tap = no_tap) -> np.ndarray:
        """Look at pictures once, to ask many things about them.

        Parameters
        ----------
        pixel_values : float array, (pictures, 3, height, width)
        tap : Tap
            With one, all pictures are looked at at once, whatever memory is free.

        Returns
        -------
        float array, (pictures, P, D)
            What `stream` and `generate` take as `soft_tokens`: one entry a picture, in
            the order of the rows, such as ``soft[[0, 0, 0]]`` for three prompts.
        """
        check_pictures(pixel_values, self.config)
        pixels, c = self._pixels(pixel_values), self.config
        at_once = self._rows_at_once(len(pixels), c.vision.patches, tap)
        return look(pixels, at_once, self.weights, c, tap)

    def generate(
        self,
        input_ids: np.ndarray,
        pixel_values: np.ndarray,
        attention_mask: np.ndarray,
        **options: Unpack[Options],
    ) -> np.ndarray:
        """Write answers: the new tokens alone, (B, new).

        Arguments as `stream`. Rows that end early are filled with the pad id; the end
        token itself is included. (transformers returns the prompt in front.)
        """
        rows = list(self.stream(input_ids, pixel_values, attention_mask, **options))
        batch = len(input_ids)
        return np.array(rows, np.int64).reshape(-1, batch).T

    def stream(
        self,
        input_ids: np.ndarray,
        pixel_values: np.ndarray,
        attention_mask: np.ndarray,
        max_new_tokens: int = 100,
        temperature: float = 0.8,
        top_p: float = 0.9,
        do_sample: bool = True,
        eos_token_id: int | Sequence[int] | None = None,
        seed: int | None = None,
        soft_tokens: np.ndarray | None = None,
        tap: Tap = no_tap,
    ) -> Iterator[np.ndarray]:
        """Write answers, token by token.

        Parameters
        ----------
        input_ids, attention_mask : integer array, (B, T)
            Padded on the left, where the mask is 0.
        pixel_values : float array, (pictures, 3, height, width)
        max_new_tokens : int
        temperature, top_p : float
            See `numpy_paligemma.model.sampling.sample_token`.
        do_sample : bool
            False takes the likeliest token each time (greedy).
        eos_token_id : int or several, optional
            Where a row ends; by default the checkpoint's.
        seed : int, optional
            The same seed gives the same answers; row r draws from [seed, r], so that
            its answer does not depend on the rows beside it.
        soft_tokens : float array, (pictures, P, D), optional
            What `look` made of these rows' pictures; they are not looked at again.
        tap : Tap
            Sees every intermediate by name. With one, all rows are read at once, so
            that what it sees does not depend on the memory that is free.

        Yields
        ------
        int64 array, (B,)
            One token a row; the pad id for rows that have ended.

        Raises
        ------
        MemoryError
            If cache and activations are more than the memory that is there.
        ValueError
            If an option is out of range, prompt and pictures do not fit, or the
            weights hold what no answer can be drawn from; then before the first token.
        """
        check_options(max_new_tokens, temperature, top_p)
        check_arrays(input_ids, pixel_values, attention_mask, self.config)
        check_padding(attention_mask)
        ends = self.config.eos_token_ids if eos_token_id is None else eos_token_id
        check_ends(ends)
        heat = temperature if do_sample else 0
        draw = drawer(len(input_ids), heat, top_p, seed, self.source)
        if soft_tokens is not None:
            check_soft_tokens(soft_tokens, len(pixel_values), self.config)
            check_soft_tokens_finite(soft_tokens, self.source)
        at_once = self._rows_at_once(
            len(input_ids), input_ids.shape[1] + max_new_tokens, tap
        )
        pictures = pixel_values if soft_tokens is None else soft_tokens
        asked = (input_ids, pictures, attention_mask, max_new_tokens)
        return self._steps(*asked, at_once, draw, ends, tap)

    def _steps(
        self,
        ids: np.ndarray,
        pictures: np.ndarray,
        seen: np.ndarray,
        left: int,
        at_once: int,
        draw: Draw,
        ends: int | Sequence[int],
        tap: Tap,
    ) -> Iterator[np.ndarray]:
        """Look at `pictures`, unless they are soft tokens already, and write."""
        c, w = self.config, self.weights
        if not left:
            return
        if pictures.ndim == PIXEL_AXES:
            pictures = look(self._pixels(pictures), at_once, w, c, tap)
        yield from write_tokens(
            ids, pictures, seen, left, at_once, draw, ends, w, c, tap
        )

    def _rows_at_once(self, rows: int, tokens: int, tap: Tap) -> int:
        """Say how many rows fit into the memory that is there; on a GPU, all."""
        like = self.weights.decoder.final_norm
        if not rows or not isinstance(like, np.ndarray):
            return max(1, rows)
        least, dtype = 1 if tap is no_tap else rows, str(like.dtype)
        mapped = self._mapped_bytes()
        return rows_at_once(self.config, rows, tokens, dtype, mapped, least)

    def _require_room_everywhere(self, rows: int, tokens: int, pictures: int) -> None:
        """Stop where there is too little memory for all logits; on a GPU, never."""
        like = self.weights.decoder.final_norm
        if isinstance(like, np.ndarray):
            require_room_everywhere(
                self.config, rows, tokens, pictures, str(like.dtype)
            )

    def _mapped_bytes(self) -> int:
        """Count the bytes of matrices that are the file's own pages, by the largest."""
        embed = self.weights.decoder.embed
        numbers: Any = getattr(embed, "numbers", embed)
        if not is_mapped(numbers):
            return 0
        return numbers.itemsize * count_parameters(self.config).matrices

    def _pixels(self, pixel_values: np.ndarray) -> np.ndarray:
        """Bring pixels to the weights' place and dtype."""
        like = self.weights.projector.bias
        return np.asarray(pixel_values, dtype=like.dtype, like=like)
