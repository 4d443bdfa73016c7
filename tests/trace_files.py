"""Traces as `trace` writes them, of the golden models: right ones and wrong ones."""

import json
from pathlib import Path

import numpy as np
from golden_line import ANSWER, GOLDEN, Golden
from PIL import Image
from safetensors.numpy import save_file

from numpy_paligemma.inputs import image
from numpy_paligemma.model import pipeline
from numpy_paligemma.model.tap import recorder

Arrays = dict[str, np.ndarray]


def whole_trace(golden: Golden) -> Arrays:
    """Run the forward pass over prompts and answers: inputs and every tap."""
    inputs = _inputs(golden)
    tap, found = recorder()
    golden.model.logits(**inputs, tap=tap)
    return {f"inputs/{name}": x for name, x in inputs.items()} | found


def stepwise_trace(golden: Golden, steps: int = ANSWER) -> Arrays:
    """Run the forward pass over the prompts, and decode the answers behind them."""
    inputs = _inputs(golden)
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    prompt = ids.shape[1] - ANSWER
    start = {n: x[:, :prompt] if x.ndim == 2 else x for n, x in inputs.items()}
    tap, found = recorder()
    golden.model.logits(**start, tap=tap)
    kept = {f"inputs/{name}": x for name, x in start.items()} | found
    w, c = golden.model.weights, golden.model.config
    caches = pipeline.empty_caches(*ids.shape, w, c)
    for i, cache in enumerate(caches):
        at = f"decoder/block{i:02}/attention/"
        cache.extend(found[at + "k"], found[at + "v_proj"])
    for t in range(prompt, prompt + steps):
        tap, found = recorder()
        pipeline.decode_step(ids[:, t], real[:, : t + 1], w, c, caches, tap=tap)
        kept |= {f"step{t - prompt + 1:03}/{name}": x for name, x in found.items()}
    return kept


def _inputs(golden: Golden) -> Arrays:
    """Make the model's four inputs of a golden model's."""
    inputs = dict(golden.inputs)
    pictures = [Image.fromarray(picture) for picture in inputs.pop("pictures")]
    return {"pixel_values": image.pixel_values(pictures, golden.settings), **inputs}


def save_trace(path: Path, arrays: Arrays, checkpoint: str = "", **more: str) -> Path:
    """Write a trace, with what it says of itself where it names a checkpoint."""
    about = {"format": "numpy_paligemma trace 1", "checkpoint": checkpoint, **more}
    kept = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    save_file(kept, path, about if checkpoint else None)
    return path


def golden_folder(name: str) -> str:
    """Name a golden model's folder, as a trace's metadata would."""
    return json.loads(json.dumps(str(GOLDEN / name)))
