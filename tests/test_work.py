"""Work counted from shapes, against products caught in the act and known totals."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from golden_line import GOLDEN, NAMES
from safetensors.numpy import load_file

from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig
from numpy_paligemma.paligemma import PaliGemma
from numpy_paligemma.traces.work import Work, WorkCounter

INPUTS = "inputs.safetensors"
PALIGEMMA_3B = PaliGemmaConfig(
    VisionConfig(224, 14, 3, 1152, 27, 16, 4304, 1e-6),
    TextConfig(257216, 2048, 18, 8, 1, 256, 16384, 1e-6, 1e4),
    image_token_id=257152,
    bos_token_id=2,
    eos_token_ids=(1,),
    pad_token_id=0,
)


class Caught(np.ndarray):
    """An array that notes every matrix product it takes part in."""

    flops = 0
    read = 0  # bytes of what stands on the right

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        plain = [_plain(x) for x in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(_plain(x) for x in kwargs["out"])
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            Caught.flops += 2 * result.size * plain[0].shape[-1]
            Caught.read += plain[1].nbytes
        return result.view(Caught) if isinstance(result, np.ndarray) else result


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Caught) else x


class Drawn:
    """A take that draws every tensor."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def vector(self, _: str, shape: tuple[int, ...]) -> np.ndarray:
        """Draw a small tensor."""
        return self.rng.normal(0, 0.1, shape).astype(np.float32).view(Caught)

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Draw a matrix."""
        return self.vector(name, (shape[0], math.prod(shape[1:])))


class Bfloat16:
    """A take that gives matrices of 16 bits without their memory."""

    def vector(self, _: str, shape: tuple[int, ...]) -> np.ndarray:
        """Give nothing but a shape."""
        return np.broadcast_to(np.uint16(0), (shape[0], math.prod(shape[1:])))

    matrix = vector


def drawn_model(family: str) -> PaliGemma:
    c = read_config(GOLDEN / family)
    return PaliGemma(c, paligemma_weights(Drawn(), c, tied=c.text.tied))


@pytest.mark.parametrize("family", NAMES)
def test_the_work_of_every_tap_is_that_of_the_products_before_it(
    family: str, take_threads: Callable[[int], None]
) -> None:
    """In a batch with padding and with a window, with a cache and without one."""
    take_threads(1)  # several would cut a product, and its matrix be counted for each
    model, inputs = drawn_model(family), load_file(GOLDEN / family / INPUTS)
    count = WorkCounter(model)
    seen = []

    def tap(name: str, x: np.ndarray) -> np.ndarray:
        counted = count(name, x)
        if name != "decoder/embed":  # a look-up and no product
            assert counted == (Caught.flops, Caught.read), name
        Caught.flops = Caught.read = 0
        seen.append(name)
        return x.view(Caught)  # which some functions of NumPy's make a plain array

    pictures, size = len(inputs.pop("pictures")), model.config.vision.image_size
    inputs["pixel_values"] = np.zeros((pictures, 3, size, size), np.float32)
    Caught.flops = Caught.read = 0
    model.logits(**inputs, tap=tap)
    assert seen == list(every_tap(model.config))
    inputs.pop("token_type_ids")
    model.generate(**inputs, max_new_tokens=5, eos_token_id=-1, seed=0, tap=tap)
    assert seen.count("logits") == 6


def test_a_look_up_reads_the_rows_that_are_asked_for() -> None:
    model = drawn_model(NAMES[0])
    x = np.zeros((2, 7, model.config.text.width), np.float32)
    assert WorkCounter(model)("decoder/embed", x) == Work(0, x.nbytes)


def works(tokens: int, keys: int) -> Iterator[tuple[str, Work]]:
    """Count a pass of the 3B, bfloat16 held: one row of `tokens` that see `keys`."""
    c = PALIGEMMA_3B
    model = PaliGemma(c, paligemma_weights(Bfloat16(), c, tied=True))
    count = WorkCounter(model)
    for name in every_tap(c):
        eye = name.startswith("vision")
        size, width = (256, 1152) if eye else (tokens, 2048)
        heads = 16 if eye else 8
        shapes = {
            "logits": (1, 257216),
            "scores": (1, heads, size, 256 if eye else keys),
            "k_proj": (1, 1, size, 256),
            "v_proj": (1, 1, size, 256),
            "projector/out": (1, 256, 2048),
        }
        end = name if name in shapes else name.rpartition("/")[2]
        shape = shapes.get(end, (1, size, width))
        yield name, count(name, np.broadcast_to(np.float32(0), shape))


def test_a_first_pass_of_the_3b_is_one_and_a_quarter_tflop() -> None:
    flops: Counter[str] = Counter()
    for name, work in works(260, 260):
        flops[name.partition("/")[0]] += work.flops
    assert flops["vision"] == pytest.approx(0.21e12, rel=0.05)
    assert flops["decoder"] == pytest.approx(1.04e12, rel=0.005)
    assert sum(flops.values()) == pytest.approx(1.25e12, rel=0.01)


def test_a_decoded_token_of_the_3b_reads_two_and_a_half_billion_weights() -> None:
    read = sum(
        work.read
        for name, work in works(1, 300)
        if name.startswith(("decoder", "logits"))
    )
    cache = 2 * 18 * 300 * 256 * 4  # keys and values, one head, float32
    weights = read - cache - 2048 * 2  # the last is the look-up of the token
    blocks = 18 * (2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 16384)
    assert weights == 2 * (blocks + 257216 * 2048)
    assert weights / 2 == pytest.approx(2.51e9, rel=0.001)
