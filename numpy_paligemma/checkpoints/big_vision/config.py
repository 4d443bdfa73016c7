"""The sizes of a big_vision checkpoint: its arrays' shapes, and what no array holds.

The embedding has the 257,152 rows of the tokenizer, and so the logits have as many
columns. The 64 rows more of the Hugging Face files were drawn at random when those were
made and are no words; the first of them is ``<image>``, which is never looked up.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX, open_archive
from numpy_paligemma.checkpoints.big_vision.names import GEMMA_2_ONLY
from numpy_paligemma.checkpoints.mask_decoder import FILE
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig

log = logging.getLogger(__name__)

NORM_EPS = 1e-6
ROPE_BASE = 10000.0
# Gemma 2's, as config.json has them; big_vision itself has no window, and turns the cap
# of the logits off in its transfers, which moves no greedy answer
SCORE_CAP, LOGIT_CAP, WINDOW = 50.0, 30.0, 4096
# width and depth: by the root of what queries are divided. 2B, 9B, and 27B, whose
# scale is not that of its head size, 128
QUERY_SCALARS = {(2304, 26): 256, (3584, 42): 256, (4608, 46): 144}

Sizes = Mapping[str, int]


def find_archive(place: Path) -> Path | None:
    """Find the `.npz`: the file itself, or the only one of a folder without config.json.

    The mask decoder's, which may lie beside it, is not counted.

    Raises
    ------
    ValueError
        If a folder has several.
    """
    if place.suffix == SUFFIX and place.is_file():
        return place
    others = sorted(path for path in place.glob("*.npz") if path.name != FILE)
    found = [] if (place / "config.json").is_file() else others
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        msg = f"{place}: expected one checkpoint, found {names}; say which"
        raise ValueError(msg)
    return found[0] if found else None


def archive_config(path: Path) -> PaliGemmaConfig:
    """Read the sizes off the arrays' shapes.

    Raises
    ------
    ValueError
        If the arrays are not those of a PaliGemma, in one line.
    """
    n, lines, _ = open_archive(path)
    is_gemma_2 = any(line.key == GEMMA_2_ONLY for line in lines)
    grid = math.isqrt(n["N"])
    rules = {
        "no size is nought, found {letters}": 0 not in n.values(),
        "a patch is square, found {p} by {q} pixels": n["p"] == n["q"],
        "patches fill a square, found {N}": grid**2 == n["N"],
        "vision heads share the width, found {A} of {a} in {W}": n["A"] * n["a"]
        == n["W"],
        "kv heads divide the heads, found {K} and {H}": n["H"] % max(n["K"], 1) == 0,
    }
    for expected, holds in rules.items():
        if not holds:
            msg = f"{path}: expected that {expected.format(letters=n, **n)}"
            raise ValueError(msg)
    vision = VisionConfig(
        image_size=grid * n["p"],
        patch_size=n["p"],
        channels=n["c"],
        width=n["W"],
        depth=n["l"],
        heads=n["A"],
        mlp_width=n["M"],
        norm_eps=NORM_EPS,
    )
    # `<image>` is the first id behind the table; 2, 1, 0 are Gemma's
    text = _text_config(n, _gemma_2_fields(path, n) if is_gemma_2 else {})
    return PaliGemmaConfig(vision, text, n["V"], 2, (1,), 0)


def _gemma_2_fields(path: Path, n: Sizes) -> dict[str, Any]:
    """Look up what Gemma 2 adds."""
    scalar = QUERY_SCALARS.get((n["D"], n["L"]))
    if scalar is None:
        log.warning(
            "warning: %s: no published Gemma 2 is %d wide and %d layers deep; its "
            "queries are taken to be divided by √%d, the head size, which no array says",
            *(path, n["D"], n["L"], n["h"]),
        )
    return {
        "post_norms": True,
        "query_scale": (scalar or n["h"]) ** -0.5,
        "score_cap": SCORE_CAP,
        "logit_cap": LOGIT_CAP,
        "window": WINDOW,
        "sliding_blocks": frozenset(range(0, n["L"], 2)),
    }


def _text_config(n: Sizes, gemma_2: Mapping[str, Any]) -> TextConfig:
    return TextConfig(
        vocab_size=n["V"],
        width=n["D"],
        depth=n["L"],
        heads=n["H"],
        kv_heads=n["K"],
        head_dim=n["h"],
        mlp_width=n["F"],
        norm_eps=NORM_EPS,
        rope_base=ROPE_BASE,
        **gemma_2,
    )
