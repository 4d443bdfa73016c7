"""Random PaliGemmas that transformers makes, saves and runs, and that our loader opens.

The widths of a model all differ, so that a transposition fails by its shape; every
parameter is random, norms and biases too, so that a forgotten one shows.
"""

import copy
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.paligemma import PaliGemma

PAD, EOS, BOS, NEWLINE = 0, 1, 2, 3
FIRST_WORD = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a batch: its pictures, its words and the words of its answer."""

    words: int
    answer: int = 0
    pictures: int = 1


@dataclass(frozen=True, slots=True)
class RandomModel:
    """The sizes of a model and of the batch that it is shown."""

    name: str
    picture: tuple[int, int]  # pixels a side of the picture, of a patch
    vision: tuple[int, int, int, int]  # width, heads, layers, MLP width
    text: tuple[int, int, int, int, int, int]  # D, N, K, H, layers, F
    table: tuple[int, int]  # vocabulary, the id of <image>
    rows: tuple[Row, ...]
    more_text: tuple[tuple[str, Any], ...] = ()  # fields of text_config
    more_vision: tuple[tuple[str, Any], ...] = ()

    @property
    def soft_tokens(self) -> int:
        """Patches a picture."""
        return (self.picture[0] // self.picture[1]) ** 2


def gemma_2(
    scalar: int, score_cap: float | None, logit_cap: float | None, window: int | None
) -> tuple[tuple[str, Any], ...]:
    """Name the fields of text_config that make a PaliGemma 2."""
    return (
        ("model_type", "gemma2"),
        ("query_pre_attn_scalar", scalar),
        ("attn_logit_softcapping", score_cap and float(score_cap)),
        ("final_logit_softcapping", logit_cap and float(logit_cap)),
        ("sliding_window", window),
    )


FULL, SLIDING = "full_attention", "sliding_attention"
LATE_WINDOWS = [FULL, SLIDING, SLIDING, FULL]
ROPE_500 = ("rope_parameters", {"rope_type": "default", "rope_theta": 500.0})

# fmt: off
MODELS = (
    RandomModel("one-kv-head", (12, 4), (20, 2, 3, 28), (24, 4, 1, 10, 3, 34),
                (300, 299), (Row(5), Row(3), Row(8, answer=4))),
    RandomModel("two-kv-heads", (12, 6), (18, 3, 2, 26), (13, 4, 2, 6, 3, 22),
                (310, 310), (Row(7, answer=2), Row(2))),
    RandomModel("as-many-kv-heads", (16, 4), (21, 7, 2, 30), (20, 3, 3, 8, 2, 38),
                (290, 17), (Row(6), Row(9, answer=1))),
    RandomModel("three-queries-a-kv-head", (10, 2), (15, 5, 1, 14), (22, 6, 2, 4, 2, 18),
                (305, 304), (Row(4), Row(4), Row(1, answer=5))),
    RandomModel("pixels-no-patch-sees", (15, 4), (27, 3, 3, 32), (28, 2, 1, 12, 2, 20),
                (280, 281), (Row(5, answer=3), Row(11))),
    RandomModel("one-patch", (5, 5), (12, 2, 2, 19), (14, 4, 2, 10, 3, 30),
                (300, 400), (Row(3), Row(6))),
    RandomModel("many-patches", (18, 3), (16, 4, 2, 23), (18, 5, 1, 8, 2, 33),
                (320, 319), (Row(2), Row(13, answer=4))),
    RandomModel("a-batch-of-one", (12, 3), (22, 2, 2, 34), (29, 4, 4, 6, 2, 42),
                (270, 270), (Row(10),)),
    RandomModel("an-answer-alone", (9, 3), (27, 3, 2, 13), (30, 3, 1, 14, 2, 16),
                (296, 100), (Row(1, answer=9),)),
    RandomModel("two-pictures-a-prompt", (8, 4), (10, 2, 2, 17), (12, 6, 3, 6, 2, 25),
                (288, 287), (Row(4, pictures=2), Row(2, answer=3, pictures=2))),
    RandomModel("other-constants", (14, 7), (30, 5, 2, 11), (34, 4, 2, 16, 2, 13),
                (264, 263), (Row(6), Row(3, answer=2), Row(4)),
                (("rms_norm_eps", 1e-5), ROPE_500), (("layer_norm_eps", 1e-4),)),
    RandomModel("wide-heads", (21, 7), (33, 1, 1, 40), (10, 2, 2, 32, 4, 15),
                (350, 351), (Row(12, answer=6), Row(5, answer=1), Row(9))),
    RandomModel("six-and-seven-layers", (6, 3), (9, 3, 6, 16), (17, 3, 1, 6, 7, 29),
                (260, 259), (Row(3), Row(7, answer=2))),
    RandomModel("two-channels", (10, 5), (14, 7, 2, 24), (19, 8, 4, 2, 3, 27),
                (277, 280), (Row(8), Row(5, answer=4)), (), (("num_channels", 2),)),
)

# PaliGemma 2: windows shorter than a prompt, caps that bend, scales that are not 1/√H
GEMMA_2_MODELS = (
    RandomModel("2-one-kv-head", (12, 4), (20, 2, 3, 28), (24, 4, 1, 10, 3, 34),
                (300, 299), (Row(5), Row(3), Row(8, answer=6)), gemma_2(7, 3, 5, 4)),
    RandomModel("2-two-kv-heads", (12, 6), (18, 3, 2, 26), (16, 4, 2, 6, 4, 22),
                (310, 310), (Row(7, answer=5), Row(2)), gemma_2(11, 2.5, 4, 3)),
    RandomModel("2-as-many-kv-heads", (16, 4), (21, 7, 2, 30), (21, 3, 3, 8, 2, 38),
                (290, 17), (Row(6), Row(9, answer=4)), gemma_2(5, 4, 6, 2)),
    RandomModel("2-three-queries-a-kv-head", (10, 2), (15, 5, 1, 14),
                (24, 6, 2, 4, 5, 18), (305, 304), (Row(4), Row(1, answer=9)),
                gemma_2(9, 1.5, 3, 6)),
    RandomModel("2-a-window-of-one", (15, 4), (27, 3, 3, 32), (28, 2, 1, 12, 2, 20),
                (280, 281), (Row(5, answer=7), Row(11)), gemma_2(3, 3, 5, 1)),
    RandomModel("2-a-window-nobody-fills", (8, 4), (10, 2, 2, 17), (12, 6, 3, 6, 2, 25),
                (288, 287), (Row(4, pictures=2), Row(2, answer=3, pictures=2)),
                gemma_2(13, 2, 8, 500)),
    RandomModel("2-no-caps-no-window", (9, 3), (27, 3, 2, 13), (30, 3, 1, 14, 2, 16),
                (296, 100), (Row(1, answer=9),),
                (*gemma_2(20, None, None, None), ("layer_types", [FULL, FULL]))),
    RandomModel("2-windows-out-of-turn", (12, 3), (22, 2, 2, 34), (28, 4, 4, 6, 4, 42),
                (270, 270), (Row(10, answer=6), Row(3)),
                (*gemma_2(8, 3, None, 3), ("layer_types", LATE_WINDOWS))),
    RandomModel("2-other-constants", (14, 7), (30, 5, 2, 11), (36, 4, 2, 16, 3, 13),
                (264, 263), (Row(6), Row(3, answer=5), Row(4)),
                (*gemma_2(17, None, 4, 2), ("rms_norm_eps", 1e-5), ROPE_500),
                (("layer_norm_eps", 1e-4),)),
)
# fmt: on


def transformers_model(model: RandomModel) -> PaliGemmaForConditionalGeneration:
    """Make transformers' own float32 model, every parameter drawn anew."""
    torch.manual_seed(zlib.crc32(model.name.encode()))
    made = PaliGemmaForConditionalGeneration(hf_config(model)).eval()
    made.set_attn_implementation("eager")
    with torch.no_grad():
        for name, p in made.named_parameters():
            draw(name, p)
    return made


def draw(name: str, p: torch.Tensor) -> None:
    """Fill a parameter so that activations keep a size near one."""
    if p.ndim == 1:  # biases, and gains: SigLIP's lie around one, Gemma's around nought
        gain = "vision" in name and "norm" in name and name.endswith("weight")
        p.normal_(float(gain), 0.3)
    else:
        # small embeddings: large ones, tied to the head, would only repeat the last word
        size = 0.3 if "embed_tokens" in name else 1.2
        p.normal_(0, size / p[0].numel() ** 0.5)


def hf_config(model: RandomModel) -> PaliGemmaConfig:
    """Spell the sizes out in transformers' words."""
    vision = ("hidden_size", "num_attention_heads", "num_hidden_layers")
    vision_names = (*vision, "intermediate_size")
    text_names = (
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "num_hidden_layers",
        "intermediate_size",
    )
    vocabulary, image_id = model.table
    return PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": model.picture[0],
            "patch_size": model.picture[1],
            "vision_use_head": False,
            **dict(zip(vision_names, model.vision, strict=True)),
            **dict(model.more_vision),
        },
        text_config={
            "model_type": "gemma",
            "vocab_size": vocabulary,
            **dict(zip(text_names, model.text, strict=True)),
            **dict(model.more_text),
        },
        projection_dim=model.text[0],
        image_token_index=image_id,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def in_float64(
    model: PaliGemmaForConditionalGeneration,
) -> PaliGemmaForConditionalGeneration:
    """Copy a model in double precision, the same numbers."""
    return copy.deepcopy(model).double()


def our_model(folder: Path, dtype: str) -> PaliGemma:
    """Open a saved checkpoint by our own loader."""
    config = read_config(folder)
    return PaliGemma(config, load_weights(folder, config, dtype))


def batch(model: RandomModel, rows: tuple[Row, ...]) -> dict[str, np.ndarray]:
    """Draw a left-padded batch: `PaliGemma.logits`' arguments by name."""
    rng = np.random.default_rng(zlib.crc32(model.name.encode()))
    prompts = [_prompt(row, model, rng) for row in rows]
    length = max(len(ids) for ids, _ in prompts)
    ids = np.full((len(rows), length), PAD)
    types, mask = np.zeros_like(ids), np.zeros_like(ids)
    for i, (row_ids, row_types) in enumerate(prompts):
        ids[i, length - len(row_ids) :] = row_ids
        types[i, length - len(row_ids) :] = row_types
        mask[i, length - len(row_ids) :] = 1
    side = model.picture[0]
    channels = dict(model.more_vision).get("num_channels", 3)
    shape = (sum(row.pictures for row in rows), channels, side, side)
    return {
        "input_ids": ids,
        "pixel_values": rng.uniform(-1, 1, shape).astype(np.float32),
        "attention_mask": mask,
        "token_type_ids": types,
    }


def _prompt(
    row: Row, model: RandomModel, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Draw one row's ids and types: pictures, bos, words, newline; answer."""
    vocabulary, image_id = model.table
    words = rng.integers(FIRST_WORD, vocabulary, row.words + row.answer)
    words = np.where(words == image_id, FIRST_WORD, words).tolist()
    soft = [image_id] * (row.pictures * model.soft_tokens)
    prefix = [*soft, BOS, *words[: row.words], NEWLINE]
    ids = [*prefix, *words[row.words :]]
    return ids, [0] * len(prefix) + [1] * row.answer
