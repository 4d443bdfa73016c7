"""Our whole line against the golden files: picture to token, no torch.

A picture becomes pixels; pixels and ids go once through the model without a cache, then
again with one, the answers word by word; the last logits are cut to their nucleus; and
the prompts are continued greedily. Every array on the way has its golden counterpart.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from comparison import real_rows
from PIL import Image
from safetensors.numpy import load_file
from tolerances import relative_error

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.inputs import image
from numpy_paligemma.inputs.settings import image_settings_from
from numpy_paligemma.model import pipeline, sampling
from numpy_paligemma.model.layers import softmax
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.paligemma import PaliGemma

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("one_kv_head", "two_kv_heads", "gemma_2")
ANSWER = 2  # words of answer at the end of every row
NEW_TOKENS = 24
NO_END = 10_000  # an end token that no model has, so that none ends early
NUCLEUS = {"temperature": 0.8, "top_p": 0.9}

Taps = dict[str, np.ndarray]
Errors = dict[str, float]


@dataclass(frozen=True)
class Golden:
    """One folder: our model of it, what goes in and what has to come out."""

    model: PaliGemma
    settings: image.ImageSettings
    inputs: Taps
    expected: Taps


def load_golden(name: str, dtype: str = "float64") -> Golden:
    """Open a folder by our own loader."""
    folder = GOLDEN / name
    config = read_config(folder)
    fields = json.loads(
        (folder / "preprocessor_config.json").read_text(encoding="utf-8")
    )
    return Golden(
        PaliGemma(config, load_weights(folder, config, dtype)),
        image_settings_from(fields),
        load_file(folder / "inputs.safetensors"),
        load_file(folder / "expected.safetensors"),
    )


def golden_errors(golden: Golden) -> Errors:
    """Walk the line: the relative error of everything on it, in its order."""
    inputs = dict(golden.inputs)
    pictures = [Image.fromarray(picture) for picture in inputs.pop("pictures")]
    pixels = image.pixel_values(pictures, golden.settings)
    errors = {"pixels": _error(pixels, golden.expected["pixels"])}

    tap, found = recorder()
    golden.model.logits(pixel_values=pixels, **inputs, tap=tap)
    mask = inputs["attention_mask"]
    for name, x in found.items():
        expected = golden.expected[name]
        errors[name] = _error(real_rows(name, x, mask), real_rows(name, expected, mask))
    for scope, start, stop, taps in _cached_passes(golden, pixels):
        errors |= _rows_errors(golden, scope, start, stop, taps)
    errors["sampling/nucleus"] = _nucleus_error(golden, found["logits"][:, -1])
    return errors


def greedy_ids(golden: Golden) -> np.ndarray:
    """Continue the golden prompts, from the golden pixels: (B, new)."""
    return golden.model.generate(
        golden.inputs["input_ids"][:, :-ANSWER],
        golden.expected["pixels"],
        golden.inputs["attention_mask"][:, :-ANSWER],
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=NO_END,
    )


def _cached_passes(
    golden: Golden, pixels: np.ndarray
) -> Iterator[tuple[str, int, int, Taps]]:
    """Read the prompts at once, the answers word by word: name, tokens, taps of each."""
    w, c = golden.model.weights, golden.model.config
    ids, real = golden.inputs["input_ids"], golden.inputs["attention_mask"]
    prompt = ids.shape[1] - ANSWER
    caches = pipeline.empty_caches(*ids.shape, w, c)
    pixels = pixels.astype(w.projector.bias.dtype)

    tap, found = recorder()
    soft = pipeline.encode_images(pixels, w, c)
    start = (ids[:, :prompt], soft, real[:, :prompt])
    pipeline.prefill(*start, w, c, caches, tap=tap)
    yield "prefill", 0, prompt, found
    for t in range(prompt, ids.shape[1]):
        tap, found = recorder()
        pipeline.decode_step(ids[:, t], real[:, : t + 1], w, c, caches, tap=tap)
        yield f"step{t - prompt + 1}", t, t + 1, found


def _rows_errors(
    golden: Golden, scope: str, start: int, stop: int, found: Taps
) -> Errors:
    """Compare a pass over some tokens with their rows of the pass over all."""
    errors = {}
    rows = {k: x for k, x in found.items() if k.startswith("decoder/")}
    rows["logits"] = found["logits"][:, None]  # of the last token alone
    for name, x in rows.items():
        expected, first = golden.expected[name], start
        if name == "logits":
            first = stop - 1
        if name.endswith(("/scores", "/probs")):
            expected = expected[..., :stop]
        axis = expected.ndim - 2
        expected = np.take(expected, range(first, stop), axis)
        mask = golden.inputs["attention_mask"][:, first:stop]
        both = (real_rows(name, x, mask), real_rows(name, expected, mask))
        errors[f"{scope}/{name}"] = _error(*both)
    return errors


def _nucleus_error(golden: Golden, logits: np.ndarray) -> float:
    """Compare what is left of the last tokens' probabilities."""
    probs = softmax(logits / NUCLEUS["temperature"])
    kept = [sampling.nucleus(row, NUCLEUS["top_p"]) for row in probs]
    return _error(np.stack(kept), golden.expected["sampling/nucleus"])


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """Measure the relative error; arrays of different shapes have nothing in common."""
    same = found.shape == expected.shape
    return relative_error(found, expected) if same else math.inf
