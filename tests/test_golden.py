"""Our line equals the golden files at every tap, and they are what their README says."""

import hashlib

import numpy as np
import pytest
from comparison import tap_errors
from golden_line import GOLDEN, NAMES, Golden, golden_errors, greedy_ids, load_golden
from safetensors.numpy import load_file
from tolerances import FLOAT32_TAPS, FLOAT64, STORED_FLOAT32

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.tap import recorder

LIMIT = 300_000  # bytes a model


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


def test_every_tap_is_golden(golden: Golden) -> None:
    errors = golden_errors(golden)
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT64} == {}


def test_pixels_are_golden_to_the_last_bit(golden: Golden) -> None:
    assert golden_errors(golden)["pixels"] == 0


def test_the_line_visits_every_tap_in_its_order(golden: Golden) -> None:
    taps = list(every_tap(golden.model.config))
    assert list(golden_errors(golden))[1 : 1 + len(taps)] == taps
    assert golden.expected.keys() == {*taps, "pixels", "sampling/nucleus", "greedy"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_greedy_ids_are_golden(name: str, dtype: str) -> None:
    golden = load_golden(name, dtype)
    np.testing.assert_array_equal(greedy_ids(golden), golden.expected["greedy"])


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_near(name: str) -> None:
    errors = golden_errors(load_golden(name, "float32"))
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT32_TAPS} == {}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", STORED_FLOAT32), ("bfloat16", FLOAT32_TAPS)]
)
def test_the_miniature_is_golden_on_the_sample_picture(
    dtype: str, tolerance: float
) -> None:
    model, processor = load_hf_model("miniature", dtype=dtype)
    inputs = processor(["caption en"], [bundled("sample.jpg")])
    golden = load_file(GOLDEN / "miniature.safetensors")
    for name, x in inputs.items():
        np.testing.assert_array_equal(x, golden.pop(f"inputs/{name}"), err_msg=name)
    ids = model.generate(**inputs, do_sample=False)
    np.testing.assert_array_equal(ids, golden.pop("greedy"))
    del golden["inputs/token_type_ids"]  # all nought: we say so by not giving them

    tap, found = recorder()
    model.logits(**inputs, tap=tap)
    assert golden.keys() == {tap for tap in found if not tap.endswith("/scores")}
    errors = tap_errors(found, golden, inputs["attention_mask"])
    assert {tap: e for tap, e in errors.items() if not e <= tolerance} == {}


def test_the_miniature_is_small() -> None:
    assert (GOLDEN / "miniature.safetensors").stat().st_size < 4_000_000


def test_the_files_are_those_of_the_readme() -> None:
    readme = (GOLDEN / "README.md").read_text(encoding="utf-8")
    for path in sorted((*GOLDEN.glob("*/*"), *GOLDEN.glob("*.safetensors"))):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"| {path.relative_to(GOLDEN).as_posix()} | " in readme
        assert digest in readme, path


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_small(name: str) -> None:
    assert sum(path.stat().st_size for path in (GOLDEN / name).iterdir()) <= LIMIT
