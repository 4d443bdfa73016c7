"""A checkpoint's hash: the same for the same weights, another for others."""

from pathlib import Path

import numpy as np
import pytest
from big_vision_arrays import big_vision_arrays, write_npz
from test_lora import factors, write_adapter
from tiny import (
    random_tensors,
    stored,
    write_checkpoint,
    write_safetensors,
    write_shards,
)

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.identity import (
    PAGE,
    PAGES,
    config_sha256,
    weights_sha256,
)

EMBEDDING = "language_model.model.embed_tokens.weight"  # larger than all pages together


def modern(name: str) -> str:
    """Rename a published tensor as transformers 5 saves it."""
    for old, new in [
        ("vision_tower.vision_model", "model.vision_tower"),
        ("language_model.model", "model.language_model"),
        ("multi_modal_projector", "model.multi_modal_projector"),
    ]:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def test_files_and_names_do_not_matter(tiny_folder: Path, tmp_path: Path) -> None:
    first = weights_sha256(tiny_folder)
    assert weights_sha256(write_shards(tmp_path / "shards")) == first
    renamed = write_checkpoint(tmp_path / "renamed", rename=modern)
    assert weights_sha256(renamed) == first
    turned = dict(reversed(random_tensors().items()))
    assert weights_sha256(write_checkpoint(tmp_path / "turned", turned)) == first


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_another_dtype_is_another_hash(
    tiny_folder: Path, tmp_path: Path, dtype: str
) -> None:
    other = write_checkpoint(tmp_path / "x", dtype=dtype)
    assert weights_sha256(other) != weights_sha256(tiny_folder)


@pytest.mark.parametrize("name", random_tensors())
def test_a_number_moved_in_any_tensor_is_another_hash(
    tiny_folder: Path, tmp_path: Path, name: str
) -> None:
    tensors = random_tensors()
    tensors[name].flat[-1] += 1
    other = write_checkpoint(tmp_path / "x", tensors)
    assert weights_sha256(other) != weights_sha256(tiny_folder)


def test_of_a_large_tensor_some_pages_count(tmp_path: Path) -> None:
    x = np.zeros(10 * PAGES * PAGE // 4, np.float32)
    folder = tmp_path / "x"
    folder.mkdir()

    def hashed() -> str:
        write_safetensors(folder / "model.safetensors", {"x": stored(x)})
        return weights_sha256(folder)

    hashes = [hashed()]
    for place in np.linspace(0, len(x) - 1, PAGES).astype(int):
        x[place] = 1
        hashes.append(hashed())
    assert len(set(hashes)) == 1 + PAGES
    x[PAGE // 2] = 1  # between the first two pages
    assert hashed() == hashes[-1]


def test_an_adapter_is_another_hash(tiny_folder: Path, tmp_path: Path) -> None:
    adapters = [
        None,
        write_adapter(tmp_path / "a"),
        write_adapter(tmp_path / "b", factors(4)),
    ]
    adapters.append(write_adapter(tmp_path / "c", lora_alpha=1))
    assert len({weights_sha256(tiny_folder, adapter) for adapter in adapters}) == 4


def test_an_npz_is_hashed_by_what_is_in_it(tiny_folder: Path, tmp_path: Path) -> None:
    arrays = big_vision_arrays(random_tensors(), read_config(tiny_folder))
    plain = write_npz(tmp_path / "plain.npz", arrays)
    packed = write_npz(tmp_path / "packed.npz", arrays, compressed=True)
    key = next(iter(arrays))
    moved = write_npz(tmp_path / "moved.npz", arrays | {key: arrays[key] + 1})
    assert weights_sha256(packed) == weights_sha256(plain) != weights_sha256(moved)
    assert config_sha256(plain) == ""


def test_a_config_is_hashed_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    same, other = (write_checkpoint(tmp_path / name) for name in "ab")
    (other / "config.json").write_text((same / "config.json").read_text() + " ")
    assert config_sha256(same) == config_sha256(tiny_folder) != config_sha256(other)
