"""Write a random checkpoint of PaliGemma 3B's shapes to try this folder's test on.

    python tests/weights/random_checkpoint.py FOLDER
    pytest -m weights --model FOLDER

The numbers are those of tests/benchmarks/full_size.py (5.8 GB, bfloat16), but for
SigLIP's gains, which lie around one as they do in a trained model: around nought they
would silence the eye, and its rounding with it. The tokenizer is the miniature's, so
what is generated reads as nothing.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from benchmarks.full_size import write_checkpoint

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16

MINIATURE = ROOT / "weights" / "miniature"


def main(folder: Path) -> None:
    """Write the whole folder."""
    write_checkpoint(folder)
    lift_the_gains(folder / "model.safetensors")
    shutil.copy(MINIATURE / "tokenizer.model", folder)
    fields = json.loads((MINIATURE / "preprocessor_config.json").read_text())
    fields |= {"size": {"height": 224, "width": 224}, "image_seq_length": 256}
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))


def lift_the_gains(path: Path) -> None:
    """Add one to every LayerNorm's gain, in place."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    numbers = np.memmap(path, np.uint8, "r+")
    for name, entry in header.items():
        if "norm" in name and name.startswith("vision") and name.endswith("weight"):
            start, end = (8 + length + n for n in entry["data_offsets"])
            bits = numbers[start:end].view(np.uint16)
            bits[:] = round_to_bfloat16(1 + widen_bfloat16(bits))
    numbers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
