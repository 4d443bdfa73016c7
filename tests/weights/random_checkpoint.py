"""Write a random checkpoint of PaliGemma 3B's shapes, to try whatever needs a whole one.

    python tests/weights/random_checkpoint.py FOLDER [--image-size 448]
    pytest -m weights --model FOLDER

Config, preprocessor and tensors (5.8 GB, bfloat16) are laid out as published. The
numbers are normal, of deviation 0.02, but for SigLIP's gains, which lie around one as
they do in a trained model: around nought they would silence the eye, and its rounding
with it. The tokenizer is the miniature's, so what is generated reads as nothing.
"""

import argparse
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np

from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.config import read_config

MINIATURE = Path(__file__).parents[2] / "weights" / "miniature"
CONFIG = {
    "model_type": "paligemma",
    "image_token_index": 257152,
    "projection_dim": 2048,
    "text_config": {
        "model_type": "gemma",
        "vocab_size": 257216,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
        "vision_use_head": False,  # else transformers runs one that no file holds
    },
}
SIGLIPS_GAIN = re.compile(r"^vision.*norm.*weight$")
BLOCK = 1 << 24  # numbers that are drawn; every tensor repeats them


class _Shapes:
    """A take that only writes down what is asked for."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, ...]] = {}

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Write a shape down."""
        self.of[name] = shape
        return np.empty(0)

    vector = matrix


def write_random_checkpoint(folder: Path, image_size: int = 224) -> None:
    """Write the whole folder; the tensors last, under their name once they are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    eye = CONFIG["vision_config"] | {"image_size": image_size}
    _write_json(folder / "config.json", CONFIG | {"vision_config": eye})
    fields = json.loads((MINIATURE / "preprocessor_config.json").read_text())
    fields["size"] = {"height": image_size, "width": image_size}
    fields["image_seq_length"] = (image_size // eye["patch_size"]) ** 2
    _write_json(folder / "preprocessor_config.json", fields)
    shutil.copy(MINIATURE / "tokenizer.model", folder)

    shapes = _Shapes()
    paligemma_weights(shapes, read_config(folder), tied=True)
    half = folder / "model.safetensors.part"
    _write_tensors(half, shapes.of)
    half.rename(folder / "model.safetensors")


def _write_json(path: Path, fields: dict[str, object]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")


def _write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a safetensors file block by block: its library wants all of it at once."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = np.random.default_rng(0).standard_normal(BLOCK, np.float32) * 0.02
    around_nought, around_one = _upper_halves(numbers), _upper_halves(1 + numbers)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            bits = around_one if SIGLIPS_GAIN.search(name) else around_nought
            left = math.prod(shape)
            for start in range(0, left, BLOCK):
                file.write(bits[: left - start].tobytes())


def _upper_halves(numbers: np.ndarray) -> np.ndarray:
    """Cut float32 to bfloat16's bits."""
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=224)
    arguments = parser.parse_args()
    write_random_checkpoint(arguments.folder, arguments.image_size)
