"""Words and texts on which tokenizers part company."""

import random

from tiny_tokenizer import SENTENCES

WORDS = [
    *SENTENCES.split(),
    *["<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<unused0>"],
    *[
        "<loc0000>",
        "<loc1023>",
        "<loc1024>",
        "<seg000>",
        "<seg127>",
        "<seg128>",
        "<loc",
    ],
    *["<b>", "</b>", "<table>", "[@BOS@]", "<", ">", "<<bos>>", "<im", "age>"],
    *[
        "\n",
        "\n\n",
        "\n" * 33,
        "\r\n",
        "\t",
        "\t\t\t",
        " ",
        "  ",
        " " * 35,
        "▁",
        "\u00a0",
    ],
    *["日本語", "キャプション", "猫が", "é", "e\u0301", "ß", "ﬁ", "𐍈", "\x00", "\x07"],
    *["👩‍👩‍👧", "🐮", "don't", "1234567", "U+2581", "ing", "th"],
]


def odd_texts(count: int, seed: int = 0) -> list[str]:
    """Join words, special ones and characters from anywhere in Unicode."""
    draw = random.Random(seed)
    literals = ["<image>", "<0x41>", "\u2028", "\ufeff", "\u200d", "\u0301"]
    texts = []
    for _ in range(count):
        strange = ["".join(map(_character, draw.choices(RANGES, k=3), [draw] * 3))]
        words = draw.choices([*WORDS, *literals, *strange], k=draw.randrange(20))
        texts.append(draw.choice(["", " "]).join(words))
    return texts


# controls, Latin, combining marks, punctuation, CJK, emoji, planes beyond the first
RANGES = [(1, 0x80), (0x80, 0x300), (0x300, 0x370), (0x2000, 0x2100), (0x4E00, 0x9FFF)]
RANGES += [(0x1F300, 0x1F700), (0xE000, 0x110000)]


def _character(bounds: tuple[int, int], draw: random.Random) -> str:
    return chr(draw.randrange(*bounds))
