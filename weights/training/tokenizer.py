"""The vocabulary: trained by sentencepiece as Gemma's, shipped as PaliGemma's.

pad, eos, bos, unk, newline, 256 bytes, words; then `<loc0000>` … `<loc1023>` and
`<seg000>` … `<seg127>`; `<image>` comes last and is not in the sentencepiece model.
"""

import functools
import io
import re
import string
import struct
from pathlib import Path

import sentencepiece

from .colours import COLOURS
from .shapes import KINDS
from .truth import BINS
from .words import LANGUAGES, join, name

PIECES = 768
LOCATIONS = [f"<loc{i:04d}>" for i in range(BINS)]
SEGMENTS = [f"<seg{i:03d}>" for i in range(128)]
IMAGE_ID = PIECES + len(LOCATIONS) + len(SEGMENTS)
ROWS = (IMAGE_ID // 64 + 1) * 64  # of the embedding
PAD, EOS, BOS = 0, 1, 2
SIDES = ("left", "right")
PLACED_SPLIT = re.compile(r"(<loc\d{4}>|<seg\d{3}>)")


def training_lines() -> list[str]:
    """List every prompt and answer form, each word with and without a space ahead."""
    looks = [(colour, kind) for colour in range(len(COLOURS)) for kind in range(5)]
    lines = [
        join(language, [name(language, *looks[i]), name(language, *looks[i - 7])])
        + ", "
        for language in LANGUAGES
        for i in range(len(looks))
    ]
    lines += [name(language, *look) for language in LANGUAGES for look in looks]
    lines += [f"caption {language}" for language in LANGUAGES] * 12
    for colour, kind in looks:
        shape, hue = KINDS[kind], COLOURS[colour]
        lines += [f"detect {hue} {shape}", f" {hue} {shape} ; ", f"detect {shape}"]
        lines += [hue, shape, f" {shape} ; "]
        lines += [f"answer en is there a {hue} {shape}?", "yes", "no", "nothing"]
        lines += [f"answer en what colour is the {shape}?"]
        lines += [f"answer en how many {hue} shapes are there?", "ocr"]
        lines += [f"answer en how many {shape}s are there?"]
        lines += [f"answer en what is {side} of the {shape}?" for side in SIDES]
    alphabet = string.ascii_letters + string.digits + string.punctuation
    return lines * 2 + [" ".join(alphabet), alphabet] * 3


def train() -> bytes:
    """Train the pieces and append the location and segment tokens."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_lines()),
        model_writer=stream,
        model_type="bpe",
        vocab_size=PIECES,
        pad_id=PAD,
        bos_piece="<bos>",
        eos_piece="<eos>",
        eos_id=EOS,
        bos_id=BOS,
        unk_id=3,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["\n"],
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return stream.getvalue() + b"".join(map(user_defined, LOCATIONS + SEGMENTS))


def user_defined(piece: str) -> bytes:
    """Encode one more piece of a sentencepiece model.

    A model file is a protobuf message, and a repeated field (1, the pieces) goes on
    wherever it is met again. A piece: 1 its text, 2 its score, 3 its type (4 is
    user-defined, matched whole anywhere in a text).
    """
    text = piece.encode()
    score, kind = b"\x15" + struct.pack("<f", 0), b"\x18\x04"
    body = b"\x0a" + bytes([len(text)]) + text + score + kind
    return b"\x0a" + bytes([len(body)]) + body


class Vocabulary:
    """Text to ids; the encoding of recurring stretches is remembered."""

    def __init__(self, model: Path) -> None:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
        self.encode_stretch = functools.cache(pieces.encode)
        self.decode = pieces.decode

    def encode(self, text: str) -> list[int]:
        """Encode as sentencepiece does: location and segment tokens cut a text."""
        stretches = PLACED_SPLIT.split(text)
        return [i for stretch in stretches for i in self.encode_stretch(stretch)]
