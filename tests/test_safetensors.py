"""Files of tensors: what is read, and that no damage is more than a ValueError."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import stored, write_safetensors, write_shards

from numpy_paligemma.arrays.formats import round_to_bfloat16
from numpy_paligemma.checkpoints.safetensors import list_file, list_tensors

ONE = {"a": stored(np.arange(6, dtype=np.float32).reshape(2, 3))}


def with_header(path: Path, header: object, data: bytes = bytes(24)) -> Path:
    """Write a file whose header says anything at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_tensor_is_read_as_it_was_written(
    tmp_path: Path, dtype: str, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(2, 3)).astype(np.float32), np.array([7], np.float32)
    path = tmp_path / "x.safetensors"
    write_safetensors(
        path, {"odd": ("U8", (1,), b"!"), "x": stored(x, dtype), "y": stored(y)}
    )
    _, first, second = list_file(path)
    assert (first.name, first.dtype, first.shape) == ("x", dtype, (2, 3))
    bits: np.ndarray = x.astype(np.float16) if dtype == "F16" else x
    bits = round_to_bfloat16(x) if dtype == "BF16" else bits
    np.testing.assert_array_equal(first.read(), bits)
    np.testing.assert_array_equal(second.read(), y)
    assert first.nbytes == bits.nbytes


def test_bytes_are_mapped_and_not_copied(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", ONE)
    read = list_file(path)[0].read()
    assert not read.flags.writeable
    assert not read.flags.owndata


def test_a_file_of_the_library_itself_is_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    from safetensors.numpy import save_file

    x = {"b": rng.normal(size=(2, 3)), "a": rng.normal(size=4)}
    x = {name: array.astype(np.float32) for name, array in x.items()}
    save_file(x, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = {t.name: t.read() for t in list_tensors(tmp_path)}
    assert set(found) == set(x)
    for name, array in found.items():
        np.testing.assert_array_equal(array, x[name])


@given(st.data())
def test_a_damaged_file_is_a_value_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    whole = bytearray(
        write_safetensors(path, ONE | {"b": stored(np.ones(3))}).read_bytes()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        told = ""
        arrays = [t.read() for t in list_file(path) if t.dtype == "F32"]
    except ValueError as error:
        told, arrays = str(error), []
    assert told.startswith(
        f"{path}: expected a whole safetensors file, but " if told else ""
    )
    assert "\n" not in told
    assert all(x.size in {3, 6} for x in arrays)  # if it was a number, or a name


HEADERS: dict[str, object] = {
    "no object": [1, 2],
    "not JSON": b"{'a': 1}",
    "not UTF-8": b'{"\xff": 1}',
    "very deep": b"[" * 100_000,
    "past the end": {"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28]}},
    "before the beginning": {
        "a": {"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]}
    },
    "backwards": {"a": {"dtype": "F32", "shape": [6], "data_offsets": [24, 0]}},
    "bytes and shape apart": {
        "a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 24]}
    },
    "negative shape": {"a": {"dtype": "F32", "shape": [-6], "data_offsets": [0, 24]}},
    "a shape that overflows": {
        "a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 24]}
    },
    "overlapping": {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
    },
    "a hole": {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
    },
    "an unknown dtype": {"a": {"dtype": "F33", "shape": [6], "data_offsets": [0, 24]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [6]}},
    "words for offsets": {"a": {"dtype": "F32", "shape": [6], "data_offsets": "all"}},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    path = with_header(tmp_path / "x.safetensors", HEADERS[case])
    with pytest.raises(
        ValueError, match=r"expected a whole safetensors file, but .+; "
    ):
        list_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x02", b"\xff" * 8, b"\xff" * 7 + b"\x7f{}"], ids=repr
)
def test_a_length_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        list_file(path)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    told = (
        r"expected model\.safetensors or model\.safetensors\.index\.json, found neither"
    )
    with pytest.raises(ValueError, match=told):
        list_tensors(tmp_path)


def test_shards_are_one_list(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray] = {
        n: np.array([i], np.float32) for i, n in enumerate("abcdefg")
    }
    folder = write_shards(tmp_path / "x", tensors)
    found = {t.name: t.read()[0] for t in list_tensors(folder)}
    assert found == {name: array[0] for name, array in tensors.items()}


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "x")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"names model-00002-of-00003\.safetensors, not there"
    ):
        list_tensors(folder)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "x")
    shard = folder / "model-00003-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"00003\.safetensors: expected a whole"):
        list_tensors(folder)


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    folder = write_shards(
        tmp_path / "x", {n: np.array([0], np.float32) for n in "abcdef"}
    )
    index = folder / "model.safetensors.index.json"
    listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    third = "model-00003-of-00003.safetensors"
    wrong: dict[str, dict[str, str]] = {
        "a": listed | {"a": third},
        "b": {name: shard for name, shard in listed.items() if name != "b"},
        "z": listed | {"z": third},
    }
    for name, weight_map in wrong.items():
        index.write_text(json.dumps({"weight_map": weight_map}))
        told = rf"index and shards disagree on [12] tensors: {name} in "
        with pytest.raises(ValueError, match=told):
            list_tensors(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 1}}',
        "[" * 100_000,
    ],
    ids=["empty", "cut", "a list", "no map", "a number", "numbers", "very deep"],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json: (weight_map: )?expected "):
        list_tensors(tmp_path)
