"""Time a checkpoint on a GPU against transformers there, and print tokens a second.

    python tests/benchmarks/gpu.py FOLDER [--tokens 64] [--batch 1]

Needs CuPy (the extra `cuda`) and a PyTorch that finds the same GPU. FOLDER is any
checkpoint; a random one of the 3B's size is written by tests/weights/random_checkpoint.py.
Each side and dtype runs in a process of its own: one answer to warm up, in which kernels
are compiled, and one that is timed, greedy, on the sample picture.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from benchmarks.side import Answer, Ours, Theirs

PICTURE = HERE.parents[1] / "weights" / "samples" / "paper.jpg"
PROMPT = "caption en"
OURS, THEIRS = "numpy_paligemma", "transformers"
RUNS = [
    *((OURS, dtype) for dtype in ("float32", "bfloat16", "float16", "int8")),
    *((THEIRS, dtype) for dtype in ("float32", "bfloat16")),
]


class OursThere(Ours):
    """numpy_paligemma by CuPy."""

    def __init__(self, folder: str, dtype: str) -> None:
        super().__init__(folder, dtype)
        bias = self.model.weights.projector.bias
        if type(bias).__module__.partition(".")[0] != "cupy":
            sys.exit("the weights are not on a GPU; see --device cuda of the command")

    def bytes_taken(self) -> int:
        """Count what CuPy has of the GPU's memory."""
        import cupy

        return cupy.get_default_memory_pool().total_bytes()


class TheirsThere(Theirs):
    """transformers on the GPU."""

    def __init__(self, folder: str, dtype: str) -> None:
        super().__init__(folder, dtype)
        self.model = self.model.to("cuda")

    def _inputs(self, pictures, prompt):
        return super()._inputs(pictures, prompt).to("cuda")

    def bytes_taken(self) -> int:
        """Count the most that PyTorch had of the GPU's memory."""
        return self.torch.cuda.max_memory_reserved()


def measure(folder: str, name: str, dtype: str, batch: int, tokens: int) -> dict:
    """Answer twice and time the second."""
    side = (OursThere if name == OURS else TheirsThere)(folder, dtype)
    pictures = [str(PICTURE)] * batch
    side.ask(pictures, PROMPT, tokens)
    answer: Answer = side.ask(pictures, PROMPT, tokens)
    first, last = answer.tokens[0], answer.tokens[-1]
    return {
        "first": first - answer.ready,
        "rate": batch * (tokens - 1) / (last - first),
        "bytes": side.bytes_taken(),
    }


def main() -> None:
    """Run every side and dtype, and print a line of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--one", nargs=2, help=argparse.SUPPRESS
    )  # a process of its own
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.folder, *a.one, a.batch, a.tokens)))
        return
    print(
        "| | `dtype` | first token | tokens a second | GPU memory |\n|---|---|---|---|---|"
    )
    for name, dtype in RUNS:
        argv = [sys.executable, __file__, *sys.argv[1:], "--one", name, dtype]
        ran = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            sys.exit(ran.returncode)
        found = json.loads(ran.stdout.splitlines()[-1])
        row = f"| {name} | `{dtype}` | {found['first']:.3g} s | {found['rate']:.3g} "
        print(f"{row}| {found['bytes'] / 1e9:.1f} GB |", flush=True)


if __name__ == "__main__":
    main()
