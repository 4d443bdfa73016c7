"""Measure a finished folder through numpy_paligemma's own line, greedily.

``python -m weights.training.evaluate FOLDER`` asks about 500 plain, 500 wide and 200
pictures by other hands, and the ten samples; for masks about 300 plain and 300 wide
pictures more, if the folder has a mask decoder. It writes `evaluation.json` into the
folder, or where `--out` says, with the hash of the weights that it measured. With
`--transformers` the same is asked of transformers' class on the same files, and the
share of equal answers noted.
"""

import argparse
import hashlib
import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from numpy_paligemma import load_hf_model
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.mask_decoder import FILE as MASK_DECODER
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

from .grading import figures, right
from .items import SETS, Item, items_of, samples
from .mask_grading import mask_figures

BATCH, LONGEST = 128, 128

Answerer = Callable[[list[Image.Image], list[str]], list[str]]


def numpy_answers(folder: Path, dtype: str) -> Answerer:
    """Answer through this project's line."""
    model, processor = load_hf_model(folder, dtype=dtype)

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


def answers_of(
    folder: Path, dtype: str, pictures: int, beside: int, task: tuple[str, str]
) -> list[str]:
    """Answer one set, all of it by our line or every `beside`-th by transformers'."""
    who, name = task
    items = items_of(name, pictures)
    if who == "ours":
        return ask(numpy_answers(folder, dtype), items, name)
    some = items[::beside]
    return ask(transformers_answers(folder), some, f"{name}, transformers")


def evaluate(
    folder: Path, dtype: str, *, beside: int, pictures: int, processes: int
) -> dict[str, Any]:
    """Measure everything; ask transformers every `beside`-th question, or at 0 none."""
    masks = (folder / MASK_DECODER).exists()
    names = [name for name in SETS if masks or not name.endswith("masks")]
    tasks = [
        (who, name) for who in ("ours", "theirs")[: 1 + (beside > 0)] for name in names
    ]
    answer = partial(answers_of, folder, dtype, pictures, beside)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        said = dict(zip(tasks, pool.map(answer, tasks, chunksize=1), strict=True))
    weights = (folder / "model.safetensors").read_bytes()
    report: dict[str, Any] = {"sha256": hashlib.sha256(weights).hexdigest()}
    for name in names:
        ours = said["ours", name]
        report[name] = measured(folder, name, items_of(name, pictures), ours)
        if beside:
            pairs = zip(ours[::beside], said["theirs", name], strict=True)
            equal = [a == b for a, b in pairs]
            share = {"share": sum(equal) / len(equal), "of": len(equal)}
            report[name]["equal to transformers"] = share
    report["sample answers"] = sample_answers(said["ours", "samples"])
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
    parser.add_argument("--dtype", choices=HELD_DTYPES, default="bfloat16")
    parser.add_argument("--out", type=Path, help="default: FOLDER/evaluation.json")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    report = evaluate(
        args.folder,
        args.dtype,
        beside=args.transformers,
        pictures=args.pictures,
        processes=args.processes,
    )
    text = json.dumps(report, indent=1, ensure_ascii=False)
    out = args.out or args.folder / "evaluation.json"
    out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
