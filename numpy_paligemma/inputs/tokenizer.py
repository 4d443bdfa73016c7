"""Text to token ids and back, with the checkpoint's own vocabulary.

PaliGemma's vocabulary is Gemma's (byte-pair encoding, spaces written ``▁``, bytes for
characters it lacks, nothing normalised) with 1,152 words baked in behind it:

    0 <pad>  1 <eos>  2 <bos>  3 <unk>  …  256000 <loc0000> … <loc1023>
    257024 <seg000> … <seg127>  257152 <image>

It comes as ``tokenizer.model`` or as ``tokenizer.json``. What holds for both stands
here; the two files beside this one open one each. ``<image>`` is not in the former.
sentencepiece would spell it letter by letter, and ``<bos>`` too; so those words are cut
out of the text first and the rest is encoded piece by piece, as transformers does.
Source: big_vision, ``pp/ops_text.py`` and the tokenizer notes of
``configs/proj/paligemma/README.md``.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Protocol

from numpy_paligemma.inputs.tokenizer_json import JsonPieces
from numpy_paligemma.inputs.tokenizer_model import SentencePieces

IMAGE = "<image>"

_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_SPACE = "▁"  # U+2581, the vocabulary's way to write a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# the decoder hides a wrong byte in a lone surrogate; every one becomes U+FFFD
_WRONG_BYTES = dict.fromkeys(range(0xDC80, 0xDD00), "\ufffd")


class Pieces(Protocol):
    """A vocabulary and its way to cut text: what the two kinds of file have in common."""

    @property
    def size(self) -> int:
        """One more than the last id."""

    def encode(self, text: str) -> list[int]:
        """Cut text into pieces; control words are not looked for."""

    def id_of(self, piece: str) -> int | None:
        """Find the id of a piece."""

    def spelling(self, id_: int) -> str:
        """Spell the piece of an id below `size`; empty where there is none."""


class Tokenizer:
    """A PaliGemma vocabulary, special words included.

    Parameters
    ----------
    path : path of ``tokenizer.model`` or ``tokenizer.json``
    image_token_id : int, optional
        The id of ``<image>``, from the checkpoint's config; by default the file's own,
        or the first behind its pieces.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: no file, a damaged one, or one without PaliGemma's words.
    """

    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    image_token_id: int

    def __init__(
        self, path: str | PathLike[str], image_token_id: int | None = None
    ) -> None:
        self._path = Path(path)
        is_json = self._path.suffix == ".json"
        self._pieces: Pieces = (JsonPieces if is_json else SentencePieces)(self._path)
        special = [*_SPECIAL, "<loc0000>", "<loc1023>", "<seg000>", "<seg127>"]
        ids = [_required(word, self._pieces, self._path) for word in special]
        self.pad_token_id, self.eos_token_id, self.bos_token_id, *_ = ids
        self.image_token_id = _image_token_id(self._pieces, self._path, image_token_id)
        self._special = dict(zip(_SPECIAL, ids, strict=False))
        self._special[IMAGE] = self.image_token_id
        self._cut = re.compile(f"({'|'.join(map(re.escape, self._special))})")
        # Gemma's other unspoken word: an ordinary piece, but never shown
        self._hidden = {*self._special.values(), self._pieces.id_of("<mask>")}

    @property
    def pieces(self) -> int:
        """How many rows the text needs; ``<image>``, mostly the last, needs none."""
        return self._pieces.size - (self.image_token_id == self._pieces.size - 1)

    @property
    def vocab_size(self) -> int:
        """How many ids have a meaning, ``<image>`` counted."""
        return max(self._pieces.size, self.image_token_id + 1)

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; nothing is put before it, after it or stripped from it.

        Raises
        ------
        ValueError
            For text with lone surrogates: bytes that were not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = (
                f"the text is not valid Unicode: {text[error.start]!r} at position "
                f"{error.start} stands for a byte that was not UTF-8; encode it as UTF-8"
            )
            raise ValueError(message) from error
        ids: list[int] = []
        for part in self._cut.split(text):
            special = self._special.get(part)
            ids += self._pieces.encode(part) if special is None else [special]
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Turn ids into text; ids behind the vocabulary have none.

        Bytes that do not add up to UTF-8 give one ``�`` each.
        """
        return "".join(self.stream(ids, skip_special_tokens))

    def stream(
        self, ids: Iterable[int], skip_special_tokens: bool = True
    ) -> Iterator[str]:
        """Give out text as ids come in, a character only when all its bytes are there.

        Joined, the pieces are what `decode` says of all ids.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        hidden = self._hidden if skip_special_tokens else set()
        for id_ in map(int, ids):
            piece = self._spelling(id_)
            if id_ in hidden or not piece:
                continue
            if byte := _BYTE.fullmatch(piece):
                text = utf8.decode(bytes.fromhex(byte[1]))
            else:
                text = utf8.decode(b"", final=True) + piece.replace(_SPACE, " ")
            if text:
                yield text.translate(_WRONG_BYTES)
        if rest := utf8.decode(b"", final=True):
            yield rest.translate(_WRONG_BYTES)

    def token_id(self, piece: str) -> int:
        """Find the id of a piece as the file spells it: ``<loc0051>``, ``▁cow``.

        Raises
        ------
        ValueError
            For a word that is no piece of its own.
        """
        id_ = self._special.get(piece, self._pieces.id_of(piece))
        if id_ is None:
            message = f"{self._path} has no piece {piece!r}; encode() splits any text"
            raise ValueError(message)
        return id_

    def _spelling(self, id_: int) -> str:
        """Spell one id; the rows that only fill up the embedding matrix have no text."""
        if id_ == self.image_token_id:
            return IMAGE
        return self._pieces.spelling(id_) if 0 <= id_ < self._pieces.size else ""


def _required(word: str, pieces: Pieces, path: Path) -> int:
    """Find a word that every PaliGemma vocabulary has."""
    id_ = pieces.id_of(word)
    if id_ is None:
        message = (
            f"{path}: expected PaliGemma's tokenizer, came one of {pieces.size} pieces "
            f"without {word}; take the {path.name} that belongs to the checkpoint "
            "(plain Gemma's will not do)"
        )
        raise ValueError(message)
    return id_


def _image_token_id(pieces: Pieces, path: Path, wanted: int | None) -> int:
    """Settle the id of ``<image>``; it must not be another piece's."""
    baked_in = pieces.id_of(IMAGE)
    free = pieces.size if baked_in is None else baked_in
    id_ = free if wanted is None else wanted
    if id_ != free and (id_ < pieces.size or baked_in is not None):
        there = pieces.spelling(id_) if id_ < pieces.size else "nothing"
        message = (
            f"<image> cannot have id {id_}, in {path.name} that is {there!r}; "
            f"config.json should say {free}"
        )
        raise ValueError(message)
    return id_
