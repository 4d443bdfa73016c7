"""Measure a finished folder through numpy_paligemma's own line, greedily.

``python -m weights.training.evaluate FOLDER`` asks about 500 plain, 500 wide and 200
pictures by other hands, and the ten samples; for masks about 300 plain and 300 wide
pictures more, if the folder has a mask decoder. It writes `evaluation.json` into the
folder, with the hash of the weights that it measured. With `--transformers` the same is
asked of transformers' class on the same files, and the share of equal answers noted.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.mask_decoder import FILE as MASK_DECODER
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

from .grading import figures, right
from .items import Item, drawn_elsewhere, generated, samples, with_masks
from .mask_grading import mask_figures

BATCH, LONGEST = 128, 128

Answerer = Callable[[list[Image.Image], list[str]], list[str]]


def numpy_answers(folder: Path) -> Answerer:
    """Answer through this project's line."""
    model, processor = load_hf_model(folder)

    def answer(images: list[Image.Image], prompts: list[str]) -> list[str]:
        inputs = processor(prompts, images)
        rows = model.generate(**inputs, max_new_tokens=LONGEST, temperature=0)
        return [processor.tokenizer.decode(row.tolist()) for row in rows]

    return answer


def transformers_answers(folder: Path) -> Answerer:
    """Answer through transformers' classes, in float32 as well."""
    import torch  # noqa: PLC0415  only the comparison needs it
    import transformers  # noqa: PLC0415

    kind: Any = transformers.PaliGemmaForConditionalGeneration
    model = kind.from_pretrained(folder, dtype=torch.float32)
    processor: Any = transformers.PaliGemmaProcessor.from_pretrained(folder)

    def answer(images: list[Image.Image], prompts: list[str]) -> list[str]:
        texts = ["<image>" + prompt for prompt in prompts]
        inputs = processor(
            images=[image.convert("RGB") for image in images],
            text=texts,
            padding=True,
            return_tensors="pt",
        )
        inputs.pop("labels", None)
        rows = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        new = rows[:, inputs["input_ids"].shape[1] :]
        return list(processor.batch_decode(new, skip_special_tokens=True))

    return answer


def ask(answer: Answerer, items: list[Item], what: str) -> list[str]:
    """Answer all items, prompts of a length together."""
    order = sorted(range(len(items)), key=lambda i: len(items[i].question.prompt))
    said = [""] * len(items)
    for start in tqdm(range(0, len(items), BATCH), desc=what):
        some = order[start : start + BATCH]
        images = [items[i].image for i in some]
        texts = answer(images, [items[i].question.prompt for i in some])
        for i, text in zip(some, texts, strict=True):
            said[i] = text
    return said


def evaluate(folder: Path, *, beside: int, pictures: int) -> dict[str, Any]:
    """Measure everything; ask transformers every `beside`-th question, or at 0 none."""
    sets = {
        "plain": generated(pictures, 901, wide_share=0),
        "wide": generated(pictures, 902, wide_share=1),
        "elsewhere": drawn_elsewhere(min(200, pictures), 903),
        "samples": [item for _, item in samples()],
    }
    if (folder / MASK_DECODER).exists():
        sets["plain masks"] = with_masks(min(300, pictures), 904, wide_share=0)
        sets["wide masks"] = with_masks(min(300, pictures), 905, wide_share=1)
    ours = numpy_answers(folder)
    theirs = transformers_answers(folder) if beside else None
    weights = (folder / "model.safetensors").read_bytes()
    report: dict[str, Any] = {"sha256": hashlib.sha256(weights).hexdigest()}
    for name, items in sets.items():
        said = ask(ours, items, name)
        report[name] = measured(folder, name, items, said)
        if name == "samples":
            report["sample answers"] = sample_answers(said)
        if theirs is not None:
            asked = said[::beside]
            again = ask(theirs, items[::beside], f"{name}, transformers")
            equal = sum(a == b for a, b in zip(asked, again, strict=True))
            share = {"share": equal / len(asked), "of": len(asked)}
            report[name]["equal to transformers"] = share
    return report


def measured(
    folder: Path, name: str, items: list[Item], said: list[str]
) -> dict[str, dict[str, float]]:
    """Judge the answers about one set of pictures."""
    questions = [item.question for item in items]
    if not name.endswith("masks"):
        return figures(questions, said)
    painted = [item.painted for item in items]
    return mask_figures(
        questions, said, painted, load_mask_decoder(folder / MASK_DECODER)
    )


def sample_answers(said: list[str]) -> dict[str, Any]:
    """List what was said of the samples, and which pictures were all right."""
    table: dict[str, Any] = {}
    for (name, item), text in zip(samples(), said, strict=True):
        entry = table.setdefault(name, {"right": True, "answers": {}})
        entry["right"] &= right(item.question, text)
        entry["answers"][item.question.prompt] = text
    return table


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser("weights.training.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--transformers",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="compare every N-th answer, or every one",
    )
    parser.add_argument("--pictures", type=int, default=500)
    args = parser.parse_args()
    report = evaluate(args.folder, beside=args.transformers, pictures=args.pictures)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (args.folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
