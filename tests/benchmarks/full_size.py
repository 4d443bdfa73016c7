"""Time the line on a checkpoint of PaliGemma 3B's shapes, filled with random numbers.

    python tests/benchmarks/full_size.py FOLDER [DTYPE …]

Writes the checkpoint (5.9 GB, bfloat16) into FOLDER if it is not there, then runs each
dtype in a process of its own and prints a row of the README's table: time to load the
weights, from there to the first token, for each further one, and peak memory (the pages
of the mapped file counted). Imports, tokenizer and picture are not in it. The answers
are noise; the arithmetic, the bytes and the shapes are the real ones.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import numpy_paligemma.checkpoints.load as loading
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.paligemma import PaliGemma

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
    },
}
PROMPT_TOKENS = 4  # <bos>, two of text, newline: about `caption en`
FURTHER_TOKENS = 8


class _Shapes:
    """A take that only writes down what is asked for."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, ...]] = {}

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Write a shape down."""
        self.of[name] = shape
        return np.empty(0)

    vector = matrix


def write_checkpoint(folder: Path) -> None:
    """Write config.json and model.safetensors: normal numbers of deviation 0.02."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shapes = _Shapes()
    paligemma_weights(shapes, read_config(folder), tied=True)
    numbers = np.random.default_rng(0).standard_normal(1 << 24, np.float32) * 0.02
    bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)

    header, offset = {}, 0
    for name, shape in shapes.of.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.of.values():
            left = int(np.prod(shape))
            for start in range(0, left, len(bits)):
                file.write(bits[: left - start].tobytes())


def measure(folder: Path, dtype: str) -> str:
    """Load and generate once: a row of the table."""
    start = time.perf_counter()
    c = read_config(folder)
    model = PaliGemma(c, loading.load_weights(folder, c, dtype))
    loaded = time.perf_counter() - start
    ids = np.array([[c.image_token_id] * c.vision.patches + [2, 5, 6, 108]])
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 3, 224, 224))
    times = [time.perf_counter()]
    steps = model.stream(
        ids,
        pixels,
        np.ones_like(ids),
        max_new_tokens=1 + FURTHER_TOKENS,
        do_sample=False,
        eos_token_id=-1,
    )
    times += [time.perf_counter() for _ in steps]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    first, further = times[1] - times[0], (times[-1] - times[1]) / FURTHER_TOKENS
    return f"| {dtype} | {loaded:.1f} s | {first:.1f} s | {further:.2f} s | {peak:.1f} GB |"


def main(folder: Path, dtypes: list[str]) -> None:
    """Measure each dtype in a process of its own."""
    if not (folder / "model.safetensors").is_file():
        write_checkpoint(folder)
    if len(dtypes) == 1:
        print(measure(folder, dtypes[0]))
        return
    print(
        "| dtype | load | first token | each further | peak memory |\n|---|---|---|---|---|"
    )
    for dtype in dtypes:
        subprocess.run([sys.executable, __file__, str(folder), dtype], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(HELD_DTYPES[:3]))
