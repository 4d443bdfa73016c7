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
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

from .elsewhere import draw_elsewhere
from .grading import figures, right
from .mask_grading import mask_figures
from .painting import Scene, draw_scene
from .questions import (
    MIXES,
    Asker,
    ask_detect,
    ask_foreign_caption,
    ask_segment,
    ask_segment_kind,
)
from .truth import BINS, Fact, Question, label

SAMPLES = Path(__file__).parents[1] / "samples"
BATCH, LONGEST = 32, 128
SEVERAL: dict[Asker, int] = {ask_detect: 3, ask_foreign_caption: 4}
MASK_ASKERS = (ask_segment, ask_segment, ask_segment_kind)


@dataclass(frozen=True)
class Item:
    """One thing to ask of one picture."""

    image: Image.Image
    question: Question
    painted: list[np.ndarray] = field(default_factory=list)  # objects asked for


def items_about(
    rng: random.Random, image: Image.Image, facts: list[Fact], digits: str
) -> list[Item]:
    """Ask a picture everything once or several times, no prompt twice."""
    asked: dict[str, Item] = {}
    for asker in MIXES["everything"]:
        for _ in range(SEVERAL.get(asker, 1)):
            question = asker(rng, facts, digits)
            if question is not None:
                asked[question.prompt] = Item(image, question)
    return list(asked.values())


def generated(pictures: int, seed: int, wide_share: float) -> list[Item]:
    """Ask about fresh pictures of the training generator, with seeds of their own."""
    rng, items = random.Random(seed), []
    for i in range(pictures):
        scene = draw_scene(np.random.default_rng((seed, i)), wide_share)
        digits = "".join(thing.digits for thing in scene.things)
        image = Image.fromarray(scene.picture)
        items += items_about(rng, image, facts_of(scene), digits)
    return items


def facts_of(scene: Scene) -> list[Fact]:
    """Note what can be asked of a scene."""
    looks = zip(scene.things, scene.boxes, strict=True)
    return [Fact(thing.kind, thing.colour, box) for thing, box in looks]


def with_masks(pictures: int, seed: int, wide_share: float) -> list[Item]:
    """Ask fresh pictures for masks; keep what was painted of the objects asked for."""
    rng, items = random.Random(seed), []
    for i in range(pictures):
        scene = draw_scene(np.random.default_rng((seed, i)), wide_share)
        image, facts = Image.fromarray(scene.picture), facts_of(scene)
        asked = (asker(rng, facts, "") for asker in MASK_ASKERS)
        for question in {q.prompt: q for q in asked if q is not None}.values():
            painted = [
                covered
                for fact, covered in zip(facts, scene.covered, strict=True)
                if question.prompt.removeprefix("segment ")
                in {label((fact.colour, fact.kind)), label((None, fact.kind))}
            ]
            items.append(Item(image, question, painted))
    return items


def drawn_elsewhere(pictures: int, seed: int) -> list[Item]:
    """Ask about pictures drawn by other code."""
    rng = random.Random(seed)
    pages = (draw_elsewhere(rng) for _ in range(pictures))
    return [item for page in pages for item in items_about(rng, *page)]


def samples() -> Iterator[tuple[str, Item]]:
    """Ask the sample pictures what `answers.json` knows."""
    truth = json.loads((SAMPLES / "answers.json").read_text(encoding="utf-8"))
    for name, known in truth.items():
        image = Image.open(SAMPLES / name)
        for prompt, answer in known["texts"].items():
            yield name, Item(image, Question("sample", prompt, answer))
        for prompt, boxes in known["boxes"].items():
            label = prompt.removeprefix("detect ")
            answer = " ; ".join(
                f"{tokens(box, known['size'])} {label}" for box in boxes
            )
            yield name, Item(image, Question("detect", prompt, answer))


def tokens(box: list[float], size: list[int]) -> str:
    """Write a box in a picture's pixels as location tokens."""
    left, top, right, bottom = box
    width, height = size
    shares = (top / height, left / width, bottom / height, right / width)
    return "".join(f"<loc{min(BINS - 1, int(at * BINS)):04d}>" for at in shares)


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


def evaluate(folder: Path, *, beside: bool, pictures: int) -> dict[str, Any]:
    """Measure everything."""
    sets = {
        "plain": generated(pictures, 901, wide_share=0),
        "wide": generated(pictures, 902, wide_share=1),
        "elsewhere": drawn_elsewhere(min(200, pictures), 903),
        "samples": [item for _, item in samples()],
    }
    masks = folder / "vae-oid.npz"
    if masks.exists():
        sets["plain masks"] = with_masks(min(300, pictures), 904, wide_share=0)
        sets["wide masks"] = with_masks(min(300, pictures), 905, wide_share=1)
    ours = numpy_answers(folder)
    theirs = transformers_answers(folder) if beside else None
    weights = (folder / "model.safetensors").read_bytes()
    report: dict[str, Any] = {"sha256": hashlib.sha256(weights).hexdigest()}
    for name, items in sets.items():
        said = ask(ours, items, name)
        questions = [item.question for item in items]
        if name.endswith("masks"):
            painted = [item.painted for item in items]
            report[name] = mask_figures(
                questions, said, painted, load_mask_decoder(masks)
            )
        else:
            report[name] = figures(questions, said)
        if name == "samples":
            report["sample answers"] = sample_answers(said)
        if theirs is not None:
            pairs = zip(said, ask(theirs, items, f"{name}, transformers"), strict=True)
            equal = sum(a == b for a, b in pairs)
            report[name]["equal to transformers"] = {"share": equal / len(said)}
            report[name]["equal to transformers"]["of"] = len(said)
    return report


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
    parser.add_argument("--transformers", action="store_true", help="compare answers")
    parser.add_argument("--pictures", type=int, default=500)
    args = parser.parse_args()
    report = evaluate(args.folder, beside=args.transformers, pictures=args.pictures)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (args.folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
