"""Draw the ten sample pictures and write down the true answers.

``python weights/samples/draw.py``. None of this code draws training pictures: shapes
are filled as paper, chalk, crayon, paint, light or pixels, by Pillow or matplotlib.
"""

import json
from pathlib import Path

from cutting import Thing
from flat import pixels, plate, poster, stickers, vector
from textured import chalkboard, crayon, neon, paper, watercolour

HERE = Path(__file__).parent

SAMPLES = {
    "paper.jpg": (paper, 90),
    "chalkboard.jpg": (chalkboard, 85),
    "crayon.jpg": (crayon, 85),
    "watercolour.jpg": (watercolour, 85),
    "neon.jpg": (neon, 88),
    "pixels.png": (pixels, 0),
    "vector.png": (vector, 0),
    "plate.jpg": (plate, 85),
    "stickers.jpg": (stickers, 85),
    "poster.jpg": (poster, 30),
}


def answers(things: list[Thing]) -> dict[str, object]:
    """State what is true of a picture: texts, and boxes in its pixels."""
    names = [f"a {thing.colour} {thing.kind}" for thing in things]
    shapes = [thing for thing in things if thing.kind != "number"]
    alone = next(
        thing for thing in things if sum(t.kind == thing.kind for t in things) == 1
    )
    texts = {
        "caption en": f"{', '.join(names[:-1])} and {names[-1]}",
        "answer en how many shapes are there?": str(len(shapes)),
        f"answer en what colour is the {alone.kind}?": alone.colour,
    }
    if digits := "".join(thing.digits for thing in things):
        texts["ocr"] = digits
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for thing in things:
        prompt = f"detect {thing.colour} {thing.kind}"
        boxes.setdefault(prompt, []).append(thing.box)
    return {"texts": texts, "boxes": boxes}


def main() -> None:
    """Draw all pictures and write `answers.json`."""
    truth = {}
    for name, (draw, quality) in SAMPLES.items():
        image, things = draw()
        options = {"quality": quality} if quality else {"optimize": True}
        image.save(HERE / name, **options)
        truth[name] = {"size": image.size, **answers(things)}
    text = json.dumps(truth, indent=1, ensure_ascii=False)
    (HERE / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
