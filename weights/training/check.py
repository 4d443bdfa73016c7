"""Hold the network against transformers' own class, on an exported folder.

``python -m weights.training.check FOLDER``: token ids, and logits of every answer
position, for held-out questions under PaliGemma's own mask, in float32.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from .data import open_data
from .layers import Sizes
from .network import PaliGemma
from .packing import Reader, pack, visibility
from .scenes import GRID
from .tokenizer import Vocabulary

HERE = Path(__file__).parent


@torch.no_grad()
def check(folder: Path, runs: Path, pictures: int = 12) -> tuple[int, float]:
    """Return the number of questions and the largest relative error of the logits.

    Raises
    ------
    ValueError
        If the two tokenizers disagree on a prompt or an answer.
    """
    ours = PaliGemma(Sizes())
    state = load_file(folder / "model.safetensors")
    ours.load_state_dict({name: p.float() for name, p in state.items()})
    theirs = PaliGemmaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32
    )
    processor = PaliGemmaProcessor.from_pretrained(folder)
    reader = Reader(
        open_data(runs / "validation"), Vocabulary(folder / "tokenizer.model"), 0, 0
    )
    rows = reader.rows(1, pictures)
    worst, asked = 0.0, 0
    for row, questions in zip(rows, reader.questions(rows, 1), strict=True):
        picture = reader.store["picture"][row]
        features = ours.see(torch.from_numpy(picture[None].copy()))
        for question in questions:
            inputs = processor(
                images=Image.fromarray(picture),
                text="<image>" + question.prompt,
                suffix=question.answer,
                return_tensors="pt",
            )
            batch = pack([[question]], reader.vocabulary, 64)
            text = inputs["input_ids"][0, GRID * GRID :]
            length = len(text) - 1  # the last is <eos>, which is not read
            if text[:-1].tolist() != batch["ids"][0, :length].tolist():
                message = f"{question}: {text.tolist()} here, {batch['ids'].tolist()}"
                raise ValueError(message)
            hidden = visibility(batch, picture_sees_prompt=True)
            states = ours.read(features, batch["ids"], batch["position"], hidden)
            inputs.pop("labels")
            wanted = theirs(**inputs).logits[0, GRID * GRID : -1]
            told = batch["target"][0, :length] >= 0
            error = (ours.logits(states)[0, :length] - wanted)[told].abs().max()
            worst = max(worst, float(error / wanted.abs().max()))
            asked += 1
    return asked, worst


if __name__ == "__main__":
    asked, worst = check(Path(sys.argv[1]), HERE / "runs")
    print(f"{asked} questions: ids equal, logits within {worst:.1e}")
