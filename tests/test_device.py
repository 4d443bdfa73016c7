"""The whole line on a device: the same functions, the same bits, nothing mixed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_device import DeviceArray

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.arrays.device import (
    choose_device,
    map_arrays,
    to_device,
    to_host,
)
from numpy_paligemma.arrays.formats import BFLOAT16
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.inputs.processing import Inputs
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.model.tap import recorder


def on(place: Callable[[np.ndarray], object], folder: Path) -> tuple[PaliGemma, Inputs]:
    """Load the tiny model in bfloat16, move it, and prepare two unequal prompts."""
    model, processor = load_hf_model(folder, device="cpu", dtype="bfloat16")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    inputs = processor(["caption en", "answer en what is it?"], list(pictures))
    return PaliGemma(model.config, map_arrays(model.weights, place)), inputs


@pytest.mark.parametrize("typed", [False, True], ids=["prefix", "with an answer"])
def test_every_intermediate_is_the_same_on_the_device_to_the_last_bit(
    tiny_folder: Path, typed: bool
) -> None:
    seen = []
    for place in (np.array, DeviceArray):
        model, inputs = on(place, tiny_folder)
        types = None
        if typed:
            types = np.zeros_like(inputs["input_ids"])
            types[:, -3:] = 1
        tap, kept = recorder()
        model.logits(**inputs, token_type_ids=types, tap=tap)
        seen.append(kept)
    host, device = seen
    assert list(host) == list(device)
    for name in host:
        if name != "fusion/mask":  # made on the host, sent when it is needed
            assert isinstance(device[name], DeviceArray), name
        np.testing.assert_array_equal(to_host(device[name]), host[name], err_msg=name)


@pytest.mark.parametrize("do_sample", [False, True], ids=["greedy", "drawn"])
def test_the_same_tokens_are_written_on_the_device(
    tiny_folder: Path, do_sample: bool
) -> None:
    written = []
    for place in (np.array, DeviceArray):
        model, inputs = on(place, tiny_folder)
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=do_sample, seed=4)
        written.append(ids)
    assert written[0].shape[0] == 2
    assert len(set(written[0][0].tolist())) > 1
    np.testing.assert_array_equal(written[1], written[0])


def test_soft_tokens_stay_on_the_device(tiny_folder: Path) -> None:
    model, inputs = on(DeviceArray, tiny_folder)
    soft = model.look(inputs["pixel_values"])
    assert isinstance(soft, DeviceArray)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    ids = model.generate(**inputs, **options, soft_tokens=soft)
    np.testing.assert_array_equal(ids, model.generate(**inputs, **options))


def test_the_fake_refuses_to_mix_and_to_convert_itself() -> None:
    device, host = DeviceArray(np.ones(3, np.float32)), np.ones(3, np.float32)
    mixes: list[Callable[[], object]] = [
        lambda: device + host,
        lambda: host + device,
        lambda: host @ device,
        lambda: device * host[0],
        lambda: np.where(host > 0, device, 0),
        lambda: np.concatenate([device, host]),
        lambda: device.__setitem__(slice(None), host),
        lambda: np.asarray(device),
        lambda: float(device[0]),
        lambda: host.__setitem__(slice(None), device),
        lambda: np.median(device),
    ]
    for mix in mixes:
        with pytest.raises(TypeError):
            mix()
    assert isinstance(device * 2.0, DeviceArray)
    assert isinstance(np.asarray(host, like=device), DeviceArray)
    np.testing.assert_array_equal(to_host(device + device), host + host)


def test_what_is_one_array_before_the_move_is_one_after(tiny_folder: Path) -> None:
    model, _ = load_hf_model(tiny_folder, device="cpu")
    moved = map_arrays(model.weights, DeviceArray)
    assert moved.decoder.head is moved.decoder.embed
    assert moved.vision.blocks[0].q_proj is not moved.vision.blocks[1].q_proj
    assert type(moved) is type(model.weights)
    assert isinstance(moved.projector, Affine)
    assert isinstance(moved.vision.position_embed, DeviceArray)


def test_matrices_of_16_bits_are_widened_as_they_move() -> None:
    bits = np.array([[0x3F80, 0xC000]], np.uint16)
    moved = map_arrays((HeldMatrix(bits, BFLOAT16),), DeviceArray)
    np.testing.assert_array_equal(to_host(moved[0]), np.array([[1, -2]], np.float32))


def test_the_cpu_leaves_weights_where_they_are() -> None:
    tree = (np.zeros(3),)
    assert to_device(tree, "cpu") is tree
    assert to_host(tree[0]) is tree[0]


def test_without_cupy_auto_is_the_cpu_and_cuda_says_what_to_install() -> None:
    try:
        import cupy  # noqa: F401
    except ImportError:
        assert choose_device("cpu") == choose_device("auto") == "cpu"
        told = r"^device cuda: CuPy is not installed; .*\[cuda\].* or use --device cpu$"
        with pytest.raises(ValueError, match=told):
            choose_device("cuda")
    else:
        pytest.skip("CuPy is installed here")
