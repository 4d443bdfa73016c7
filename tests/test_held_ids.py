"""Bits as held write the same answers as the same weights widened to float32."""

import json
from pathlib import Path

import numpy as np
import pytest
from comparison import widened
from golden_line import GOLDEN, NAMES, NEW_TOKENS, NO_END
from PIL import Image
from safetensors.numpy import load_file
from tolerances import INT8_LOGITS, relative_error

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.arrays import matrix
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights

SAMPLES = Path(__file__).parents[1] / "weights" / "samples"
QUESTIONS = {
    name: [*known["texts"], *known["boxes"]]
    for name, known in json.loads((SAMPLES / "answers.json").read_text("utf-8")).items()
}


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply small matrices as large ones are: bit by bit, and not widened whole."""
    for name in ["SMALL", "WORTH_FEW", "WORTH_MANY"]:
        monkeypatch.setattr(matrix, name, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("family", NAMES)
def test_a_random_model_writes_the_same_ids(family: str, dtype: str) -> None:
    folder = GOLDEN / family
    c = read_config(folder)
    model = PaliGemma(c, load_weights(folder, c, dtype))
    inputs = load_file(folder / "inputs.safetensors")
    pictures, size = len(inputs.pop("pictures")), c.vision.image_size
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-1, 1, (pictures, 3, size, size)).astype(np.float32)
    inputs.pop("token_type_ids")
    asked = inputs | {"pixel_values": pixels}
    free = {"max_new_tokens": NEW_TOKENS, "temperature": 0, "eos_token_id": NO_END}
    np.testing.assert_array_equal(
        model.generate(**asked, **free), widened(model).generate(**asked, **free)
    )


def test_the_miniature_says_the_same_of_every_sample() -> None:
    model, processor = load_hf_model("miniature", device="cpu")
    plain = widened(model)
    for name, prompts in QUESTIONS.items():
        image = Image.open(SAMPLES / name)
        inputs = processor(prompts, [image] * len(prompts))
        asked = {"max_new_tokens": 128, "temperature": 0}
        np.testing.assert_array_equal(
            model.generate(**inputs, **asked), plain.generate(**inputs, **asked), name
        )


def test_eight_bits_move_the_miniatures_logits_by_as_much_as_is_said() -> None:
    models = [load_hf_model("miniature", dtype=d) for d in ("bfloat16", "int8")]
    processor = models[0][1]
    errors = []
    for name, prompts in QUESTIONS.items():
        inputs = processor(prompts[:1], [Image.open(SAMPLES / name)])
        expected, found = (model.logits(**inputs)[:, -1] for model, _ in models)
        errors.append(relative_error(found, expected))
    assert np.mean(errors) < INT8_LOGITS
