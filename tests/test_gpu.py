"""A real GPU by CuPy: the processor's answers within rounding, and nothing fetched.

Not in the plain run: ``pytest -m gpu``.
"""

from typing import Any

import numpy as np
import pytest
from golden_line import NAMES, NEW_TOKENS, NO_END, load_golden
from tolerances import FLOAT32_PRODUCT, FLOAT32_TAPS, FLOAT64, relative_error

from numpy_paligemma import PaliGemma
from numpy_paligemma.arrays import hold, matrix
from numpy_paligemma.arrays.device import choose_device, to_device, to_host
from numpy_paligemma.arrays.hold import HELD_DTYPES, hold_matrix
from numpy_paligemma.model.pipeline import decode_step, empty_caches, prefill
from numpy_paligemma.model.tap import recorder

pytestmark = pytest.mark.gpu
each_model = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", HELD_DTYPES)
Inputs = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold small float32 matrices as large ones are; skip where there is no GPU."""
    pytest.importorskip("cupy")
    if choose_device("auto") != "cuda":
        pytest.skip("CuPy has no GPU here")
    monkeypatch.setattr(hold, "LARGE", 1)
    monkeypatch.setattr(matrix, "SMALL", 0)


def both(name: str, dtype: str) -> tuple[PaliGemma, PaliGemma, Inputs]:
    """Load a golden model here and on the GPU; its padded prompts and pictures."""
    golden = load_golden(name, dtype)
    inputs = {key: golden.inputs[key] for key in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = golden.expected["pixels"]
    model = golden.model
    moved = PaliGemma(model.config, to_device(model.weights, "cuda"))
    return model, moved, inputs


@each_model
@each_dtype
def test_every_intermediate_is_the_processors_within_rounding(
    name: str, dtype: str
) -> None:
    host, device, inputs = both(name, dtype)
    kept = []
    for model in (host, device):
        tap, seen = recorder()
        model.logits(**inputs, tap=tap)
        kept.append(seen)
    tolerance = FLOAT64 if dtype == "float64" else FLOAT32_TAPS
    for tap, x in kept[0].items():
        moved = to_host(kept[1][tap])
        assert moved.dtype == x.dtype, tap
        assert relative_error(moved * 1.0, x * 1.0) <= tolerance, tap


@each_model
@each_dtype
def test_greedy_ids_are_the_processors(name: str, dtype: str) -> None:
    host, device, inputs = both(name, dtype)
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": NEW_TOKENS}
    expected = host.generate(**inputs, **options, eos_token_id=NO_END)
    found = device.generate(**inputs, **options, eos_token_id=NO_END)
    np.testing.assert_array_equal(found, expected)


@each_model
@each_dtype
def test_nothing_is_fetched_before_the_logits(name: str, dtype: str) -> None:
    """CuPy raises where it would have to wait for the GPU, as every fetch does."""
    import cupyx

    _, model, inputs = both(name, dtype)
    w, c, ids = model.weights, model.config, inputs["input_ids"]
    seen = np.pad(inputs["attention_mask"], ((0, 0), (0, 1)), constant_values=1)
    seen = np.asarray(seen, like=w.projector.bias)
    soft = model.look(inputs["pixel_values"])
    with cupyx.allow_synchronize(False):
        caches = empty_caches(len(ids), seen.shape[1], w, c)
        logits = [prefill(ids, soft, seen[:, :-1], w, c, caches)]
        logits.append(decode_step(ids[:, 0], seen, w, c, caches))
        with pytest.raises(cupyx.DeviceSynchronized):
            to_host(logits[0])
    assert all(np.isfinite(to_host(x)).all() for x in logits)


@each_dtype
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_product_is_the_processors_within_rounding(
    dtype: str, rows: int, rng: np.random.Generator
) -> None:
    host = hold_matrix(rng.normal(size=(300, 96)).astype(np.float32), dtype)
    moved = to_device((host,), "cuda")[0]
    x = rng.normal(size=(2, rows, 96)).astype(host[np.array([0])].dtype)
    found = to_host(np.asarray(x, like=to_device((x,), "cuda")[0]) @ moved.T)
    assert relative_error(found, x @ host.T) <= FLOAT32_PRODUCT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits_is_widened_exactly(dtype: str) -> None:
    """The smallest numbers, too, which a GPU can be told to flush to nought."""
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    stored = bits if dtype == "bfloat16" else bits.view(np.float16)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    column = stored[np.isfinite(wide if dtype == "bfloat16" else stored)].reshape(-1, 1)
    host, ids = hold_matrix(column, dtype), np.arange(len(column))
    found = to_host(to_device((host,), "cuda")[0][ids])
    np.testing.assert_array_equal(found, host[ids])
