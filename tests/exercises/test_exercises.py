"""The exercises themselves: right layers pass, and wrong ones are told what they are."""

import inspect
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from exercises.checks import Finding, examine
from exercises.ladder import HOME, LADDER
from exercises.reader import UnreadableLayersError, load

HERE = Path(__file__).parent
# parameters that the reader's layers do without: taps, and what Gemma 2 adds
BEYOND = {"tap", "window", "scale", "cap"}


def told(folder: Path, source: str, layer: str) -> Finding:
    """Examine a layer of a file with this source."""
    path = folder / "my_layers.py"
    path.write_text(f"import numpy as np\n{source}\n", encoding="utf-8")
    return examine(layer, load(path))


@pytest.mark.parametrize("layer", LADDER)
def test_our_own_layers_are_right(layer: str) -> None:
    ours = getattr(HOME[layer], layer)
    copy = type(layer, (ours,), {}) if inspect.isclass(ours) else partial(ours)
    finding = examine(layer, {layer: copy})
    assert (finding.verdict, finding.text) == ("right", "to the last bit")


@pytest.mark.parametrize("layer", LADDER)
def test_template_heads_are_ours_and_not_yet_written(layer: str) -> None:
    template = load(HERE / "template.py")
    assert examine(layer, template) == Finding(layer, "not yet written")
    theirs, ours = template[layer], getattr(HOME[layer], layer)
    if not inspect.isclass(ours):
        names = [n for n in inspect.signature(ours).parameters if n not in BEYOND]
        assert list(inspect.signature(theirs).parameters) == names


def test_layers_that_are_imported_are_not_defined(tmp_path: Path) -> None:
    source = "from numpy_paligemma.model.layers import softmax"
    assert told(tmp_path, source, "softmax").verdict == "not defined"
    assert told(tmp_path, source, "gelu").verdict == "not defined"


@pytest.mark.parametrize(
    ("layer", "source", "line"),
    [
        (
            "softmax",
            "def softmax(x): return np.exp(x) / np.exp(x).sum(-1, keepdims=True)",
            "a score of 1,000: nan or infinity where ours is finite",
        ),
        (
            "split_heads",
            "def split_heads(x, head_dim): return x.reshape(2, 5, -1, head_dim)",
            "shape (2, 5, 3, 4), expected (2, 3, 5, 4)",
        ),
        ("split_heads", "def split_heads(x, head_dim): pass", "is a return missing?"),
        (
            "linear",
            "def linear(x, w, bias=None):\n    return x @ v.T",
            "NameError: name 'v' is not defined (my_layers.py, line 3)",
        ),
        (
            "merge_heads",
            "def merge_heads(x): return x.reshape(2, 5, -1)",
            "our numbers in another order",
        ),
        (
            "project",
            "def project(x, w): return 3 * (x @ w[0].T + w[1])",
            "everywhere 3 times ours",
        ),
        (
            "positions_of",
            "def positions_of(m): return np.maximum(np.cumsum(m, 1), 1) * 1.0",
            "dtype float64, expected int64",
        ),
        (
            "fuse",
            "def fuse(a, b, m):\n  c = b.copy()\n  c[m] = a.reshape(-1, 5)[:6]\n  return c",
            "too few places: no ValueError, which is due here",
        ),
        (
            "prefix_lm_mask",
            "def prefix_lm_mask(m, t=None): return np.ones((2, 1, 7, 7), bool)",
            "all prefix: 14 of 98 values differ",
        ),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, layer: str, source: str, line: str
) -> None:
    finding = told(tmp_path, source, layer)
    assert finding.verdict == "wrong"
    assert line in finding.text


def test_writing_into_the_arguments_is_told(tmp_path: Path) -> None:
    source = """
def softmax(x):
    x -= x.max(-1, keepdims=True)
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)"""
    finding = told(tmp_path, source, "softmax")
    assert finding.text.startswith("writes into what it is given: ")
    assert finding.text.endswith("(my_layers.py, line 4)")


def test_float64_from_float32_is_a_finding_of_its_own(tmp_path: Path) -> None:
    source = "def embed_text(ids, w): return w[ids * (ids < 7)] * np.sqrt(5)"
    finding = told(tmp_path, source, "embed_text")
    assert finding.verdict == "float64"
    assert "math.sqrt(2)" in finding.text


def test_a_layer_that_calls_an_unwritten_one_waits_for_it(tmp_path: Path) -> None:
    source = """
def gelu(x): raise NotImplementedError
def siglip_mlp(x, w): return gelu(x)"""
    finding = told(tmp_path, source, "siglip_mlp")
    assert finding == Finding("siglip_mlp", "not yet written", "waits for gelu")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (None, "FileNotFoundError: No such file or directory"),
        ("def gelu(x:\n", "SyntaxError: '(' was never closed (my_layers.py, line 1)"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero (my_layers.py, line 2)"),
        ("raise SystemExit", "SystemExit (my_layers.py, line 1)"),
    ],
)
def test_a_file_that_does_not_load_is_told_in_one_line(
    tmp_path: Path, source: str | None, line: str
) -> None:
    path = tmp_path / "my_layers.py"
    if source is not None:
        path.write_text(source, encoding="utf-8")
    with pytest.raises(UnreadableLayersError) as caught:
        load(path)
    assert str(caught.value) == line


def run(layers: Path) -> subprocess.CompletedProcess[str]:
    """Do what README.md says."""
    command = f"-m pytest tests/exercises -p no:cacheprovider --layers {layers}"
    return subprocess.run(
        [sys.executable, *command.split(maxsplit=6)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_run_ends_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "mine"  # any name will do
    path.write_text(
        "def linear(x, w, bias=None): return x @ w.T + (0 if bias is None else bias)\n"
        "def project(x, w): return linear(x, w[0])\n"
        "def softmax(x): raise NotImplementedError\n"
    )
    done = run(path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    table = done.stdout.split("[100%]")[1].strip().splitlines()
    heads = [line.split()[:2] for line in table if not line.startswith(" ")]
    assert heads[:4] == [
        ["linear", "right"],
        ["project", "wrong"],
        ["softmax", "not"],
        ["not", "defined:"],
    ]
    assert "1 failed, 1 passed" in table[-1]


def test_a_missing_file_ends_the_run_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.py"
    done = run(path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    line = "does not load: FileNotFoundError: No such file or directory"
    assert done.stderr.strip() == f"ERROR: --layers {path} {line}"
