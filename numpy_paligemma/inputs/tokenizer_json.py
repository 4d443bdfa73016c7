r"""The vocabulary of a ``tokenizer.json``, opened by the `tokenizers` library (an extra).

Text, ids and text again are the same as with the ``tokenizer.model`` that it was made
from, but for these; each has a test of its own (tests/test_tokenizer_json.py):

=================================  =======================  ========================
what                               ``tokenizer.model``      ``tokenizer.json``
=================================  =======================  ========================
a word of the model that the json  one id                   spelt out in pieces
does not list as an added token
(``<table>``, ``<unused0>``, …)
more than 31 spaces in a row       cut into 31, 31 … rest   cut as the merges have it
``<mask>`` where the model has     spelt out in pieces      the id behind ``<image>``,
none: transformers adds it                                  never shown
the byte 9 where the json calls    ``token_id("<0x09>")``   ``token_id("\t")``
it by its name; text is the same
=================================  =======================  ========================
"""

import json
from pathlib import Path
from typing import Any

NEEDED = 'pip install "numpy-paligemma[tokenizers]"'
OTHERWISE = (
    "put the tokenizer.model of the checkpoint that this one was made from beside it"
)


class JsonPieces:
    """A ``tokenizer.json`` as `numpy_paligemma.inputs.tokenizer.Pieces`.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: no file, a damaged one, another kind of vocabulary, or the library is
        not there.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = _open(path)
        ids: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self._size = max(ids.values(), default=-1) + 1

    @property
    def size(self) -> int:
        """One more than the last id."""
        return self._size

    def encode(self, text: str) -> list[int]:
        """Cut text into pieces; the post-processor's ``<bos>`` is left out."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def id_of(self, piece: str) -> int | None:
        """Find the id of a piece."""
        id_: int | None = self._tokenizer.token_to_id(piece)
        return id_

    def spelling(self, id_: int) -> str:
        """Spell the piece of an id below `size`; empty where there is none."""
        return self._tokenizer.id_to_token(id_) or ""


def _open(path: Path) -> Any:
    """Open the file; `tokenizers.Tokenizer`, which a plain installation lacks."""
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  an extra
    except ImportError as error:
        message = f"{path} needs the tokenizers library: {NEEDED}; or {OTHERWISE}"
        raise ValueError(message) from error
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        message = f"no tokenizer: expected {path}; {OTHERWISE}"
        raise FileNotFoundError(message) from None
    except OSError as error:
        message = f"{path}: expected a tokenizer.json, but {error.strerror}"
        raise ValueError(message) from error
    try:
        tokenizer = Tokenizer.from_buffer(data)
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        message = f"{path} is not a tokenizer.json, or damaged; download it again"
        raise ValueError(message) from error
    tokenizer.no_truncation()  # lengths are not the file's business
    tokenizer.no_padding()
    _refuse_dropout(fields, path)
    _require_what_decoding_knows(tokenizer, path)
    _require_the_ids_of_the_file(tokenizer, fields, path)
    return tokenizer


def _refuse_dropout(fields: Any, path: Path) -> None:
    """Refuse merges that are left out at random: the same text would get other ids."""
    if dropout := fields["model"].get("dropout"):
        message = (
            f"{path}: model.dropout: expected null or 0, which cuts a text the same way "
            f"always, came {dropout}; set it to null, it is meant for training"
        )
        raise ValueError(message)


def _require_what_decoding_knows(tokenizer: Any, path: Path) -> None:
    """Refuse a vocabulary that does not write spaces and bytes as Gemma's does."""
    pieces = [tokenizer.token_to_id(piece) for piece in ("<0x00>", "<0xFF>")]
    spaced = tokenizer.encode("a b", add_special_tokens=False).tokens
    if None in pieces or "".join(spaced) != "a▁b":
        message = (
            f"{path}: expected a vocabulary as Gemma's, with a piece a byte and spaces "
            f"written ▁, came one that cuts 'a b' into {spaced}; {OTHERWISE}"
        )
        raise ValueError(message)


def _require_the_ids_of_the_file(tokenizer: Any, fields: Any, path: Path) -> None:
    """Refuse added tokens whose id the library changes: it numbers on without a gap."""
    for token in fields.get("added_tokens") or []:
        word, id_ = token["content"], token["id"]
        if (found := tokenizer.token_to_id(word)) != id_:
            message = (
                f"{path}: added token {word!r} is to have id {id_}, but the ids before "
                f"it end early or it is a piece already, {found}; download it again"
            )
            raise ValueError(message)
