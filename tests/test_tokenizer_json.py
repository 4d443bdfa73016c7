"""A tokenizer.json gives the ids of the tokenizer.model; where not, it is listed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from odd_texts import odd_texts
from tiny import write_checkpoint
from tiny_tokenizer import tokenizers_twin, write_tokenizer

from numpy_paligemma import load_hf_model
from numpy_paligemma.inputs.tokenizer import Tokenizer

MINIATURE = Path(__file__).parents[1] / "weights" / "miniature"


def twin(folder: Path, change: Callable[[dict[str, Any]], object] = id) -> Tokenizer:
    """Write the tiny tokenizer.json, changed, and open it."""
    path = write_tokenizer(folder, "tokenizer.json")
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))
    return Tokenizer(path)


@pytest.fixture(params=["tiny", "miniature"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tokenizer, Tokenizer]:
    if request.param == "tiny":
        return Tokenizer(write_tokenizer(tmp_path)), twin(tmp_path)
    files = [MINIATURE / "tokenizer.model", MINIATURE / "tokenizer.json"]
    return Tokenizer(files[0]), Tokenizer(files[1])


def test_a_thousand_odd_texts_give_the_ids_and_the_text_of_the_model(
    pair: tuple[Tokenizer, Tokenizer],
) -> None:
    model, json_ = pair
    for text in odd_texts(1000):
        ids = model.encode(text)
        assert json_.encode(text) == ids, text
        for skip in [True, False]:
            expected = list(model.stream(ids, skip))
            assert list(json_.stream(ids, skip)) == expected, text


def test_every_id_and_every_count_is_the_same(
    pair: tuple[Tokenizer, Tokenizer],
) -> None:
    model, json_ = pair
    for name in ["bos", "eos", "pad", "image"]:
        field = f"{name}_token_id"
        assert getattr(json_, field) == getattr(model, field)
    assert json_.vocab_size == model.vocab_size
    assert json_.pieces == model.pieces
    for i in range(-3, model.vocab_size + 3):
        assert json_.decode([i]) == model.decode([i]), i


def test_departure_a_word_that_the_json_does_not_add_is_spelt_out(
    tmp_path: Path,
) -> None:
    def without(fields: dict[str, Any]) -> None:
        words = fields["added_tokens"]
        words[:] = [token for token in words if token["content"] != "<table>"]

    model, json_ = Tokenizer(write_tokenizer(tmp_path)), twin(tmp_path, without)
    assert model.encode("<table>") == [model.token_id("<table>")]
    assert len(json_.encode("<table>")) > 2
    assert json_.decode(json_.encode("<table>")) == "<table>"


def test_departure_more_spaces_than_a_piece_holds_are_cut_elsewhere(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizers_twin(cuts=1).save(str(path))
    model, json_ = Tokenizer(write_tokenizer(tmp_path)), Tokenizer(path)
    for n in [1, 2, 31, 32, 70]:
        spaces = " " * n
        assert (json_.encode(spaces) == model.encode(spaces)) == (n <= 31)
        assert json_.decode(json_.encode(spaces)) == spaces


def test_departure_mask_behind_image_is_an_id_that_is_never_shown(
    tmp_path: Path,
) -> None:
    fields = json.loads((MINIATURE / "tokenizer.json").read_bytes())
    behind = {"content": "<mask>", "id": fields["added_tokens"][-1]["id"] + 1}
    fields["added_tokens"].append(fields["added_tokens"][-1] | behind)
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    model = Tokenizer(MINIATURE / "tokenizer.model")
    json_ = Tokenizer(tmp_path / "tokenizer.json")
    assert json_.encode("a<mask>") == [*model.encode("a"), model.vocab_size]
    assert json_.decode(json_.encode("a<mask>")) == "a"
    assert model.decode(model.encode("a<mask>")) == "a<mask>"


def test_departure_the_byte_nine_may_go_by_its_name(tmp_path: Path) -> None:
    def rename(fields: dict[str, Any]) -> None:
        vocabulary = fields["model"]["vocab"]
        vocabulary["\t"] = vocabulary.pop("<0x09>")

    model, json_ = Tokenizer(write_tokenizer(tmp_path)), twin(tmp_path, rename)
    nine = model.token_id("<0x09>")
    assert json_.token_id("\t") == nine
    assert json_.encode("a\tb") == model.encode("a\tb")
    first = model.token_id("<0xF0>")
    for ids in [[nine], [first, nine], [first, nine, first + 1]]:
        assert json_.decode(ids) == model.decode(ids)
    with pytest.raises(ValueError, match="has no piece '<0x09>'"):
        json_.token_id("<0x09>")


def test_what_the_file_says_of_length_and_bos_is_left_alone(tmp_path: Path) -> None:
    def fuss(fields: dict[str, Any]) -> None:
        cut = {"direction": "Right", "max_length": 2, "stride": 0}
        fields["truncation"] = cut | {"strategy": "LongestFirst"}
        pad = {
            "direction": "Right",
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        }
        fields["padding"] = pad | {"strategy": {"Fixed": 9}, "pad_to_multiple_of": None}
        a = {"Sequence": {"id": "A", "type_id": 0}}
        bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
        fields["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [bos, a],
            "pair": [bos, a, a],
            "special_tokens": {
                "<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}
            },
        }

    model, json_ = Tokenizer(write_tokenizer(tmp_path)), twin(tmp_path, fuss)
    for text in ["", "a", "caption en and a long tail"]:
        assert json_.encode(text) == model.encode(text)


def renumbered(fields: dict[str, Any]) -> None:
    fields["added_tokens"][-1]["id"] += 1


def byte_level(fields: dict[str, Any]) -> None:
    fields["normalizer"]["content"] = "Ġ"


def no_bytes(fields: dict[str, Any]) -> None:
    vocabulary = fields["model"]["vocab"]
    vocabulary["<0xff>"] = vocabulary.pop("<0xFF>")


def plain_gemma(fields: dict[str, Any]) -> None:
    vocabulary = fields["model"]["vocab"]
    fields["model"]["vocab"] = {k: v for k, v in vocabulary.items() if "<loc" not in k}
    fields["added_tokens"] = []


def prefixed(fields: dict[str, Any]) -> None:
    front = {"type": "Prepend", "prepend": "▁"}
    steps = [front, fields["normalizer"]]
    fields["normalizer"] = {"type": "Sequence", "normalizers": steps}


def chancy(fields: dict[str, Any]) -> None:
    fields["model"]["dropout"] = 0.1


BROKEN: dict[Callable[[dict[str, Any]], None], str] = {
    renumbered: r"added token '<seg127>' is to have id \d+, but .* \d+; download it again",
    byte_level: r"expected a vocabulary as Gemma's, .* cuts 'a b' into \[",
    no_bytes: r"expected a vocabulary as Gemma's, with a piece a byte",
    prefixed: r"came one that cuts 'a b' into \['▁a', '▁b'\]",
    chancy: r"model\.dropout: expected null or 0, which cuts .* always, came 0\.1; ",
    plain_gemma: r"came one of \d+ pieces without <loc0000>; take the tokenizer.json",
}


@pytest.mark.parametrize("change", BROKEN, ids=lambda f: f.__name__)
def test_another_vocabulary_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=BROKEN[change]) as caught:
        twin(tmp_path, change)
    assert str(caught.value).startswith(str(tmp_path / "tokenizer.json"))
    assert "\n" not in str(caught.value)


def no_merges(fields: dict[str, Any]) -> None:
    fields["model"]["merges"] = []


def cut_merges(fields: dict[str, Any]) -> None:
    merges = fields["model"]["merges"]
    del merges[len(merges) * 7 // 8 :]


def stripped(fields: dict[str, Any]) -> None:
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    steps = [strip, fields["normalizer"]]
    fields["normalizer"] = {"type": "Sequence", "normalizers": steps}


LOST: dict[Callable[[dict[str, Any]], None], str] = {
    no_merges: r"(\d+) of \1 whole words that are pieces .* come in several, such as ",
    cut_merges: r"\d of \d+ whole words that are pieces .* come in several, such as ",
    stripped: r"' a  .* ' comes back as 'a  .*[^ ]'; download it again",
}


@pytest.mark.parametrize("change", LOST, ids=lambda f: f.__name__)
@pytest.mark.parametrize("source", ["tiny", "miniature"])
def test_what_a_vocabulary_has_lost_shows_when_the_checkpoint_is_loaded(
    change: Callable[[dict[str, Any]], None], source: str, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    if source == "tiny":
        write_checkpoint(folder)
        write_tokenizer(folder, "tokenizer.json")
    else:
        shutil.copytree(MINIATURE, folder)
    (folder / "tokenizer.model").unlink()
    path = folder / "tokenizer.json"
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=LOST[change]) as caught:
        load_hf_model(folder, device="cpu")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dropout", [None, 0.0])
def test_a_dropout_that_is_off_is_none(dropout: object, tmp_path: Path) -> None:
    json_ = twin(tmp_path, lambda fields: fields["model"].update(dropout=dropout))
    assert len(json_.encode(" cow")) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": {"type": "BPE"}}', b"[" * 100_000],
    ids=["empty", "no-model", "list", "binary", "no-vocabulary", "deep"],
)
def test_a_damaged_file_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json, or damaged"):
        Tokenizer(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = (MINIATURE / "tokenizer.json").read_bytes()
    path = tmp_path / "tokenizer.json"
    for length in range(1, len(whole) - 2, len(whole) // 12):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="or damaged; download it again"):
            Tokenizer(path)


def test_the_config_may_not_move_an_image_that_the_file_has() -> None:
    path = MINIATURE / "tokenizer.json"
    id_ = Tokenizer(path).image_token_id
    assert Tokenizer(path, id_).image_token_id == id_
    for other in [id_ + 1, id_ - 1, id_ + 9]:
        told = rf"cannot have id {other}, in tokenizer\.json .* should say {id_}$"
        with pytest.raises(ValueError, match=told):
            Tokenizer(path, other)


def test_a_checkpoint_is_loaded_with_either_and_the_model_wins(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    write_tokenizer(folder, "tokenizer.json")
    _, by_model = load_hf_model(folder, device="cpu")
    assert by_model.tokenizer.token_id("▁cow")
    (folder / "tokenizer.json").write_bytes(b"never opened")
    load_hf_model(folder, device="cpu")
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json, or damaged"):
        load_hf_model(folder, device="cpu")
    write_tokenizer(folder, "tokenizer.json")
    _, by_json = load_hf_model(folder, device="cpu")
    assert by_json.tokenizer.encode("a cow") == by_model.tokenizer.encode("a cow")


def test_without_the_library_both_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tokenizer(tmp_path, "tokenizer.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    told = (
        r'needs the tokenizers library: pip install "numpy-paligemma\[tokenizers\]"; '
        r"or put the tokenizer\.model of the checkpoint that this one was made from "
    )
    with pytest.raises(ValueError, match=told):
        Tokenizer(path)


def test_no_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no tokenizer: expected .*\.json; "):
        Tokenizer(tmp_path / "tokenizer.json")
