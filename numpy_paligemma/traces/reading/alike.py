"""Traces of unlike things refused: another checkpoint, prompt or picture."""

import numpy as np

from numpy_paligemma.traces.reading.files import Trace, metadata_list
from numpy_paligemma.traces.reading.pixels import is_another_picture

STATED = (
    ("checkpoint_sha256", "checkpoints"),
    ("config_sha256", "configs"),
)
MASK = "inputs/attention_mask"
AGAIN = "make both of the same checkpoint, prompt and picture"


def check_alike(a: Trace, b: Trace) -> None:
    """Refuse to compare what both sides say is not the same.

    Raises
    ------
    ValueError
        In one line, with the way out.
    """
    where = f"{a.path} and {b.path} are traces of other"
    for key, things in STATED:
        both = (a.says(key), b.says(key))
        if all(both) and both[0] != both[1]:
            names = ", ".join(t.says("checkpoint") or "unnamed" for t in (a, b))
            msg = f"{where} {things} ({names}); {AGAIN}"
            raise ValueError(msg)
    prompts = [metadata_list(t, "prompt") for t in (a, b)]
    if all(prompts) and prompts[0] != prompts[1]:
        msg = f"{where} prompts ({prompts[0]}, {prompts[1]}); {AGAIN}"
        raise ValueError(msg)
    if said := _other_ids(a, b):
        msg = f"{where} token ids ({said}); {AGAIN}"
        raise ValueError(msg)
    pixels = _both(a, b, "inputs/pixel_values")
    if pixels is not None and is_another_picture(*pixels):
        msg = f"{where} pictures (their pixels have nothing in common); {AGAIN}"
        raise ValueError(msg)


def _other_ids(a: Trace, b: Trace) -> str:
    """Say how the token ids differ; nothing where they do not, or one has none."""
    both = _both(a, b, "inputs/input_ids")
    if both is None:
        return ""
    first, second = (np.atleast_2d(ids) for ids in both)
    if first.shape != second.shape:
        return f"{first.shape} and {second.shape}"
    other = first != second
    for trace in (a, b):
        if MASK in trace and trace.held[MASK].shape == both[0].shape:
            other &= np.atleast_2d(trace.read(MASK)) != 0  # padding may be any token
    if not other.any():
        return ""
    row, place = np.argwhere(other)[0].tolist()
    return f"{first[row, place]} and {second[row, place]} at place {place} of row {row}"


def _both(a: Trace, b: Trace, path: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Read an input that both sides have."""
    return (a.read(path), b.read(path)) if path in a and path in b else None
