"""``numpy-paligemma demo``: the miniature, the sample picture, its caption."""

import argparse
import sys
from collections.abc import Sequence

from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.commands import generate

PROMPT = "caption en"


def run(argv: Sequence[str]) -> None:
    """Caption the sample picture."""
    argparse.ArgumentParser("numpy-paligemma demo", description=__doc__).parse_args(
        argv
    )
    picture = str(bundled("sample.jpg"))
    print(f"model {MINIATURE}, picture {picture}, prompt {PROMPT!r}:", file=sys.stderr)
    generate.run(
        ["--model", MINIATURE, "--image", picture, "--prompt", PROMPT, "--no-sample"]
    )
