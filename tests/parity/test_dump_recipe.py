"""The recipe in tests/golden/README.md dumps what transformers really gives."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_line import GOLDEN
from safetensors.numpy import load_file
from tolerances import FLOAT32_TAPS, relative_error

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.checkpoints.taps import Place, every_tap, published_module

pytest.importorskip("transformers")

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def recipe() -> str:
    readme = (GOLDEN / "README.md").read_text(encoding="utf-8")
    (text,) = re.findall(
        r"^```python\n(import torch\n.*?)^```", readme, re.MULTILINE | re.DOTALL
    )
    return text


def run(recipe: str, folder: Path) -> dict[str, np.ndarray]:
    """Run it where a clone's root would be: what it dumps, by published module."""
    root = GOLDEN.parents[1]
    for name in ("weights", "tests"):
        (folder / name).symlink_to(root / name)
    words = [sys.executable, "-W", "ignore", "-c", recipe]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    seen = load_file(folder / "theirs.safetensors")
    return {published_module(name): x for name, x in seen.items()}


def merged(x: np.ndarray, place: Place) -> np.ndarray:
    """Join heads, as a module has them: (B, N, T, H) -> (B, T, N·H)."""
    if not place.heads:
        return x
    B, N, T, H = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, N * H)


def test_the_recipe_dumps_every_tap_that_a_module_has(
    recipe: str, tmp_path: Path
) -> None:
    theirs, golden = run(recipe, tmp_path), load_file(GOLDEN / "miniature.safetensors")
    errors = {}
    for tap, place in every_tap(read_config(bundled("miniature"))).items():
        if place.end != "inside":
            name = place.module + (".input" if place.end == "input" else "")
            errors[tap] = relative_error(theirs[name], merged(golden[tap], place))
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT32_TAPS} == {}
    np.testing.assert_array_equal(theirs["logits"], theirs["lm_head"])


def test_without_token_types_the_recipe_sees_another_model(
    recipe: str, tmp_path: Path
) -> None:
    call = 'keep("logits"'
    assert recipe.count(call) == 1
    causal = recipe.replace(call, f'del inputs["token_type_ids"]\n{call}')
    golden = load_file(GOLDEN / "miniature.safetensors")
    off = relative_error(run(causal, tmp_path)["logits"], golden["logits"])
    assert off > 0.1
