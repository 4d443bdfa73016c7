"""Pictures and prompts to the three arrays that the model takes.

One row is  <image> × n · <bos> · prompt · newline: n soft tokens a picture (256 at
224 pixels), then the text. The newline closes the prompt and is a token even behind an
empty one; behind a prompt that ends in a newline the two are one token. The template
is big_vision's (its PaliGemma README), the calling rules are transformers'
(``models/paligemma/processing_paligemma.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np

from numpy_paligemma.inputs.image import (
    ImageSettings,
    ImageSource,
    load_image,
    pixel_values,
)
from numpy_paligemma.inputs.tokenizer import IMAGE, Tokenizer

Pictures = ImageSource | Sequence[ImageSource] | Sequence[Sequence[ImageSource]]


class Inputs(TypedDict):
    """What the model takes."""

    input_ids: np.ndarray  # int64 (B, T)
    attention_mask: np.ndarray  # int64 (B, T), 0 at the padding
    pixel_values: np.ndarray  # float32 (pictures, 3, S, S), in the order of the rows


@dataclass(frozen=True, slots=True)
class PaliGemmaProcessor:
    """Prepares pictures and prompts for one checkpoint."""

    tokenizer: Tokenizer
    image_settings: ImageSettings
    image_seq_length: int  # n, soft tokens a picture

    def __call__(self, text: str | Sequence[str], images: Pictures) -> Inputs:
        """Lay out a batch of B rows with k pictures in all, padded on the left.

        Parameters
        ----------
        text : one prompt or a list of B
            ``<image>`` may be written where a picture belongs; ``<bos>`` then follows
            the last one. If no prompt has it, the pictures come first.
        images : one picture, a list of pictures, or a list of lists, one a prompt
            Anything that `load_image` takes.

        Returns
        -------
        Inputs
            A dictionary, to be handed on as ``model.generate(**inputs)``.

        Raises
        ------
        ValueError
            Where prompts and pictures do not match, with both counts.
        """
        prompts = [text] if isinstance(text, str) else list(text)
        groups = _groups(images)
        rows = [self._ids(*halves) for halves in _lay_out(prompts, groups)]
        pictures = [load_image(picture) for group in groups for picture in group]
        input_ids, attention_mask = _pad_left(rows, self.tokenizer.pad_token_id)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "pixel_values": pixel_values(pictures, self.image_settings),
        }

    def _ids(self, before: str, after: str) -> np.ndarray:
        """Encode one row and give every picture its room: int64 (T,)."""
        encode, bos = self.tokenizer.encode, self.tokenizer.bos_token_id
        ids = np.array([*encode(before), bos, *encode(after + "\n")], np.int64)
        is_image = ids == self.tokenizer.image_token_id
        return np.repeat(ids, np.where(is_image, self.image_seq_length, 1))


def _groups(images: Pictures) -> list[list[ImageSource]]:
    """Bring one picture, a list, or a list of lists to a list of lists."""
    if not isinstance(images, list | tuple):
        return [[cast("ImageSource", images)]]
    return [list(x) if isinstance(x, list | tuple) else [x] for x in images]


def _lay_out(
    prompts: Sequence[str], groups: Sequence[Sequence[ImageSource]]
) -> list[tuple[str, str]]:
    """Write the ``<image>`` words and cut every row where ``<bos>`` goes."""
    if not prompts:
        message = "expected at least one prompt, came an empty list; pass text=['...']"
        raise ValueError(message)
    if any(IMAGE in prompt for prompt in prompts):
        _require_a_picture_a_word(prompts, groups)
        ends = [prompt.rfind(IMAGE) + len(IMAGE) for prompt in prompts]
        return [(p[:end], p[end:]) for p, end in zip(prompts, ends, strict=True)]
    if len(groups) != len(prompts) or not all(groups):
        message = (
            f"expected a picture, or a list of pictures, for each of {len(prompts)} "
            f"prompts, came {[len(group) for group in groups]}; several pictures to one "
            "prompt go in a list of their own: images=[[a, b]]"
        )
        raise ValueError(message)
    return [(IMAGE * len(g), p) for p, g in zip(prompts, groups, strict=True)]


def _require_a_picture_a_word(
    prompts: Sequence[str], groups: Sequence[Sequence[ImageSource]]
) -> None:
    """Refuse prompts whose ``<image>`` words and pictures differ in number.

    A flat list is dealt out in order, as transformers does. A prompt without the word
    in a batch where others have it is refused: transformers puts its ``<bos>`` six
    letters in.
    """
    words = [prompt.count(IMAGE) for prompt in prompts]
    given = [len(group) for group in groups]
    dealt_out = set(given) == {1} and sum(words) == len(given)
    if not all(words) or not (words == given or dealt_out):
        message = (
            f"expected a picture for every <image> and an <image> in every prompt: the "
            f"prompts have {words} of them, the pictures are {given}; write <image> "
            "once a picture, or leave it out everywhere"
        )
        raise ValueError(message)


def _pad_left(rows: Sequence[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows, flush right: ids and mask, both int64 (B, T)."""
    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)  # (B, T)
    mask = np.zeros_like(ids)  # (B, T)
    for row, ids_out, mask_out in zip(rows, ids, mask, strict=True):
        ids_out[-len(row) :] = row
        mask_out[-len(row) :] = 1
    return ids, mask
