"""big_vision's .npz gives what the same weights give in Hugging Face form."""

import io
import json
import logging
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from big_vision_arrays import Arrays, big_vision_arrays, write_npz
from test_load import assert_same, leaves
from test_lora import factors, write_adapter
from tiny import TEXT, random_tensors, write_checkpoint, write_config
from tiny_tokenizer import paligemma_file, write_tokenizer
from tolerances import FLOAT32_LOGITS, relative_error

from numpy_paligemma import load_hf_model
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.checkpoints.big_vision.archive import archive_tensors
from numpy_paligemma.checkpoints.big_vision.config import archive_config
from numpy_paligemma.checkpoints.big_vision.names import (
    ATTENTION,
    GEMMA_2,
    IMAGE,
    LANGUAGE,
)
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.lora.adapter import read_adapter
from numpy_paligemma.paligemma import PaliGemma

VOCABULARY = 2052  # the pieces of the tokenizer; <image> is the id behind them
EMBEDDING = "language_model.model.embed_tokens.weight"
SIDE = 12  # a file without config.json cannot tell of pixels that no patch sees


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the checkpoint in Hugging Face form."""
    tensors = random_tensors()
    tensors[EMBEDDING] = tensors[EMBEDDING][:VOCABULARY]
    folder = write_checkpoint(tmp_path_factory.mktemp("hf") / "x", tensors)
    sizes = {"vocab_size": VOCABULARY}
    write_config(folder, text_config=sizes, vision_config={"image_size": SIDE})
    size = {"size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Arrays:
    """List the same numbers in big_vision's form."""
    tensors = random_tensors()
    tensors[EMBEDDING] = tensors[EMBEDDING][:VOCABULARY]
    return big_vision_arrays(tensors, read_config(folder))


def logits(place: Path, dtype: str) -> np.ndarray:
    """Show the model two pictures and a left-padded batch."""
    model, _ = load_hf_model(place, dtype=dtype, device="cpu")
    rng = np.random.default_rng(1)
    ids = rng.integers(4, VOCABULARY, (2, 14))
    ids[0, 1:10] = ids[1, :9] = model.config.image_token_id
    mask = np.ones_like(ids)
    mask[0, 0] = 0
    pixels = rng.uniform(-1, 1, (2, 3, SIDE, SIDE))
    return model.logits(ids, pixels, mask)


@pytest.mark.parametrize("held", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
def test_weights_and_logits_are_those_of_the_hugging_face_form_to_the_bit(
    folder: Path,
    arrays: Arrays,
    tmp_path: Path,
    dtype: str,
    held: str,
    compressed: bool,
) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "x.npz"
    write_npz(path, arrays, dtype=dtype, compressed=compressed)
    tensors = random_tensors()
    tensors[EMBEDDING] = tensors[EMBEDDING][:VOCABULARY]
    other = write_checkpoint(tmp_path / "hf", tensors, dtype=dtype)
    for name in ["config.json", "preprocessor_config.json"]:
        (other / name).write_bytes((folder / name).read_bytes())
    config = archive_config(path)
    assert_same(load_weights(path, config, held), load_weights(other, config, held))
    found, expected = logits(path, held), logits(other, held)
    assert found.shape == (2, 14, VOCABULARY)
    if held == "float32":  # mapped at an odd place, it is summed in another order
        assert relative_error(found, expected) <= FLOAT32_LOGITS
    else:
        np.testing.assert_array_equal(found, expected)


def test_the_sizes_are_those_of_the_config(
    folder: Path, arrays: Arrays, tmp_path: Path
) -> None:
    config = archive_config(write_npz(tmp_path / "x.npz", arrays))
    assert config == read_config(folder)
    assert config.image_token_id == VOCABULARY


def test_keys_without_the_prefix_and_a_folder_that_holds_the_file_will_do(
    arrays: Arrays, tmp_path: Path
) -> None:
    bare = {key.removeprefix("params/"): x for key, x in arrays.items()}
    write_npz(tmp_path / "x.npz", bare)
    write_tokenizer(tmp_path).rename(tmp_path / "paligemma_tokenizer.model")
    _, processor = load_hf_model(tmp_path, device="cpu")
    assert processor.image_settings.size == SIDE
    assert processor.tokenizer.image_token_id == VOCABULARY
    load_hf_model(str(tmp_path / "x.npz"), device="cpu")
    write_npz(tmp_path / "y.npz", bare)
    with pytest.raises(ValueError, match=r"expected one .* x\.npz, y\.npz; say which$"):
        load_hf_model(tmp_path, device="cpu")


def test_the_mask_decoder_beside_it_is_not_taken_for_a_checkpoint(
    arrays: Arrays, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "vae-oid.npz").write_bytes(b"never opened")
    write_npz(tmp_path / "PALI.npz", arrays)
    _, processor = load_hf_model(tmp_path, device="cpu")
    assert processor.image_settings.size == SIDE
    (tmp_path / "PALI.npz").unlink()
    with pytest.raises(ValueError, match=r"config\.json: no such file; expected a"):
        load_hf_model(tmp_path, device="cpu")


def test_query_key_and_value_may_lie_in_one_array(tmp_path: Path) -> None:
    """big_vision keeps them so where every query head has a key-value head."""
    heads = TEXT["num_key_value_heads"]
    tensors = random_tensors()
    for name in tensors:
        if name.endswith("q_proj.weight") and "language" in name:
            tensors[name] = tensors[name][: heads * 6]
        if name.endswith("o_proj.weight"):
            tensors[name] = tensors[name][:, : heads * 6]
    folder = write_checkpoint(tmp_path / "hf", tensors)
    sizes = {"num_attention_heads": heads}
    write_config(folder, text_config=sizes, vision_config={"image_size": SIDE})
    config = read_config(folder)
    path = tmp_path / "x.npz"
    write_npz(path, big_vision_arrays(tensors, config, in_one=True))
    from_file = archive_config(path)
    assert from_file.text == config.text
    ids = np.array([[config.image_token_id] * 9 + [2, 70, 6]])
    pixels = np.full((1, 3, SIDE, SIDE), 0.3)
    found = [
        PaliGemma(config, load_weights(place, config, "float64")).logits(
            ids, pixels, np.ones_like(ids)
        )
        for place in [path, folder]
    ]
    np.testing.assert_array_equal(*found)


def zeros(n: dict[str, int]) -> Arrays:
    """Make the arrays of a PaliGemma 2 of these sizes, nothing in them."""
    n = dict.fromkeys("lWAaMpqcNHKhFV", 1) | {"1": 1, "2": 2} | n
    lines = [*IMAGE, *ATTENTION, *LANGUAGE, *GEMMA_2]
    shapes = {line.key: [n[letter] for letter in line.stored.split()] for line in lines}
    return {key: np.zeros(shape, np.float16) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("width", "depth", "scalar"), [(2304, 26, 256), (3584, 42, 256), (4608, 46, 144)]
)
def test_what_no_array_of_a_paligemma_2_holds_is_as_published(
    tmp_path: Path,
    width: int,
    depth: int,
    scalar: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_npz(tmp_path / "x.npz", zeros({"D": width, "L": depth}), dtype="F16")
    text = archive_config(path).text
    assert text.post_norms
    assert text.query_scale == scalar**-0.5
    assert (text.score_cap, text.logit_cap, text.window) == (50, 30, 4096)
    assert text.sliding_blocks == frozenset(range(0, depth, 2))
    assert not caplog.records


def test_a_paligemma_2_of_other_sizes_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_npz(tmp_path / "x.npz", zeros({"D": 10, "L": 3, "h": 6}), dtype="F16")
    assert archive_config(path).text.query_scale == 6**-0.5
    told = "no published Gemma 2 is 10 wide and 3 layers deep; its queries are taken to"
    assert told in caplog.text


def test_norms_of_both_families_or_of_neither_are_refused(
    arrays: Arrays, tmp_path: Path
) -> None:
    gains = arrays["params/llm/layers/pre_ffw_norm/scale"]
    extra = {"params/llm/layers/post_ffw_norm/scale": gains}
    write_npz(tmp_path / "x.npz", arrays | extra)
    with pytest.raises(ValueError, match=r"1 unexpected \(llm/layers/post_ffw_norm/"):
        archive_config(tmp_path / "x.npz")
    extra = {"params/llm/layers/post_attention_norm/scale": gains}
    write_npz(tmp_path / "x.npz", arrays | extra)
    with pytest.raises(ValueError, match=r"1 missing \(llm/layers/post_ffw_norm/scale"):
        archive_config(tmp_path / "x.npz")


def test_an_array_is_read_once_and_matrices_are_rows_in_one_piece(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays, dtype="BF16", compressed=True)
    config = archive_config(path)
    read: list[str] = []
    real = np.lib.format.read_array

    def count(file: zipfile.ZipExtFile, **options: object) -> np.ndarray:
        read.append(file.name)
        return real(file, **options)

    monkeypatch.setattr(np.lib.format, "read_array", count)
    w = load_weights(path, config, "bfloat16")
    assert sorted(read) == sorted(f"{key}.npy" for key in arrays)
    for matrix in [w.decoder.embed, w.decoder.blocks[1].o_proj]:
        assert isinstance(matrix, HeldMatrix)
        assert matrix.numbers.flags.c_contiguous
        assert matrix.numbers.flags.aligned


def test_arrays_that_lie_at_an_odd_place_are_moved_to_an_even_one(
    arrays: Arrays, tmp_path: Path
) -> None:
    """Not mapped there: NumPy would copy the whole matrix at every product."""
    for prefix in ["params/", ""]:  # of two places, seven bytes apart, one is odd
        named = {key.replace("params/", prefix): x for key, x in arrays.items()}
        path = write_npz(tmp_path / "x.npz", named)
        w = load_weights(path, archive_config(path), "float32")
        assert all(x.flags.aligned for _, x in leaves(w))


def test_stored_arrays_are_mapped_and_not_read(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    monkeypatch.setattr(np.lib.format, "read_array", None)
    load_weights(path, archive_config(path), "float32")


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("prefix", ["params/", ""])  # one lies at an odd place
@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_mapped_and_what_is_a_copy_is_known_before_it_is_read(
    arrays: Arrays, tmp_path: Path, dtype: str, prefix: str, compressed: bool
) -> None:
    named = {key.replace("params/", prefix): x for key, x in arrays.items()}
    path = write_npz(tmp_path / "x.npz", named, dtype=dtype, compressed=compressed)
    found = archive_tensors(path)
    mapped = {name: is_mapped(part.read()) for name, part in found.items()}
    assert {name: part.mapped for name, part in found.items()} == mapped
    assert not (compressed and any(mapped.values()))


def is_mapped(x: np.ndarray) -> bool:
    """Follow the views down to what they are views of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return isinstance(x.base, mmap.mmap)


def test_an_adapter_is_merged_as_into_the_hugging_face_form(
    folder: Path, arrays: Arrays, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays, compressed=True)
    config = archive_config(path)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(np.float32) for s in [(2, VOCABULARY), (10, 2)])
    module = f"base_model.model.{EMBEDDING.removesuffix('.weight')}"
    given = factors()
    given |= {f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b}
    targets = ["q_proj", "o_proj", "embed_tokens"]
    where = write_adapter(tmp_path / "a", given, target_modules=targets)
    found, expected = (
        load_weights(place, config, "float32", read_adapter(where))
        for place in [path, folder]
    )
    assert_same(found, expected)
    assert not np.array_equal(found.decoder.embed, found.decoder.head)


def test_the_optimisers_state_is_left_out_and_said_to_be(
    arrays: Arrays, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"opt/0/mu": np.ones(3), "opt/0/nu": np.ones(3)}
    path = write_npz(tmp_path / "x.npz", arrays | state)
    with caplog.at_level(logging.INFO):
        archive_config(path)
    assert "left out: the optimiser's state (2 arrays)" in caplog.text


Q = "llm/layers/attn/q_einsum/w"


def renamed(arrays: Arrays) -> Arrays:
    return {key.replace(Q, "llm/odd"): x for key, x in arrays.items()}


def changed(
    key: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Arrays], Arrays]:
    key = f"params/{key}"
    return lambda arrays: arrays | {key: change(arrays[key])}


BROKEN: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "renamed": (renamed, f"1 missing ({Q}); 1 unexpected (llm/odd)"),
    "a pooling head": (
        lambda a: a | {"params/img/MAPHead_0/probe": np.ones((1, 1, 15))},
        "1 unexpected (img/MAPHead_0/probe)",
    ),
    "transposed": (
        changed(Q, lambda x: x.swapaxes(1, 2)),
        f" of another shape ({Q} expected (3, 10, 10, 6), found (3, 10, 4, 6), ",
    ),
    "a layer short": (
        changed("llm/layers/mlp/linear", lambda x: x[:-1]),
        "1 of another shape (llm/layers/mlp/linear expected (3, 22, 10), found (2, 22, ",
    ),
    "an axis short": (
        changed("img/pos_embedding", lambda x: x[0]),
        "(img/pos_embedding expected 3 axes, found (9, 15)",
    ),
    "two positions": (
        changed("img/pos_embedding", lambda x: np.repeat(x, 2, 0)),
        "(img/pos_embedding expected (1, 9, 15), found (2, 9, 15)",
    ),
    "whole numbers": (
        changed(Q, lambda x: x.astype(np.int64)),
        f"1 of another dtype than bfloat16, float16, float32 ({Q} is int64)",
    ),
    "no square of patches": (
        changed("img/pos_embedding", lambda x: x[:, :8]),
        "expected that patches fill a square, found 8",
    ),
    "no square patch": (
        changed("img/embedding/kernel", lambda x: x[:3]),
        "expected that a patch is square, found 3 by 4 pixels",
    ),
    "three heads by two": (
        lambda a: changed(Q, lambda x: x[:, :3])(
            changed("llm/layers/attn/attn_vec_einsum/w", lambda x: x[:, :3])(a)
        ),
        "expected that kv heads divide the heads, found 2 and 3",
    ),
    "a vision head short": (
        lambda a: {
            k: x[:, :4]
            if k.endswith(("out/kernel", "y/bias", "value/bias"))
            else x[:, :, :4]
            if "DotProduct" in k and k.endswith("kernel")
            else x
            for k, x in a.items()
        },
        "expected that vision heads share the width, found 4 of 3 in 15",
    ),
    "no layers": (
        lambda a: {k: x[:0] if "llm/layers" in k else x for k, x in a.items()},
        "expected that no size is nought, found ",
    ),
    "a key twice": (
        lambda a: a | {Q: a[f"params/{Q}"]},
        f"1 there more than once ({Q})",
    ),
    "no arrays": (lambda _: {}, "missing (img/Transformer/encoder_norm/bias, "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_agree_is_named_in_one_line(
    arrays: Arrays, tmp_path: Path, case: str
) -> None:
    break_it, told = BROKEN[case]
    path = tmp_path / "x.npz"
    np.savez(path, **break_it(arrays))
    with pytest.raises(ValueError, match=r"are not those|expected that") as caught:
        load_hf_model(path, device="cpu")
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused_in_one_line(
    arrays: Arrays, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    whole = path.read_bytes()
    for length in [0, 3, *range(len(whole) // 9, len(whole), len(whole) // 9)]:
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match="expected a whole npz file, but"
        ) as caught:
            load_hf_model(path, device="cpu")
        assert "\n" not in str(caught.value)


def member(content: bytes, name: str = "params/img/head/bias.npy") -> bytes:
    """Make a zip of one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, content)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


DAMAGED = {
    "no zip": b"nothing of the kind",
    "no npy": member(b"text"),
    "pickled": member(npy(np.array([{}, 1], object))),
    "numbers short": member(npy(np.ones(30))[:-8]),
    "a header that is none": member(npy(np.ones(3)).replace(b"descr", b"dxscr")),
    "a name that lies": member(npy(np.ones(3))).replace(
        b"params/img", b"params/imh", 1
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(DAMAGED[case])
    told = r"x\.npz: expected a whole npz file, but .*; download it again$"
    with pytest.raises(ValueError, match=told) as caught:
        load_hf_model(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_bit_flipped_in_compressed_numbers_is_noticed(
    arrays: Arrays, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays, compressed=True)
    write_tokenizer(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"input_embedding") + 9000] ^= 1
    path.write_bytes(data)
    told = "expected a whole npz file, but llm/embedder/input_embedding: "
    with pytest.raises(ValueError, match=told.replace("llm", ".*llm")):
        load_hf_model(path, device="cpu")


def test_a_tokenizer_that_is_not_there_or_too_large_is_told(
    arrays: Arrays, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    told = r"no tokenizer: expected .*/tokenizer\.model; take the tokenizer\.model"
    with pytest.raises(FileNotFoundError, match=told):
        load_hf_model(path, device="cpu")
    (tmp_path / "tokenizer.model").write_bytes(paligemma_file())
    table = "params/llm/embedder/input_embedding"
    write_npz(path, arrays | {table: arrays[table][:99]})
    told = r"<image> cannot have id 99, .*|by x\.npz the embedding has 99 rows"
    with pytest.raises(ValueError, match=told):
        load_hf_model(path, device="cpu")


def test_a_file_that_is_not_there_is_no_hubs_name(tmp_path: Path) -> None:
    for name in ["x.npz", "owner/x.npz", str(tmp_path / "x.npz")]:
        with pytest.raises(
            OSError, match=r"x\.npz: no such file; expected a checkpoint"
        ):
            load_hf_model(name, device="cpu")
