"""The mask decoder's file: found, read in any dtype, and all that is wrong in one line."""

import io
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_mask_decoders import CODEBOOK, PUBLISHED, Arrays, random_arrays, weights_of
from test_load import leaves

from numpy_paligemma.answers.segmentation import MaskDecoderWeights
from numpy_paligemma.arrays.formats import round_to_bfloat16
from numpy_paligemma.checkpoints import mask_decoder
from numpy_paligemma.checkpoints.mask_decoder import (
    find_mask_decoder,
    load_mask_decoder,
)

KERNEL = "decoder.2.net.0.weight"
BIAS = "decoder.12.bias"
DIRECTORY = 2500  # bytes at the end of the file, where its zip lists the arrays


def written(folder: Path, arrays: Arrays) -> Path:
    path = folder / "vae-oid.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def exact() -> Arrays:
    """Draw the published sizes, each number one that all dtypes hold exactly."""
    return {n: np.round(x * 8) / 8 for n, x in random_arrays(PUBLISHED).items()}


def assert_same(found: MaskDecoderWeights, expected: MaskDecoderWeights) -> None:
    there = dict(leaves(expected))
    for name, array in leaves(found):
        np.testing.assert_array_equal(array, there.pop(name), err_msg=name)
    assert not there


# --- read -----------------------------------------------------------------------------


def as_bfloat16(x: np.ndarray) -> np.ndarray:
    return round_to_bfloat16(x).view("V2")


STORED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": as_bfloat16,
    "float32": lambda x: x,
    "float64": lambda x: x.astype(np.float64),
    "float32 of the other byte order": lambda x: x.astype(">f4"),
    "float32 column by column": np.asfortranarray,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", STORED)
def test_a_file_of_any_dtype_gives_the_same_weights(
    tmp_path: Path, exact: Arrays, stored: str, dtype: str
) -> None:
    path = written(tmp_path, {name: STORED[stored](x) for name, x in exact.items()})
    w = load_mask_decoder(path, dtype)
    assert {array.dtype for _, array in leaves(w)} == {np.dtype(dtype)}
    assert_same(w, weights_of(exact))


def test_float64_keeps_every_digit_of_a_float64_file(
    tmp_path: Path, exact: Arrays
) -> None:
    third = exact[CODEBOOK].astype(np.float64) + 1 / 3
    path = written(tmp_path, exact | {CODEBOOK: third})
    np.testing.assert_array_equal(load_mask_decoder(path, "float64").codebook, third)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_held_in_16_bits_has_its_masks_in_float32(
    tmp_path: Path, exact: Arrays, dtype: str
) -> None:
    assert load_mask_decoder(written(tmp_path, exact), dtype).codebook.dtype == "f4"


def test_a_compressed_file_is_read(tmp_path: Path, exact: Arrays) -> None:
    np.savez_compressed(tmp_path / "x.npz", **exact)
    assert_same(load_mask_decoder(tmp_path / "x.npz"), weights_of(exact))


def test_the_encoder_and_its_statistics_are_left_out(
    tmp_path: Path, exact: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    more = {
        "encoder.0.weight": np.ones((16, 1, 4, 4)),
        "encoder.8.net.0.bias": np.full(128, np.nan),
        "_vq_vae._ema_w": np.ones((128, 512)),
        "_vq_vae._ema_cluster_size": np.array([{}], object),  # not even opened
    }
    with caplog.at_level(logging.INFO):
        w = load_mask_decoder(written(tmp_path, exact | more))
    assert_same(w, weights_of(exact))
    assert "left out: the mask encoder (4 arrays)" in caplog.text


# --- refused --------------------------------------------------------------------------


def filled(x: np.ndarray, value: float) -> np.ndarray:
    spoilt = x.copy()
    spoilt.flat[-1] = value
    return spoilt


BROKEN: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "missing": (
        lambda a: {n: x for n, x in a.items() if n != KERNEL},
        f"1 missing ({KERNEL})",
    ),
    "unexpected": (lambda a: a | {"odd": np.ones(3)}, "1 unexpected (odd)"),
    "an embedding that is a module": (
        lambda a: {n.replace("embedding", "embedding.weight"): x for n, x in a.items()},
        "1 missing (_vq_vae._embedding); 1 unexpected (_vq_vae._embedding.weight)",
    ),
    "in Flax's layout": (
        lambda a: a | {KERNEL: a[KERNEL].transpose(2, 3, 1, 0)},
        f"1 of another shape ({KERNEL} expected (128, 128, 3, 3), found (3, 3, 128,",
    ),
    "in and out swapped": (
        lambda a: a | {"decoder.8.weight": a["decoder.8.weight"].swapaxes(0, 1)},
        "decoder.8.weight expected (64, 32, 4, 4), found (32, 64, 4, 4)",
    ),
    "a row short": (
        lambda a: a | {CODEBOOK: a[CODEBOOK][1:]},
        "expected (128, 512), found (127, 512)",
    ),
    "whole numbers": (
        lambda a: a | {BIAS: a[BIAS].astype(np.int32)},
        f"1 of another dtype than a floating one ({BIAS} is int32)",
    ),
    "text": (lambda a: a | {BIAS: np.array(["x"])}, f"({BIAS} is <U1)"),
    "not a number": (
        lambda a: a | {KERNEL: filled(a[KERNEL], np.nan)},
        f"1 with numbers that are not finite in float32 ({KERNEL})",
    ),
    "infinite": (
        lambda a: a | {BIAS: filled(a[BIAS], -np.inf)},
        f"not finite in float32 ({BIAS})",
    ),
    "infinite in bfloat16": (
        lambda a: a | {BIAS: as_bfloat16(filled(a[BIAS], np.inf))},
        f"not finite in float32 ({BIAS})",
    ),
    "too large for float32": (
        lambda a: a | {BIAS: filled(a[BIAS].astype(np.float64), 1e39)},
        f"not finite in float32 ({BIAS})",
    ),
    "another network": (
        lambda a: {f"vae.{n}": x for n, x in a.items()},
        "decoder.2.net.0.weight, decoder.2.net.0.bias and 20 more); 25 unexpected (",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_agree_is_named(tmp_path: Path, exact: Arrays, case: str) -> None:
    spoil, told = BROKEN[case]
    path = written(tmp_path, spoil(exact))
    with pytest.raises(ValueError, match="are not those of a mask decoder") as caught:
        load_mask_decoder(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_comes_in_one_error(tmp_path: Path, exact: Arrays) -> None:
    a = {n: x for n, x in exact.items() if n != KERNEL} | {"odd": np.ones(3)}
    a[BIAS] = filled(a[BIAS], np.nan)
    a["decoder.0.bias"] = a["decoder.0.bias"][1:]
    a["decoder.4.bias"] = a["decoder.4.bias"] > 0
    with pytest.raises(ValueError, match="are not those of a mask decoder") as caught:
        load_mask_decoder(written(tmp_path, a))
    for told in [
        f"1 missing ({KERNEL})",
        "1 unexpected (odd)",
        "1 of another shape (decoder.0.bias expected (128,), found (127,))",
        "1 of another dtype than a floating one (decoder.4.bias is bool)",
        f"1 with numbers that are not finite in float32 ({BIAS})",
    ]:
        assert told in str(caught.value)


def npy(x: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a web page": lambda _: b"<!doctype html><title>Sign in</title>",
    "one array, an .npy": lambda _: npy(np.ones(3)),
    "cut off": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "without its beginning": lambda data: data[7:],
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_whole_npz_is_refused(
    tmp_path: Path, exact: Arrays, case: str
) -> None:
    path = written(tmp_path, exact)
    path.write_bytes(DAMAGED[case](path.read_bytes()))
    assert_one_line(path)


def test_pickled_objects_are_never_opened(tmp_path: Path, exact: Arrays) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (pytest.fail, ("a pickle was opened",))

    pickled = np.array([Trap()], object)
    assert_one_line(written(tmp_path, exact | {BIAS: pickled}), told=BIAS)


def test_a_header_that_numpy_will_not_read_is_told_in_one_line(
    tmp_path: Path, exact: Arrays
) -> None:
    fields = [(f"field{i}", np.float32) for i in range(900)]
    long = np.zeros(1, fields)  # NumPy refuses headers so long, in three lines
    assert_one_line(written(tmp_path, exact | {BIAS: long}), told="max_header_size")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, exact: Arrays) -> None:
    path = written(tmp_path, exact)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(match="Duplicate name"):
        archive.writestr(f"{BIAS}.npy", npy(exact[BIAS] + 1))
    assert_one_line(path, told=f"{BIAS} there more than once")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.booleans(),
    late=st.booleans(),
    place=st.floats(0, 1, exclude_max=True),
    change=st.integers(1, 255),
)
def test_no_damage_goes_unnoticed(
    tmp_path: Path, exact: Arrays, *, cut: bool, late: bool, place: float, change: int
) -> None:
    """A cut is refused, and so is a changed byte, or it lies where it changes nothing."""
    path = written(tmp_path, {name: x.astype(np.float16) for name, x in exact.items()})
    whole = bytearray(path.read_bytes())
    first = len(whole) - DIRECTORY if late else 0
    at = first + int(place * (len(whole) - first))
    if cut:
        del whole[at:]
    else:
        whole[at] ^= change
    path.write_bytes(whole)
    try:
        w = load_mask_decoder(path)
    except ValueError:
        assert_one_line(path)
    else:
        assert not cut
        assert_same(w, weights_of(exact))


def assert_one_line(path: Path, told: str = "") -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as caught:
        load_mask_decoder(path)
    assert "\n" not in str(caught.value)
    assert told in str(caught.value)


# --- found ----------------------------------------------------------------------------


def test_it_is_found_beside_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "vae-oid.npz").touch()
    assert find_mask_decoder(None, tmp_path) == tmp_path / "vae-oid.npz"


def test_a_path_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.npz").touch()
    (tmp_path / "vae-oid.npz").touch()
    mine = str(tmp_path / "mine.npz")
    assert find_mask_decoder(mine, tmp_path) == tmp_path / "mine.npz"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_mask_decoder("~/mine.npz", Path()) == tmp_path / "mine.npz"


def test_its_name_fetches_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(*place: str, **options: str) -> Path:
        asked.append((*place, options))
        return tmp_path

    monkeypatch.setattr(mask_decoder, "hub_file", fetch)
    assert find_mask_decoder("vae-oid", Path()) == tmp_path
    wanted = ("big-vision/paligemma-hf", "vae-oid.npz", {"repo_type": "space"})
    assert asked == [wanted]


@pytest.mark.parametrize("wanted", [None, "nowhere.npz", ".", "~nobody-here/x"])
def test_where_there_is_none_it_is_told_where_one_is_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    found = "a folder" if wanted == "." else "no such file"
    with pytest.raises(
        FileNotFoundError, match=f"found {found}; give --mask"
    ) as caught:
        find_mask_decoder(wanted, tmp_path)
    for told in ("gs://big_vision/paligemma/vae-oid.npz", "big-vision/paligemma-hf"):
        assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dtype_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^dtype: expected one of .*, found 'int3'$"):
        load_mask_decoder(tmp_path / "vae-oid.npz", "int3")
