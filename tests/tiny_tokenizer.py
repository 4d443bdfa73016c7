"""A tokenizer of Gemma's settings, trained here in a moment on a few sentences.

Byte-pair encoding with byte fallback, digits apart, nothing normalised, no space put in
front; runs of newlines, spaces and tabs and a few words are whole pieces; behind
them stand PaliGemma's 1,152 words, baked into the file as in the published one.
"""

import struct
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import sentencepiece

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

LOCATIONS = [f"<loc{i:04}>" for i in range(1024)]
SEGMENTS = [f"<seg{i:03}>" for i in range(128)]
WORDS = [
    *["<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<start_of_turn>"],
    *["\n" * n for n in range(1, 32)],
    *["▁" * n for n in range(2, 32)],
    *["<table>", "<b>", "</b>"],
    *["\t" * n for n in range(2, 32)],
]
SENTENCES = """\
caption en
caption de
cow ; cow standing
describe en
answer en what is in the image?
answer en where is the cow standing?
answer en how many red shapes are there?
question en what animal is on the beach?
detect red circle ; blue star ; car ; person
segment the red car on the left
describe this image in detail, please.
a red circle, a blue star and a black number
a cow standing on the beach, in front of the green sea
ocr: the quick brown fox jumps over the lazy dog 0123456789
The Quick Brown Fox Jumps Over The Lazy Dog! (what? "that"; it's 50% & more - no)
café naïve über, déjà vu, ein schöner roter Kreis und ein großer Stern
日本語のキャプション、日本の猫、猫が海にいる
def f(x): return x + 1  # code
"""


@cache
def gemma_file(pad_id: int = 0) -> bytes:
    """Train the part that is Gemma's: no ``<loc>``, no ``<seg>``."""
    out = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES.splitlines() * 3),
        model_writer=out,
        model_type="bpe",
        vocab_size=900,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=WORDS,
        pad_id=pad_id,
        **{f"{name}_id": i for i, name in enumerate(["eos", "bos", "unk"], start=1)},
        **{f"{name}_piece": f"<{name}>" for name in ["pad", "eos", "bos", "unk"]},
        num_threads=1,
        minloglevel=2,
    )
    return out.getvalue()


def paligemma_file() -> bytes:
    """Bake the 1,152 words in: joined protocol buffers are one longer list."""
    return gemma_file() + b"".join(map(user_defined, [*LOCATIONS, *SEGMENTS]))


def user_defined(word: str) -> bytes:
    """Write one ``SentencePiece`` of a ``ModelProto``: text, score 0, type 4."""
    text = word.encode()
    body = (
        bytes([0x0A, len(text)]) + text + b"\x15" + struct.pack("<f", 0) + b"\x18\x04"
    )
    return bytes([0x0A, len(body)]) + body


def write_tokenizer(folder: "Path", name: str = "tokenizer.model") -> "Path":
    """Write ``tokenizer.model`` or ``tokenizer.json`` into a folder; its path."""
    path = folder / name
    if name == "tokenizer.model":
        path.write_bytes(paligemma_file())
    else:
        tokenizers_twin().save(str(path))
    return path


def tokenizers_twin(*, cuts: int = -1) -> "Tokenizer":
    """Build the same tokenizer as a ``tokenizer.json`` holds it.

    The merges are all ways to split a piece into two pieces, the best score first, and
    of one score the longest left side (`cuts` 1: the shortest).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    model = sentencepiece.SentencePieceProcessor(model_proto=paligemma_file())
    vocab = {model.id_to_piece(i): i for i in range(model.vocab_size())}
    merges = [
        (-model.get_score(i), cuts * cut, piece[:cut], piece[cut:])
        for piece, i in vocab.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    twin = Tokenizer(
        BPE(
            vocab=vocab,
            merges=[(left, right) for *_, left, right in sorted(merges)],
            byte_fallback=True,
            fuse_unk=True,
            unk_token="<unk>",
        )
    )
    twin.normalizer = normalizers.Replace(" ", "▁")
    twin.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    twin.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    words = [w for w in [*WORDS, *LOCATIONS, *SEGMENTS] if "▁" not in w]
    twin.add_tokens(
        [AddedToken(word, normalized=False, special=word == "<mask>") for word in words]
    )
    return twin


def transformers_twin() -> "PreTrainedTokenizerFast":
    """Build the same tokenizer for transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizers_twin(),
        padding_side="left",
        **{f"{name}_token": f"<{name}>" for name in ["pad", "eos", "bos", "unk"]},
        mask_token="<mask>",
        extra_special_tokens={"image_token": "<image>"},
    )
