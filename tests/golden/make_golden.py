"""Remake the golden files: python tests/golden/make_golden.py (needs torch).

Behind it, names of those to remake may stand; else all are.

Three tiny random models, made, saved and run by transformers in lifted float64. Each
folder is a checkpoint in Hugging Face form, with the inputs beside it and everything
that has to come out: pixels, every tap of one forward pass, the nucleus, greedy ids.
And the miniature, on the sample picture: its taps, which the notebooks compare with.
And a tiny random mask decoder, run by PyTorch's own convolutions.
"""

import hashlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "parity"), str(HERE.parents[1])]

from golden_line import ANSWER, NEW_TOKENS, NO_END, NUCLEUS
from lifting import lifted
from PIL import Image
from random_mask_decoders import TINY, random_arrays, random_codes
from random_models import (
    RandomModel,
    Row,
    batch,
    gemma_2,
    in_float64,
    our_model,
    transformers_model,
)
from their_mask_decoder import their_masks
from their_taps import their_taps
from transformers import (
    AutoProcessor,
    PaliGemmaForConditionalGeneration,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil,
)
from transformers.utils import logging

from numpy_paligemma.traces.writing.about import FORMAT, about_run
from numpy_paligemma.traces.writing.choice import choose_taps
from numpy_paligemma.traces.writing.stream import TensorStream
from numpy_paligemma.traces.writing.whole import WholeFile

Tensors = dict[str, np.ndarray]

# fmt: off
MODELS = (
    RandomModel("one_kv_head", (9, 3), (15, 3, 2, 22), (14, 4, 1, 6, 2, 20), (44, 43),
                (Row(6, answer=ANSWER),)),
    RandomModel("two_kv_heads", (10, 4), (10, 2, 2, 18), (12, 4, 2, 8, 2, 26), (40, 40),
                (Row(5, answer=ANSWER), Row(2, answer=ANSWER), Row(4, answer=ANSWER))),
    RandomModel("gemma_2", (10, 4), (10, 2, 1, 18), (12, 4, 2, 8, 2, 26), (40, 40),
                (Row(5, answer=ANSWER), Row(2, answer=ANSWER), Row(4, answer=ANSWER)),
                gemma_2(5, 3, 4, 3)),
)
# fmt: on

MINIATURE = HERE.parents[1] / "weights" / "miniature"
SAMPLE = HERE.parents[1] / "weights" / "samples" / "paper.jpg"
PROMPT = "caption en"
LEFT_OUT = ["!*/scores"]  # to stay under 4 MB; softmax makes the shares of them
PACKAGES = ("torch", "transformers", "numpy", "pillow", "safetensors")

README = HERE / "README.md"
MADE_BY = "These come from "  # what follows it in the README is written here


def make(model: RandomModel) -> None:
    """Write one model's folder."""
    folder = HERE / model.name
    theirs = transformers_model(model)
    theirs.save_pretrained(folder)
    inputs = batch(model, model.rows)
    pictures = draw_pictures(len(inputs["pixel_values"]))
    inputs["pixel_values"] = pixels(pictures, model.picture[0], folder)
    with lifted():
        double, config = in_float64(theirs), our_model(folder, "float64").config
        taps = their_taps(double, inputs, config)
    expected = {"pixels": inputs.pop("pixel_values"), **taps}
    expected["sampling/nucleus"] = nucleus(taps["logits"][:, -1])
    expected["greedy"] = greedy(theirs, inputs, expected["pixels"])
    save(inputs | {"pictures": pictures}, folder / "inputs.safetensors")
    save(expected, folder / "expected.safetensors")


def make_miniature() -> None:
    """Write the miniature's trace on the sample picture, float64 rounded to float32."""
    theirs = PaliGemmaForConditionalGeneration.from_pretrained(
        MINIATURE, dtype=torch.float64, attn_implementation="eager"
    )
    processor = AutoProcessor.from_pretrained(MINIATURE)
    picture = Image.open(SAMPLE).convert("RGB")
    made = processor(text=f"<image>{PROMPT}", images=picture, return_tensors="np")
    wanted = ("input_ids", "pixel_values", "attention_mask", "token_type_ids")
    inputs = {name: made[name] for name in wanted}
    with lifted():
        taps = their_taps(theirs, inputs, our_model(MINIATURE, "float64").config)
    tensors = {name: torch.from_numpy(x) for name, x in inputs.items()}
    length = inputs["input_ids"].shape[1]
    ids = theirs.float().generate(**tensors, max_new_tokens=40, do_sample=False)
    kept = {f"inputs/{name}": x for name, x in inputs.items()} | {
        name: x.astype(np.float32) if x.dtype == np.float64 else x
        for name, x in taps.items()
        if name in choose_taps(list(taps), LEFT_OUT)
    }
    about = about_run(MINIATURE, "miniature", dtype="float64", prompts=[PROMPT])
    metadata = about | {
        "format": FORMAT,
        "arithmetic": "float64",
        "versions": json.dumps({name: version(name) for name in PACKAGES}),
        "steps": "0",
        "taps": json.dumps(LEFT_OUT),
    }
    kept["greedy"] = ids[:, length:].numpy()
    integers = sum(x.size for x in kept.values() if x.dtype == np.int64)
    # not by save_file, which shuffles the metadata, and with it the hash
    with WholeFile(HERE / "miniature.safetensors") as file:
        stream = TensorStream(file, "float32", kept, integers, metadata)
        for name, x in kept.items():
            stream.add(name, x)
        stream.finish()


def make_mask_decoder() -> None:
    """Write a random mask decoder under its published names, its tokens and masks."""
    arrays, codes = random_arrays(TINY), random_codes(TINY)
    masks = their_masks(codes, arrays, TINY)
    save(arrays | {"codes": codes, "masks": masks}, HERE / "mask_decoder.safetensors")


def draw_pictures(n: int) -> np.ndarray:
    """Draw n pictures of noise that are no squares: bytes (n, 17, 23, 3)."""
    return np.random.default_rng(n).integers(0, 256, (n, 17, 23, 3), np.uint8)


def pixels(pictures: np.ndarray, side: int, folder: Path) -> np.ndarray:
    """Let transformers' Pillow processor make pixel values, and save its settings."""
    processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    processor.save_pretrained(folder)
    return processor(list(pictures), return_tensors="np")["pixel_values"]


def nucleus(logits: np.ndarray) -> np.ndarray:
    """Let transformers' warpers work on logits (B, V): temperature, then top-p."""
    x = torch.from_numpy(logits)
    x = TemperatureLogitsWarper(NUCLEUS["temperature"])(None, x)
    return torch.softmax(TopPLogitsWarper(NUCLEUS["top_p"])(None, x), -1).numpy()


def greedy(
    theirs: PaliGemmaForConditionalGeneration, inputs: Tensors, pixel_values: np.ndarray
) -> np.ndarray:
    """Let transformers continue the prompts, their answers taken off: (B, new)."""
    prompts = {name: torch.from_numpy(x[:, :-ANSWER]) for name, x in inputs.items()}
    ids = theirs.generate(
        **prompts,
        pixel_values=torch.from_numpy(pixel_values),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=NO_END,
    )
    return ids[:, prompts["input_ids"].shape[1] :].numpy()


def save(tensors: Tensors, path: Path) -> None:
    """Write a file of contiguous arrays."""
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)


def write_readme() -> None:
    """List versions, sizes and hashes, at the end of the README."""
    lines = ["| file | bytes | sha256 |", "|---|---|---|"]
    for path in sorted((*HERE.glob("*/*.*"), *HERE.glob("*.safetensors"))):
        data = path.read_bytes()
        name = path.relative_to(HERE).as_posix()
        digest = hashlib.sha256(data).hexdigest()
        lines.append(f"| {name} | {len(data):,} | {digest} |")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    made_by = f"{MADE_BY}Python {platform.python_version()}, {versions}."
    text, _, _ = README.read_text(encoding="utf-8").partition(MADE_BY)
    text += "\n".join([made_by, "", *lines, ""])
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    logging.disable_progress_bar()
    rest = ("miniature", "mask_decoder")
    wanted = sys.argv[1:] or [*(model.name for model in MODELS), *rest]
    for each in MODELS:
        if each.name in wanted:
            make(each)
    if "miniature" in wanted:
        make_miniature()
    if "mask_decoder" in wanted:
        make_mask_decoder()
    write_readme()
