"""Mistakes in who may see whom."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from numpy_paligemma.model.fusion import prefix_lm_mask
from numpy_paligemma.model.pipeline import key_mask
from numpy_paligemma.traces.causes.variant import Setup, Variant

Masks = Callable[[Setup], tuple[np.ndarray | None, np.ndarray | None] | None]


def right_masks(setup: Setup) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Make the masks of full and of sliding blocks, of a pass or of a decode step."""
    seen, window = setup.attention_mask, setup.c.text.window
    if seen is None:
        return None, None
    if setup.is_step:
        like = setup.w.decoder.final_norm
        full = key_mask(seen, like)
        return full, full if window is None else key_mask(seen, like, window)
    full = prefix_lm_mask(seen, setup.token_type_ids)
    if window is None:
        return full, full
    return full, prefix_lm_mask(seen, setup.token_type_ids, window)


def with_masks(setup: Setup, **changes: np.ndarray | int | None) -> Setup:
    """Make the masks anew from other inputs, which nothing else then sees."""
    window = changes.pop("window", setup.c.text.window)
    made = replace(setup, **changes).text(window=window)  # type: ignore[arg-type]
    return replace(setup, masks=right_masks(made))


def _full(setup: Setup) -> np.ndarray:
    """Take the attention mask, which has to be known."""
    if setup.attention_mask is None:
        msg = "no attention mask"
        raise KeyError(msg)
    return setup.attention_mask


def _types(setup: Setup) -> np.ndarray:
    given = setup.token_type_ids
    return np.zeros_like(_full(setup)) if given is None else given


def _causal(setup: Setup) -> Setup:
    return with_masks(setup, token_type_ids=np.ones_like(_full(setup)))


def _prompt_causal(setup: Setup) -> Setup:
    """Let the picture alone see all of itself."""
    if setup.ids is None:
        msg = "no ids"
        raise KeyError(msg)
    text = (setup.ids != setup.c.image_token_id).astype(np.int64)
    return with_masks(setup, token_type_ids=np.maximum(text, _types(setup)))


def _picture_causal(setup: Setup) -> Setup:
    """Let the text of the prefix alone see all of itself."""
    if setup.ids is None:
        msg = "no ids"
        raise KeyError(msg)
    picture = (setup.ids == setup.c.image_token_id).astype(np.int64)
    return with_masks(setup, token_type_ids=np.maximum(picture, _types(setup)))


def _answer_free(setup: Setup) -> Setup:
    return with_masks(setup, token_type_ids=np.zeros_like(_full(setup)))


def _padding_seen(setup: Setup) -> Setup:
    return with_masks(setup, attention_mask=np.ones_like(_full(setup)))


def _all_seen(setup: Setup) -> Setup:
    return replace(_padding_seen(_answer_free(setup)), masks=(None, None))


def _causal_all(setup: Setup) -> Setup:
    ones = np.ones_like(_full(setup))
    return with_masks(setup, attention_mask=ones, token_type_ids=ones)


def _no_window(setup: Setup) -> Setup:
    return with_masks(setup, window=None)


def _window(more: int, setup: Setup) -> Setup:
    if setup.c.text.window is None:
        return setup
    return with_masks(setup, window=max(1, setup.c.text.window + more))


def _of_both(change: Callable[[np.ndarray], np.ndarray], setup: Setup) -> Setup:
    full, window = setup.masks
    return replace(
        setup,
        masks=(
            None if full is None else change(full),
            None if window is None else change(window),
        ),
    )


def _window_cuts(setup: Setup) -> Setup:
    """Let the window cut the prefix, too."""
    full, window = setup.masks
    if window is None or setup.c.text.window is None or setup.is_step:
        return setup
    cut = ~np.tri(window.shape[-1], k=-setup.c.text.window, dtype=bool)
    return replace(setup, masks=(full, window & cut))


def _window_everywhere(setup: Setup) -> Setup:
    return replace(setup, masks=(setup.masks[1], setup.masks[1]))


def _turned(mask: np.ndarray) -> np.ndarray:
    return mask.swapaxes(-1, -2) if mask.shape[-1] == mask.shape[-2] else mask


def _strict(mask: np.ndarray) -> np.ndarray:
    """Hide every token from itself."""
    if mask.shape[-1] != mask.shape[-2]:
        return mask
    return mask & ~np.eye(mask.shape[-1], dtype=bool)


def _others(setup: Setup) -> Setup:
    """Let the other blocks look through windows."""
    every = frozenset(range(setup.c.text.depth))
    return setup.text(sliding_blocks=every - setup.c.text.sliding_blocks)


def _every(setup: Setup) -> Setup:
    return setup.text(sliding_blocks=frozenset(range(setup.c.text.depth)))


WHO: tuple[tuple[str, str, Callable[[Setup], Setup]], ...] = (
    (
        "causal prefix",
        (
            "the mask is causal on the prefix, where picture and prompt see all of each "
            "other (transformers does so without token_type_ids)"
        ),
        _causal,
    ),
    (
        "causal prompt",
        "the prompt's text is causal, and only the picture sees all of itself",
        _prompt_causal,
    ),
    ("causal picture", "the picture is causal", _picture_causal),
    ("answer not causal", "the answer sees what follows it", _answer_free),
    (
        "padding visible",
        "the mask leaves padding visible: only rows of padded prompts differ",
        _padding_seen,
    ),
    ("mask left out", "there is no mask: everyone sees everything", _all_seen),
    (
        "causal prefix",
        "the mask is causal on the prefix, and leaves padding visible",
        _causal_all,
    ),
    (
        "mask transposed",
        "the mask is transposed, key by query",
        partial(_of_both, _turned),
    ),
    ("mask inverted", "the mask says the opposite", partial(_of_both, np.logical_not)),
    ("token hidden from itself", "no token sees itself", partial(_of_both, _strict)),
)
WINDOWS: tuple[tuple[str, str, Callable[[Setup], Setup]], ...] = (
    ("window ignored", "the sliding window is ignored", _no_window),
    ("window length", "the window is one place too long", partial(_window, 1)),
    ("window length", "the window is one place too short", partial(_window, -1)),
    (
        "window cuts the prefix",
        "the window cuts the prefix, which sees all of itself in every block",
        _window_cuts,
    ),
    ("window everywhere", "every block looks through the window", _window_everywhere),
)
TURNS: tuple[tuple[str, str, Callable[[Setup], Setup]], ...] = (
    (
        "window on the other blocks",
        (
            "the blocks that should see everything look through the window, and the others "
            "do not"
        ),
        _others,
    ),
    ("window everywhere", "every block looks through the window", _every),
)
PROBS = "decoder/block/attention/probs"
MASKS = (
    *(
        Variant(cause, text, at, change)
        for cause, text, change in WHO
        for at in ("fusion/mask", PROBS)
    ),
    *(
        Variant(cause, text, at, change)
        for cause, text, change in WINDOWS
        for at in ("fusion/window_mask", PROBS)
    ),
    *(Variant(cause, text, PROBS, change) for cause, text, change in TURNS),
)
