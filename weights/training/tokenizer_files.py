"""The sentencepiece model once more, as the files that transformers reads."""

from typing import Any

import sentencepiece

from .tokenizer import LOCATIONS, PIECES, SEGMENTS

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")


def added_token(content: str, number: int) -> dict[str, Any]:
    """Describe a token that is matched whole, before anything else."""
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": content in SPECIAL,
    }


def added_tokens() -> list[dict[str, Any]]:
    """List all of them, in the order of their ids."""
    first = [*SPECIAL[:4], "\n"]
    last = [*LOCATIONS, *SEGMENTS, "<image>"]
    numbered = [*enumerate(first), *enumerate(last, PIECES)]
    return [added_token(content, number) for number, content in numbered]


def tokenizer_json(pieces: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
    """Describe the same tokenizer for the `tokenizers` library.

    A merge is any split of a piece into two pieces; its rank is the piece's.
    """
    vocab = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    words = [piece for piece, i in vocab.items() if i < PIECES and i > 4]
    order = sorted(words, key=lambda piece: -pieces.get_score(vocab[piece]))
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in order
        if not pieces.is_byte(vocab[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(),
        "normalizer": replaced(" ", "▁"),
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                replaced("▁", " "),
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def replaced(old: str, new: str) -> dict[str, Any]:
    """Describe a replacement of characters."""
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def tokenizer_config() -> dict[str, Any]:
    """Name the special tokens."""
    return {
        "tokenizer_class": "GemmaTokenizer",
        "processor_class": "PaliGemmaProcessor",
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "extra_special_tokens": {"image_token": "<image>"},
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "padding_side": "left",
        "spaces_between_special_tokens": False,
    }
