"""`compare` raises no false alarm over transformers' own activations, and names theirs.

Their side is written as a porter would: forward hooks on every module, names and layouts
as they come, and saved by safetensors in the model's own dtype.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trace_files import save_trace

pytest.importorskip("transformers")

import torch
from random_models import GEMMA_2_MODELS, MODELS, batch, our_model, transformers_model
from safetensors.torch import save_file
from transformers.utils import logging

from numpy_paligemma.model.tap import recorder
from numpy_paligemma.traces.compare import Comparison, compare
from numpy_paligemma.traces.diagnosis import diagnose

pytestmark = pytest.mark.parity

EVERY = MODELS + GEMMA_2_MODELS
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def hooked(theirs: Any, inputs: dict[str, np.ndarray], path: Path, **more: Any) -> Path:
    """Run one forward pass and save what every module gave."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, args: Any, out: Any) -> None:
            ends = {"": out[0] if isinstance(out, tuple) else out}
            ends |= {".input": args[0]} if args else {}
            for end, x in ends.items():
                if isinstance(x, torch.Tensor):
                    kept[name + end] = x.detach().clone().contiguous()

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in theirs.named_modules() if n]
    tensors = {name: torch.from_numpy(x) for name, x in inputs.items()} | more
    tensors["pixel_values"] = tensors["pixel_values"].to(theirs.dtype)
    with torch.no_grad():
        theirs(**{n: x for n, x in tensors.items() if x is not None}, use_cache=False)
    for handle in handles:
        handle.remove()
    save_file(kept, path)
    return path


def ours(folder: Path, dtype: str, inputs: Any, path: Path) -> Path:
    """Write our trace."""
    tap, found = recorder()
    our_model(folder, dtype).logits(**inputs, tap=tap)
    arrays = {f"inputs/{name}": x for name, x in inputs.items()} | found
    about = {"dtype": dtype, "arithmetic": "float32"}
    return save_trace(path, arrays, str(folder), **about)


def traces_of(model: Any, folder: Path, dtype: str, **more: Any) -> Comparison:
    """Write both sides and compare them."""
    logging.disable_progress_bar()
    theirs = transformers_model(model)
    theirs.save_pretrained(folder / "model")
    inputs = batch(model, model.rows)
    a = ours(folder / "model", dtype, inputs, folder / "a.safetensors")
    b = hooked(theirs.to(DTYPES[dtype]), inputs, folder / "b.safetensors", **more)
    return compare(str(a), str(b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", EVERY, ids=lambda m: m.name)
def test_hooks_of_transformers_raise_no_alarm(
    model: Any, dtype: str, tmp_path: Path
) -> None:
    found = traces_of(model, tmp_path, dtype)
    assert found.first is None
    blocks = model.vision[2] * 9 + model.text[4] * 9
    assert len(found.rows) >= blocks


@pytest.mark.parametrize(
    "model", [MODELS[0], MODELS[1], GEMMA_2_MODELS[1]], ids=lambda m: m.name
)
def test_their_causal_prefix_is_named(model: Any, tmp_path: Path) -> None:
    """Without token_type_ids transformers 5.23 makes everything causal."""
    found = traces_of(model, tmp_path, "float32", token_type_ids=None)
    told = diagnose(found)
    assert found.first is not None
    assert found.first.name == "decoder/block00/attention/out"
    assert told is not None
    assert told.cause == "causal prefix"
