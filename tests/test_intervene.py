"""Edits of a run: what they change, what they leave, and what they refuse."""

import numpy as np
import pytest
from fake_device import DeviceArray
from golden_line import NO_END, load_golden

from numpy_paligemma import PaliGemma
from numpy_paligemma.arrays.device import map_arrays, to_host
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.traces.intervene import (
    Edit,
    intervening,
    patch,
    scale,
    switch_off_heads,
)

PROBS, OUT = "decoder/block01/attention/probs", "decoder/block00/out"
Taps = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> tuple[PaliGemma, Taps]:
    """One model and a batch of three prompts."""
    held = load_golden("two_kv_heads", "float64")
    inputs = {key: held.inputs[key] for key in ("input_ids", "attention_mask")}
    return held.model, inputs | {"pixel_values": held.expected["pixels"]}


def run(golden: tuple[PaliGemma, Taps], *edits: Edit) -> Taps:
    """Run once with the edits: every array as it was after them."""
    model, inputs = golden
    record, seen = recorder()
    with intervening(*edits, then=record) as tap:
        model.logits(**inputs, tap=tap)
    return seen


def test_without_an_edit_nothing_changes(golden: tuple[PaliGemma, Taps]) -> None:
    model, inputs = golden
    tap, seen = recorder()
    model.logits(**inputs, tap=tap)
    for name, x in run(golden).items():
        np.testing.assert_array_equal(x, seen[name], err_msg=name)


def test_a_head_that_is_off_adds_nothing_to_its_block(
    golden: tuple[PaliGemma, Taps],
) -> None:
    model, _ = golden
    plain, off = run(golden), run(golden, switch_off_heads(PROBS, [2]))
    probs = plain[PROBS].copy()
    probs[:, 2] = 0
    np.testing.assert_array_equal(off[PROBS], probs)
    K = model.config.text.kv_heads
    at = PROBS.removesuffix("probs")
    values = np.repeat(plain[f"{at}v_proj"], probs.shape[1] // K, axis=1)
    context = np.einsum("bnts,bnsh->btnh", probs, values)
    B, T, *_ = context.shape
    weight = model.weights.decoder.blocks[1].o_proj
    expected = context.reshape(B, T, -1) @ weight.T
    np.testing.assert_allclose(off[f"{at}out"], expected, rtol=0, atol=1e-12)
    assert not np.allclose(off["logits"], plain["logits"])
    before = list(plain)[: list(plain).index(PROBS)]
    for name in before:
        np.testing.assert_array_equal(off[name], plain[name], err_msg=name)


def test_an_edit_does_not_write_into_the_array_it_is_given() -> None:
    x = np.ones((1, 2, 3, 4))
    for edit in (
        switch_off_heads("x", [0]),
        scale("x", 2, at=[1]),
        patch("x", {"x": np.zeros_like(x)}),
    ):
        assert not np.array_equal(edit.change("x", x), x)
        assert (x == 1).all()


def test_a_patch_of_everything_makes_it_the_other_run(
    golden: tuple[PaliGemma, Taps],
) -> None:
    model, inputs = golden
    turned = inputs | {"pixel_values": inputs["pixel_values"][::-1]}
    other = run((model, turned))
    found = run(golden, patch(OUT, other))
    assert not np.allclose(run(golden)["logits"], other["logits"])
    np.testing.assert_array_equal(found["logits"], other["logits"])


def test_a_patch_at_positions_leaves_the_others(golden: tuple[PaliGemma, Taps]) -> None:
    plain = run(golden)
    other = {OUT: np.full_like(plain[OUT][:, :9], 7)}  # of a shorter sequence
    found = run(golden, patch(OUT, other, at=[0, 8]))[OUT]
    expected = plain[OUT].copy()
    expected[:, [0, 8]] = 7
    np.testing.assert_array_equal(found, expected)


def test_scaling_acts_on_heads_and_tokens_alike(golden: tuple[PaliGemma, Taps]) -> None:
    for name in (OUT, "decoder/block00/attention/q"):
        plain = run(golden)[name]
        found = run(golden, scale(name, 3, at=[4]))[name]
        expected = plain.copy()
        expected[..., 4, :] *= 3
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(run(golden, scale(name, 0))[name], 0 * plain)


def test_edits_act_in_turn_and_by_pattern(golden: tuple[PaliGemma, Taps]) -> None:
    plain = run(golden)
    found = run(golden, scale("decoder/*/mlp_norm", 0), scale("logits", 2))
    assert not found["decoder/block00/mlp/out"].any()
    assert not found["decoder/block01/mlp/out"].any()
    np.testing.assert_array_equal(found["vision/out"], plain["vision/out"])
    both = run(golden, scale(OUT, 2), scale(OUT, 5))
    np.testing.assert_array_equal(both[OUT], plain[OUT] * 2 * 5)


def test_an_edit_acts_in_its_steps_alone(golden: tuple[PaliGemma, Taps]) -> None:
    model, inputs = golden
    logits: list[np.ndarray] = []

    def keep(name: str, x: np.ndarray) -> np.ndarray:
        if name == "logits":
            logits.append(x)
        return x

    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": NO_END}
    with intervening(scale("logits", 0, steps=[2]), then=keep) as tap:
        model.generate(**inputs, **options, tap=tap)
    assert [bool(x.any()) for x in logits] == [True, True, False, True]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (scale("decoder/block99/out", 0), r"taps: nothing that matches .*block99/out'"),
        (scale(OUT, 0, steps=[1]), r"came by in the edit's steps; the run had 1,"),
        (switch_off_heads(OUT, [0]), rf"^{OUT}: expected an array with heads"),
        (switch_off_heads(PROBS, [4]), r"expected heads within 0 to 3, came 4$"),
        (scale(OUT, 0, at=[-1]), r"expected positions within 0 to 12, came -1$"),
        (patch(OUT, {}), rf"^{OUT}: the other run has no array of this name$"),
        (
            patch(OUT, {OUT: np.zeros((3, 12, 12))}),
            r"expected \(3, 13, 12\), the other run has \(3, 12, 12\)$",
        ),
        (
            patch(OUT, {OUT: np.zeros((3, 13, 11))}, at=[0]),
            r"expected \(3, 13, 12\), the other run has \(3, 13, 11\)$",
        ),
        (
            patch(OUT, {OUT: np.zeros((3, 5, 12))}, at=[5]),
            r"expected positions within 0 to 4, came 5$",
        ),
    ],
    ids=lambda x: "" if isinstance(x, str) else x.taps,
)
def test_an_edit_that_does_not_fit_is_refused(
    edit: Edit, told: str, golden: tuple[PaliGemma, Taps]
) -> None:
    with pytest.raises(ValueError, match=told):
        run(golden, edit)


def test_edits_are_the_same_on_a_device(golden: tuple[PaliGemma, Taps]) -> None:
    model, inputs = golden
    moved = PaliGemma(model.config, map_arrays(model.weights, DeviceArray))
    other = {OUT: np.full((3, 13, 12), 0.5)}
    edits = (switch_off_heads(PROBS, [0, 3]), scale(OUT, 2), patch(OUT, other, at=[1]))
    host, device = run(golden, *edits), run((moved, inputs), *edits)
    np.testing.assert_array_equal(to_host(device["logits"]), host["logits"])
