"""The whole line on a device: the same functions, the same bits, nothing mixed.

Held matrices are multiplied on a device by another algorithm than on a processor: in
blocks of rows and not by threads, tiles and lanes. So the bits are compared with the
device's own algorithm run on NumPy arrays; and that one, within rounding, with the
processor's.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from fake_device import IN_CUPY, UFUNCS, DeviceArray, fake_cupy, watched
from golden_line import ANSWER, NAMES, NO_END, load_golden
from tolerances import FLOAT32_PRODUCT, relative_error

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.arrays import device_product, hold, matrix
from numpy_paligemma.arrays.device import (
    choose_device,
    device_errors,
    map_arrays,
    to_device,
    to_host,
)
from numpy_paligemma.arrays.formats import BFLOAT16
from numpy_paligemma.arrays.hold import HELD_DTYPES, hold_matrix
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.inputs.processing import Inputs
from numpy_paligemma.model import parallel
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.model.tap import recorder

SAMPLE = Path(__file__).parents[1] / "weights" / "samples" / "paper.jpg"
NEW = 6
each_model = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", HELD_DTYPES)
Place = Callable[[np.ndarray], Any]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small matrices as large ones: held, and widened a few rows at a time."""
    monkeypatch.setattr(hold, "LARGE", 1)
    monkeypatch.setattr(matrix, "SMALL", 0)
    monkeypatch.setattr(device_product, "BLOCK_NUMBERS", 100)


def on(place: Place, name: str, dtype: str) -> tuple[PaliGemma, dict[str, np.ndarray]]:
    """Load a golden model and move it; its prompts, padded, and its pictures."""
    golden = load_golden(name, dtype)
    moved = map_arrays(golden.model.weights, place)
    inputs = {
        "input_ids": golden.inputs["input_ids"],
        "attention_mask": golden.inputs["attention_mask"],
        "pixel_values": golden.expected["pixels"],
    }
    return PaliGemma(golden.model.config, moved), inputs


def on_both(
    run: Callable[[PaliGemma, dict[str, np.ndarray]], Any],
    name: str,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Any, Any]:
    """Run on NumPy, held matrices by the device's algorithm, and on the device."""
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "on_host", lambda _: False)
        host = run(*on(np.array, name, dtype))
    return host, run(*on(DeviceArray, name, dtype))


@pytest.mark.usefixtures("held")
@each_model
@each_dtype
def test_every_intermediate_is_the_same_on_the_device_to_the_last_bit(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(model: PaliGemma, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        types = np.zeros_like(inputs["input_ids"])
        types[:, -ANSWER:] = 1
        tap, kept = recorder()
        model.logits(**inputs, token_type_ids=types, tap=tap)
        return kept

    host, device = on_both(run, name, dtype, monkeypatch)
    assert list(host) == list(device)
    for tap, x in host.items():
        if not tap.startswith("fusion/") or tap == "fusion/out":
            assert isinstance(device[tap], DeviceArray), (
                tap
            )  # masks are made on the host
        np.testing.assert_array_equal(to_host(device[tap]), x, err_msg=tap)


@pytest.mark.usefixtures("held")
@each_model
@each_dtype
@pytest.mark.parametrize("do_sample", [False, True], ids=["greedy", "drawn"])
def test_a_generation_is_the_same_on_the_device_to_the_last_bit(
    name: str, dtype: str, do_sample: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(model: PaliGemma, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, list]:
        kept: list[tuple[str, Any]] = []

        def tap(at: str, x: np.ndarray) -> np.ndarray:
            kept.append((at, x))
            return x

        options = {"max_new_tokens": NEW, "do_sample": do_sample, "seed": 4}
        ids = model.generate(**inputs, **options, eos_token_id=NO_END, tap=tap)
        return ids, kept

    (ids, host), (moved_ids, device) = on_both(run, name, dtype, monkeypatch)
    assert ids.shape[1] == NEW
    np.testing.assert_array_equal(moved_ids, ids)
    assert [at for at, _ in host] == [at for at, _ in device]
    for (at, x), (_, moved) in zip(host, device, strict=True):
        assert isinstance(moved, DeviceArray), at
        np.testing.assert_array_equal(to_host(moved), x, err_msg=at)


@pytest.mark.usefixtures("held")
@each_model
@each_dtype
@pytest.mark.parametrize("do_sample", [False, True], ids=["greedy", "drawn"])
def test_a_token_sends_its_ids_and_fetches_a_row_of_logits_for_each_row(
    name: str, dtype: str, do_sample: bool
) -> None:
    model, inputs = on(DeviceArray, name, dtype)
    batch = len(inputs["input_ids"])
    options = {"max_new_tokens": NEW, "do_sample": do_sample, "seed": 4}
    stream = model.stream(**inputs, **options, eos_token_id=NO_END)
    logits = (batch, model.config.text.vocab_size)
    with watched() as prompt:
        next(stream)
    # pixels; the mask; ids; and the picture's rows and columns in the sequence
    assert len(prompt.sent) == 5
    assert prompt.fetched == [logits]
    for _ in range(1, NEW):
        with watched() as token:
            next(stream)
        assert token.sent == [(batch, 1)]
        assert token.fetched == [logits]


@pytest.mark.usefixtures("held")
@each_dtype
def test_weights_are_sent_once_and_as_they_are_held(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    weights = load_golden("gemma_2", dtype).model.weights
    arrays: list[np.ndarray] = []
    map_arrays(weights, arrays.append)
    with watched() as traffic:
        moved = to_device(weights, "cuda")
    assert traffic.sent == [x.shape for x in arrays]
    assert not traffic.fetched
    assert moved.decoder.head is moved.decoder.embed
    before, after = weights.decoder.embed, moved.decoder.embed
    if dtype == "float64":
        assert after.dtype == np.float64
        return
    assert after.nbytes == before.nbytes
    assert after.numbers.dtype == before.numbers.dtype
    np.testing.assert_array_equal(to_host(after.numbers), before.numbers)


def tiny(place: Place, folder: Path) -> tuple[PaliGemma, Inputs]:
    """Load the tiny model in bfloat16, move it, and prepare two unequal prompts."""
    model, processor = load_hf_model(folder, device="cpu", dtype="bfloat16")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    inputs = processor(["caption en", "answer en what is it?"], list(pictures))
    return PaliGemma(model.config, map_arrays(model.weights, place)), inputs


def test_soft_tokens_stay_on_the_device(tiny_folder: Path) -> None:
    model, inputs = tiny(DeviceArray, tiny_folder)
    with watched() as traffic:
        soft = model.look(inputs["pixel_values"])
    assert isinstance(soft, DeviceArray)
    assert (len(traffic.sent), len(traffic.fetched)) == (1, 0)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    ids = model.generate(**inputs, **options, soft_tokens=soft)
    np.testing.assert_array_equal(ids, model.generate(**inputs, **options))


@each_dtype
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_product_on_the_device_is_the_processors_within_rounding(
    dtype: str, rows: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "LARGE", 1)
    monkeypatch.setattr(matrix, "SMALL", 0)
    monkeypatch.setattr(device_product, "BLOCK_NUMBERS", 7 * 96)  # 300 = 42 · 7 + 6
    host = hold_matrix(rng.normal(size=(300, 96)).astype(np.float32), dtype)
    moved = map_arrays((host,), DeviceArray)[0]
    x = rng.normal(size=(2, rows, 96)).astype(host[np.array([0])].dtype)
    found = to_host(DeviceArray(x) @ moved.T)
    assert found.shape == (2, rows, 300)
    assert relative_error(found, x @ host.T) <= FLOAT32_PRODUCT
    ids = np.array([[299, 0], [7, 7]])
    np.testing.assert_array_equal(to_host(moved[ids]), host[ids])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits_is_widened_exactly_on_the_device(dtype: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    stored = bits if dtype == "bfloat16" else bits.view(np.float16)
    finite = np.isfinite((bits.astype(np.uint32) << 16).view(np.float32))
    finite = finite if dtype == "bfloat16" else np.isfinite(stored)
    column = stored[finite].reshape(-1, 1)
    host = hold_matrix(column, dtype)
    found = DeviceArray(np.ones((1, 1), np.float32)) @ map_arrays(host, DeviceArray).T
    np.testing.assert_array_equal(to_host(found)[0], host[np.arange(len(column))][:, 0])


def test_host_and_device_do_not_mix_in_a_product() -> None:
    host = HeldMatrix(np.ones((2, 2), np.uint16), BFLOAT16)
    x = np.ones((2, 2), np.float32)
    for mix in (
        lambda: x @ map_arrays(host, DeviceArray).T,
        lambda: DeviceArray(x) @ host.T,
    ):
        with pytest.raises(TypeError):
            mix()


def test_the_fake_refuses_to_mix_and_to_convert_itself() -> None:
    device, host = DeviceArray(np.ones(3, np.float32)), np.ones(3, np.float32)
    mixes: list[Callable[[], object]] = [
        lambda: device + host,
        lambda: host + device,
        lambda: host @ device,
        lambda: device * np.float64(1),
        lambda: np.where(host > 0, device, 0),
        lambda: np.concatenate([device, host]),
        lambda: np.copyto(device, host),
        lambda: device.__setitem__(slice(None), host),
        lambda: np.asarray(device),
        lambda: float(device[0]),
        lambda: list(device),
        lambda: host.__setitem__(slice(None), device),
        lambda: device[host > 0],
        lambda: np.median(device),
        lambda: np.max(device, initial=0),
        lambda: np.arctan(device),
        lambda: np.add.reduce(device),
        lambda: np.add(device, device, where=True),
    ]
    for mix in mixes:
        with pytest.raises(TypeError):
            mix()
    assert isinstance(device * 2.0, DeviceArray)
    assert isinstance(device * np.float32(2), DeviceArray)
    assert isinstance(np.asarray(host, like=device), DeviceArray)
    assert np.isnan(to_host(np.empty(3, np.float32, like=device))).all()
    np.testing.assert_array_equal(to_host(device + device), host + host)


def test_the_fake_counts_what_is_sent_and_what_is_fetched() -> None:
    device = DeviceArray(np.ones((3, 2), np.float32))
    with watched() as traffic:
        np.asarray(np.ones(4), like=device)
        np.asarray(device, dtype=np.float64, like=device)  # there already
        rows = device[np.array([0, 2])]
        device[1, :] = rows[0]
        rows.get()
    assert traffic.sent == [(4,), (2,)]
    assert traffic.fetched == [(2, 2)]


def test_cupy_has_every_function_of_the_fake_with_its_parameters() -> None:
    cupy = pytest.importorskip("cupy")
    for function, names in IN_CUPY.items():
        its = inspect.signature(getattr(cupy, function.__name__)).parameters
        assert set(names) <= set(its), function.__name__
        ordered = [name for name, p in its.items() if p.kind is not p.KEYWORD_ONLY]
        assert ordered[: len(names)] == list(names), function.__name__
    for ufunc in UFUNCS:
        assert callable(getattr(cupy, ufunc.__name__))


def test_what_is_one_array_before_the_move_is_one_after(tiny_folder: Path) -> None:
    model, _ = load_hf_model(tiny_folder, device="cpu")
    moved = map_arrays(model.weights, DeviceArray)
    assert moved.decoder.head is moved.decoder.embed
    assert moved.vision.blocks[0].q_proj is not moved.vision.blocks[1].q_proj
    assert type(moved) is type(model.weights)
    assert isinstance(moved.projector, Affine)
    assert isinstance(moved.vision.position_embed, DeviceArray)


def test_the_cpu_leaves_weights_where_they_are() -> None:
    tree = (np.zeros(3),)
    assert to_device(tree, "cpu") is tree
    assert to_host(tree[0]) is tree[0]


def test_without_cupy_auto_is_the_cpu_and_cuda_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not there
    assert choose_device("cpu") == choose_device("auto") == "cpu"
    told = r"^device cuda: CuPy is not installed; .*\[cuda\].* or use --device cpu$"
    with pytest.raises(ValueError, match=told):
        choose_device("cuda")


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"
OutOfMemoryError.__module__ = "cupy.cuda.memory"


def failing(error: Exception) -> Callable[..., Any]:
    """Make a function that raises."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_a_device_that_cannot_compute_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none = fake_cupy(devices=0)
    driver = fake_cupy()
    driver.cuda.runtime.getDeviceCount = failing(CUDARuntimeError("no driver\nat all"))
    compiler = fake_cupy()
    compiler.ones = failing(RuntimeError("CuPy failed to load libnvrtc.so.12"))
    for cupy, why in (
        (none, "CuPy finds no GPU"),
        (driver, r"CuPy cannot compute \(no driver\)"),
        (compiler, r"CuPy cannot compute \(CuPy failed to load libnvrtc.so.12\)"),
    ):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        assert choose_device("auto") == "cpu"
        with pytest.raises(ValueError, match=f"^device cuda: {why}; install .* cpu$"):
            choose_device("cuda")


def test_weights_beyond_the_devices_memory_are_refused_before_any_is_sent(
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(free=1000))
    told = "device cuda: the weights are .* GB, the GPU has 1e-06 GB free; use --dtype "
    with watched() as traffic, pytest.raises(MemoryError, match=told):
        load_hf_model(tiny_folder, device="cuda")
    assert traffic.sent == [(2, 2)]  # the trial of `choose_device`
    model, _ = load_hf_model(tiny_folder, device="auto")
    assert isinstance(model.weights.decoder.final_norm, np.ndarray)
    assert "or --device cpu; the processor answers" in caplog.text


def test_a_device_that_runs_out_of_memory_says_so_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = OutOfMemoryError("Out of memory allocating 1,024 bytes")
    told = (
        "^device cuda: Out of memory allocating 1,024 bytes; use --dtype int8, .* cpu$"
    )
    with pytest.raises(MemoryError, match=told), device_errors():
        raise full
    cupy = fake_cupy()
    cupy.asarray = failing(full)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(MemoryError, match=told):
        to_device((np.ones(3),), "cuda")
    broken = CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access")
    told = r"^device cuda: cudaErrorIllegalAddress: .*; use --device cpu$"
    with pytest.raises(OSError, match=told), device_errors():
        raise broken
    for own in (MemoryError("ours"), ValueError("ours")):
        with pytest.raises(type(own), match=r"^ours$"), device_errors():
            raise own


def test_the_command_answers_the_same_on_the_device_or_in_a_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--model", "miniature", "--image", SAMPLE, "--prompt", "detect red circle"]
    asked += ["--no-sample"]
    host = command(*asked, "--device", "cpu")
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with watched() as traffic:
        device = command(*asked, "--device", "cuda")
    assert (device.status, device.out) == (0, host.out)
    assert len(traffic.sent) > 100
    monkeypatch.setattr(DeviceArray, "transpose", failing(OutOfMemoryError("full")))
    device = command(*asked, "--device", "cuda")
    assert (device.status, device.out) == (1, "")
    assert device.err.splitlines()[-1].startswith(
        "error: not enough memory: device cuda"
    )


@pytest.mark.usefixtures("held")
def test_nothing_on_the_device_is_cut_for_our_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, inputs = on(DeviceArray, "gemma_2", "bfloat16")
    monkeypatch.setattr(parallel, "BLOCK", 0)  # as if nothing were small
    monkeypatch.setattr(parallel, "FEWEST_ROWS", 0)
    for room in (parallel, matrix):
        monkeypatch.setattr(room, "in_parallel", failing(AssertionError("cut")))
    model.generate(**inputs, max_new_tokens=3, do_sample=False)
