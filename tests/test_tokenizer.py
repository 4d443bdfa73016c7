"""Text to ids and back, with a tokenizer of Gemma's settings."""

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_tokenizer import (
    LOCATIONS,
    SEGMENTS,
    gemma_file,
    paligemma_file,
    user_defined,
    write_tokenizer,
)

from numpy_paligemma.inputs.tokenizer import Tokenizer

SPECIALS = ["<image>", "<bos>", "<eos>", "<pad>", "<unk>"]
# the marks that text cannot hold as they are: a special word, and the space's stand-in
PLAIN = st.text().filter(lambda s: "▁" not in s and not any(x in s for x in SPECIALS))


@pytest.fixture(scope="module", params=["tokenizer.model", "tokenizer.json"])
def model_path(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), request.param)


@pytest.fixture(scope="module")
def tokenizer(model_path: Path) -> Tokenizer:
    return Tokenizer(model_path)


@pytest.fixture(scope="module")
def pieces() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=paligemma_file())


def byte_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    return [tokenizer.token_id(f"<0x{byte:02X}>") for byte in data]


def test_ids_lie_as_in_the_published_file(tokenizer: Tokenizer) -> None:
    named = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id]
    assert named == [0, 1, 2]
    assert tokenizer.token_id("<unk>") == 3
    first = tokenizer.token_id("<loc0000>")
    assert [tokenizer.token_id(x) - first for x in LOCATIONS] == list(range(1024))
    assert [tokenizer.token_id(x) - first for x in SEGMENTS] == list(range(1024, 1152))
    assert tokenizer.image_token_id == first + 1152
    assert tokenizer.vocab_size == first + 1153


@pytest.mark.parametrize("word", [*SPECIALS, "<loc0000>", "<loc1023>", "<seg127>"])
@pytest.mark.parametrize("text", ["{}", "a{}b", " {} ", "{0}{0}", "<{}>", "\n{}\n"])
def test_these_words_are_one_id_wherever_they_stand(
    tokenizer: Tokenizer, word: str, text: str
) -> None:
    around = text.replace("{0}", "{}").split("{}")
    expected = [i for part in around for i in [*tokenizer.encode(part), -1]][:-1]
    whole = [tokenizer.token_id(word) if i == -1 else i for i in expected]
    assert tokenizer.encode(text.format(word)) == whole


def test_a_location_that_does_not_exist_is_spelt_out(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("<loc1024>")) > 4
    assert tokenizer.decode(tokenizer.encode("<loc1024>")) == "<loc1024>"


def test_nothing_is_put_before_the_text_or_after_it(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.encode("cow") == [tokenizer.token_id("cow")]
    assert tokenizer.encode(" cow") == [tokenizer.token_id("▁cow")]


def test_a_run_of_newlines_is_one_id_and_longer_ones_split(
    tokenizer: Tokenizer,
) -> None:
    one, thirty_one = tokenizer.token_id("\n"), tokenizer.token_id("\n" * 31)
    assert thirty_one - one == 30
    assert tokenizer.encode("\n" * 2) == [one + 1]
    assert tokenizer.encode("\n" * 64) == [thirty_one, thirty_one, one + 1]


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("2024") == [tokenizer.token_id(digit) for digit in "2024"]


@given(PLAIN)
@example("first line\n\n  second\tline\r\n\n")
@example("emoji 👩‍👩‍👧 🐮 and CJK 日本語のキャプション")
@example("  two  spaces,   three" + " " * 70 + "seventy ")
@example("<start_of_turn> <loc0012><seg003> [@BOS@] <b>bold</b> \x00\x07 𐍈")
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.sampled_from([*SPECIALS, "<mask>", "a b", "🐮", "<loc0001>"])))
def test_special_words_are_skipped_only_when_asked(
    tokenizer: Tokenizer, words: list[str]
) -> None:
    ids = tokenizer.encode("".join(words))
    shown = [word for word in words if word not in {*SPECIALS, "<mask>"}]
    assert tokenizer.decode(ids) == "".join(shown)
    assert tokenizer.decode(ids, skip_special_tokens=False) == "".join(words)


def test_decoding_takes_off_no_letters_of_the_special_words(
    tokenizer: Tokenizer,
) -> None:
    # what text.strip("<bos>") would do
    ids = [tokenizer.bos_token_id, *tokenizer.encode("sobs <boss>")]
    assert tokenizer.decode(ids) == "sobs <boss>"


def test_rows_behind_the_vocabulary_have_no_text(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    ids = [size, *tokenizer.encode("cow"), size + 62]
    assert tokenizer.decode(ids) == "cow"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "cow"
    first, *rest = byte_ids(tokenizer, "é".encode())
    assert tokenizer.decode([first, size, *rest]) == "é"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("🐮".encode(), "🐮"),
        ("🐮".encode()[:3], "���"),
        (b"\xff" + "é".encode() + b"\xe4\xbd", "�é��"),
        (b"A\xe4\xbdB", "A��B"),
        (b"\xed\xa0\x80\xf4\x90\x80\x80", "�" * 7),  # a surrogate; above U+10FFFF
    ],
    ids=repr,
)
def test_bytes_that_are_not_utf8_give_one_mark_each(
    tokenizer: Tokenizer, data: bytes, text: str
) -> None:
    assert tokenizer.decode(byte_ids(tokenizer, data)) == text


@given(st.data())
def test_decoding_agrees_with_sentencepiece_on_any_ids(
    tokenizer: Tokenizer,
    pieces: sentencepiece.SentencePieceProcessor,
    data: st.DataObject,
) -> None:
    # from 5 on: sentencepiece prints <unk> and <mask>, and has no <image>
    anything = st.integers(5, pieces.vocab_size() - 1)
    first_byte = tokenizer.token_id("<0x00>")
    some_bytes = st.integers(first_byte, first_byte + 255)
    ids = data.draw(st.lists(some_bytes | anything, max_size=20))
    assert tokenizer.decode(ids) == pieces.decode(ids)
    assert "".join(tokenizer.stream(iter(ids))) == pieces.decode(ids)


def test_streaming_holds_back_a_character_until_its_bytes_are_there(
    tokenizer: Tokenizer,
) -> None:
    cow = tokenizer.encode(" cow")
    fed: list[int] = []
    ids = [*cow, *byte_ids(tokenizer, "🐮é".encode()), *cow, tokenizer.eos_token_id]
    stream = tokenizer.stream(fed.append(i) or i for i in ids)
    seen = [(text, len(fed)) for text in stream]
    assert seen == [(" cow", 1), ("🐮", 5), ("é", 7), (" cow", 8)]


def test_streaming_gives_up_on_a_character_at_the_end(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("a"), *byte_ids(tokenizer, "🐮".encode()[:2])]
    assert list(tokenizer.stream(ids)) == ["a", "��"]


def test_a_piece_that_does_not_exist_has_no_id(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="has no piece '<loc1024>'"):
        tokenizer.token_id("<loc1024>")


def test_the_config_may_put_image_behind_the_file_but_not_inside(
    model_path: Path, tokenizer: Tokenizer
) -> None:
    moved = Tokenizer(model_path, image_token_id=tokenizer.vocab_size + 7)
    expected = [*tokenizer.encode("a"), tokenizer.vocab_size + 7]
    assert moved.encode("a<image>") == expected
    assert moved.decode([*expected, tokenizer.vocab_size]) == "a"
    inside = tokenizer.token_id("<loc0000>")
    with pytest.raises(ValueError, match=rf"id {inside}, .*'<loc0000>'; .* say \d+$"):
        Tokenizer(model_path, image_token_id=inside)


def test_image_may_be_a_piece_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(paligemma_file() + user_defined("<image>"))
    tokenizer = Tokenizer(path)
    assert tokenizer.image_token_id == tokenizer.token_id("<seg127>") + 1
    assert tokenizer.vocab_size == tokenizer.image_token_id + 1
    assert tokenizer.encode("<image>") == [tokenizer.image_token_id]
    assert Tokenizer(path, tokenizer.image_token_id).encode("a") == tokenizer.encode(
        "a"
    )


def test_text_that_is_no_unicode_is_refused(tokenizer: Tokenizer) -> None:
    # what Python makes of a byte on the command line that is not UTF-8
    with pytest.raises(ValueError, match=r"not valid Unicode: '\\udcff' at position 3"):
        tokenizer.encode("cow\udcff")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is not a sentencepiece model, or damaged"),
        (b'{"model": {"type": "BPE"}}', "is not a sentencepiece model, or damaged"),
        (paligemma_file()[:5000], "is not a sentencepiece model, or damaged"),
        (gemma_file(), r"came one of \d+ pieces without <loc0000>; .* \(plain Gemma's"),
        (gemma_file(pad_id=-1), r"came one of \d+ pieces without <pad>; take the"),
    ],
    ids=["empty", "json", "cut", "gemma", "no-padding"],
)
def test_another_file_is_refused_in_one_line(
    data: bytes, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=told) as caught:
        Tokenizer(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # sentencepiece likes to log


def test_no_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no tokenizer: expected .*\.model; "):
        Tokenizer(tmp_path / "tokenizer.model")
