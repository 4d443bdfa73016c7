"""Text to token ids and back, with the checkpoint's own sentencepiece model.

PaliGemma's ``tokenizer.model`` is Gemma's (byte-pair encoding, spaces written ``▁``,
bytes for characters it lacks, nothing normalised) with 1,152 words baked in behind it:

    0 <pad>  1 <eos>  2 <bos>  3 <unk>  …  256000 <loc0000> … <loc1023>
    257024 <seg000> … <seg127>  257152 <image>

``<image>`` alone is not in the file. sentencepiece would spell it letter by letter, and
``<bos>`` too; so those words are cut out of the text first and the rest is encoded
piece by piece, as transformers does. Source: big_vision, ``pp/ops_text.py`` and the
tokenizer notes of ``configs/proj/paligemma/README.md``.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import sentencepiece

IMAGE = "<image>"

_SPACE = "▁"  # U+2581, sentencepiece's way to write a space
# the decoder hides a wrong byte in a lone surrogate; every one becomes U+FFFD
_WRONG_BYTES = dict.fromkeys(range(0xDC80, 0xDD00), "�")


class Tokenizer:
    """A PaliGemma ``tokenizer.model``, special words included.

    Parameters
    ----------
    model_path : path of ``tokenizer.model``
    image_token_id : int, optional
        The id of ``<image>``, from the checkpoint's config; by default the first id
        behind the file's own.

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
        self, model_path: str | PathLike[str], image_token_id: int | None = None
    ) -> None:
        self._path = Path(model_path)
        self._pieces = pieces = _open(self._path)
        self.bos_token_id, self.eos_token_id = pieces.bos_id(), pieces.eos_id()
        self.pad_token_id, unk = pieces.pad_id(), pieces.unk_id()
        self.image_token_id = _image_token_id(pieces, image_token_id)
        ids = [self.pad_token_id, self.eos_token_id, self.bos_token_id, unk]
        self._special = {pieces.id_to_piece(i): i for i in ids} | {
            IMAGE: self.image_token_id
        }
        self._cut = re.compile(f"({'|'.join(map(re.escape, self._special))})")
        # Gemma's other unspoken word: an ordinary piece, but never shown
        self._hidden = {*self._special.values(), pieces.piece_to_id("<mask>")}

    @property
    def pieces(self) -> int:
        """How many pieces the file has; ``<image>`` is mostly not among them."""
        return int(self._pieces.vocab_size())

    @property
    def vocab_size(self) -> int:
        """How many ids have a meaning, ``<image>`` counted."""
        return max(self.pieces, self.image_token_id + 1)

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
            if id_ in hidden or not self._has_text(id_):
                continue
            if id_ != self.image_token_id and self._pieces.is_byte(id_):
                byte = int(self._pieces.id_to_piece(id_)[3:5], 16)  # from "<0x0A>"
                text = utf8.decode(bytes([byte]))
            else:
                text = utf8.decode(b"", final=True) + self._text(id_)
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
        if piece in self._special:
            return self._special[piece]
        id_ = self._pieces.piece_to_id(piece)
        if id_ == self._pieces.unk_id():
            message = f"{self._path} has no piece {piece!r}; encode() splits any text"
            raise ValueError(message)
        return id_

    def _has_text(self, id_: int) -> bool:
        """Tell a piece from the rows that only fill up the embedding matrix."""
        return id_ == self.image_token_id or 0 <= id_ < self.pieces

    def _text(self, id_: int) -> str:
        """Spell one id that is no byte."""
        if id_ == self.image_token_id:
            return IMAGE
        return self._pieces.id_to_piece(id_).replace(_SPACE, " ")


def _open(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Parse the file and make sure that it is PaliGemma's and not Gemma's."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        message = (
            f"no tokenizer: expected {path}; take the tokenizer.model of the checkpoint "
            "that this one was made from (transformers 5 saves without it)"
        )
        raise FileNotFoundError(message) from None
    except OSError as error:
        message = f"{path}: expected a sentencepiece model, but {error.strerror}"
        raise ValueError(message) from error
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=data or b"\0")
    except RuntimeError as error:
        message = f"{path} is not a sentencepiece model, or damaged; download it again"
        raise ValueError(message) from error
    if min(pieces.pad_id(), pieces.eos_id(), pieces.bos_id(), pieces.unk_id()) < 0:
        message = (
            f"{path}: expected the pieces <pad>, <eos>, <bos> and <unk>; one lacks"
        )
        raise ValueError(message)
    for word in ["<loc0000>", "<loc1023>", "<seg000>", "<seg127>"]:
        if pieces.piece_to_id(word) == pieces.unk_id():
            message = (
                f"{path}: expected PaliGemma's tokenizer, came one of "
                f"{pieces.vocab_size()} pieces without {word}; plain Gemma's will not "
                "do, take the tokenizer.model that belongs to the checkpoint"
            )
            raise ValueError(message)
    return pieces


def _image_token_id(
    pieces: sentencepiece.SentencePieceProcessor, wanted: int | None
) -> int:
    """Settle the id of ``<image>``; it must not be another piece's."""
    size, baked_in = pieces.vocab_size(), pieces.piece_to_id(IMAGE)
    free = size if baked_in == pieces.unk_id() else baked_in
    id_ = free if wanted is None else wanted
    if id_ < size and id_ != free:
        message = (
            f"<image> cannot have id {id_}, in tokenizer.model that is "
            f"{pieces.id_to_piece(id_)!r}; config.json should say {free}"
        )
        raise ValueError(message)
    return id_
