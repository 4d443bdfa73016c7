"""The vocabulary of a ``tokenizer.model``, opened by sentencepiece."""

from pathlib import Path

import sentencepiece


class SentencePieces:
    """A sentencepiece model as `numpy_paligemma.inputs.tokenizer.Pieces`.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: no file, or no sentencepiece model.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            message = (
                f"no tokenizer: expected {path}; take the tokenizer.model of the "
                "checkpoint that this one was made from"
            )
            raise FileNotFoundError(message) from None
        except OSError as error:
            message = f"{path}: expected a sentencepiece model, but {error.strerror}"
            raise ValueError(message) from error
        try:
            # given no bytes, sentencepiece opens nothing and does not say so
            self._model = sentencepiece.SentencePieceProcessor(
                model_proto=data or b"\0"
            )
        except RuntimeError as error:
            message = (
                f"{path} is not a sentencepiece model, or damaged; download it again"
            )
            raise ValueError(message) from error

    @property
    def size(self) -> int:
        """One more than the last id."""
        return int(self._model.vocab_size())

    def encode(self, text: str) -> list[int]:
        """Cut text into pieces; ``<bos>`` and its like are spelt letter by letter."""
        ids: list[int] = self._model.encode(text)
        return ids

    def id_of(self, piece: str) -> int | None:
        """Find the id of a piece."""
        id_ = int(self._model.piece_to_id(piece))  # <unk>'s for what is no piece
        return id_ if self.spelling(id_) == piece else None

    def spelling(self, id_: int) -> str:
        """Spell the piece of an id below `size`."""
        return str(self._model.id_to_piece(id_))
