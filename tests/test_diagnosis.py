"""`compare` finds the field's classic errors at their own taps, and names their causes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_line import Golden, load_golden
from mistakes import MISTAKES, Mistake
from trace_files import Arrays, golden_folder, save_trace, stepwise_trace, whole_trace

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.model.attention import merge_heads
from numpy_paligemma.paligemma import PaliGemma
from numpy_paligemma.traces.compare import compare
from numpy_paligemma.traces.diagnosis import UNKNOWN, Diagnosis, diagnose

# what each mistake is called; a second name is what the arrays alone, without the
# checkpoint's weights, let one say
CAUSES: dict[str, tuple[str, ...]] = {
    "pixels_from_nought_to_one": ("pixel range",),
    "blue_green_red": ("channel order",),
    "mean_and_std_of_imagenet": ("mean and std",),
    "bilinear_for_bicubic": ("resize filter",),
    "no_antialias": (UNKNOWN,),  # of noise nothing is left without it
    "letterboxed": ("letterbox",),
    "turned_as_exif_says": ("picture turned",),
    "centre_cropped": ("cropped",),
    "rescaled_twice": ("pixels rescaled twice",),
    "patch_flattened_row_column_channel": ("patch order",),
    "patches_read_column_by_column": ("patches by column",),
    "position_table_left_out": ("position table left out",),
    "position_table_shifted_by_one": ("position table shifted",),
    "layer_norm_with_pytorch_s_default_eps": ("norm eps",),
    "layer_norm_divided_by_n_minus_one": ("variance by n - 1",),
    "layer_norm_with_eps_outside_the_root": ("norm eps",),
    "vision_biases_dropped": ("bias dropped", "bias"),
    "vision_scores_scaled_by_the_width": ("score scale",),
    "vision_gelu_with_erf": ("erf GELU",),
    "quick_gelu": ("quick GELU",),
    "features_of_the_last_layer_but_one": ("last block but one",),
    "vision_s_last_norm_left_out": ("norm left out",),
    "projector_bias_dropped": ("bias dropped", "bias"),
    "text_not_scaled": ("text scale left out",),
    "text_scaled_twice": ("text scale applied twice",),
    "text_scale_rounded_to_bfloat16": ("text scale rounded",),
    "picture_divided_by_the_scale": ("picture scaled",),
    "picture_scaled_like_text": ("picture scaled",),
    "whole_sequence_scaled_once_more": ("picture and text scaled",),
    "first_picture_for_every_prompt": ("first picture for all",),
    "prefix_causal": ("causal prefix",),
    "picture_sees_all_and_prompt_is_causal": ("causal prompt",),
    "answer_sees_what_follows": ("answer not causal",),
    "padding_visible": ("padding visible",),
    "gain_is_w_and_not_one_plus_w": ("norm gain w for 1 + w",),
    "rms_norm_takes_the_mean_off": ("mean taken off",),
    "rms_norm_with_a_larger_eps": ("norm eps",),
    "rms_norm_with_eps_outside_the_root": ("norm eps",),
    "heads_cut_without_a_transpose": ("heads cut wrongly",),
    "rope_turns_neighbours_and_not_halves": ("RoPE pairs for halves",),
    "rope_turns_backwards": ("RoPE sign",),
    "rope_left_out": ("RoPE left out",),
    "rope_with_base_of_a_million": ("RoPE base",),
    "rope_frequencies_over_the_width": ("RoPE frequencies",),
    "rope_frequencies_rounded_to_bfloat16": ("RoPE precision",),
    "rope_table_rounded_to_bfloat16": ("RoPE precision",),
    "rope_turns_values_too": ("RoPE on values",),
    "text_counts_from_one_again": ("text positions restart",),
    "scores_scaled_by_the_width": ("score scale",),
    "kv_heads_tiled_and_not_repeated": ("key-value heads tiled",),
    "heads_joined_without_a_transpose": ("heads joined wrongly",),
    "gate_and_up_swapped": ("gate and up swapped",),
    "gelu_with_erf": ("erf GELU",),
    "silu_for_gelu": ("SiLU for GELU",),
    "last_norm_left_out": ("norm left out",),
    "head_scaled_like_the_embedding": ("head scaled",),
    "padding_visible_when_generating": ("padding visible",),
    "decoding_one_position_late": ("decode position off by one",),
    "queries_scaled_by_their_size": ("score scale",),
    "score_cap_left_out": ("score cap left out",),
    "score_cap_behind_the_mask": ("score cap behind the mask",),
    "logit_cap_left_out": ("logit cap left out",),
    "norms_behind_the_branches_left_out": ("post norm left out",),
    "norm_before_the_mlp_taken_for_the_one_behind_attention": ("another norm's gain",),
    "window_ignored": ("window ignored",),
    "window_one_too_long": ("window length",),
    "window_cuts_the_prefix": ("window cuts the prefix",),
    "the_other_blocks_look_through_windows": ("window on the other blocks",),
    "window_ignored_when_generating": ("window ignored",),
}
# what a trace does not hold: what is drawn from the logits
IN_A_TRACE = [m for m in MISTAKES if not m.first.startswith("sampling/")]
KNOWN = 0.8  # the share that has to be named with the checkpoint at hand
KNOWN_BY_ARRAYS = 0.8  # and by the arrays alone
LOST = {  # in float32: within rounding, or first seen behind its own tap
    "layer_norm_with_eps_outside_the_root",
    "rms_norm_with_eps_outside_the_root",
}


class Sides:
    """Right traces, made once, and the comparison of a wrong one with its right one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str, bool], Arrays] = {}

    def _right(self, model: str, dtype: str, steps: bool) -> Arrays:
        key = (model, dtype, steps)
        if key not in self.made:
            self.made[key] = trace_of(load_golden(model, dtype), steps)
        return self.made[key]

    def outcome(
        self, mistake: Mistake, dtype: str, checkpoint: bool
    ) -> tuple[str | None, Diagnosis | None]:
        """Swap the mistake in, and compare: the first name, and the diagnosis."""
        steps = mistake.first.startswith(("step", "prefill"))
        right = self._right(mistake.model, dtype, steps)
        with pytest.MonkeyPatch.context() as swap:
            swap.setattr(f"numpy_paligemma.{mistake.replaces}", mistake.twin)
            wrong = trace_of(load_golden(mistake.model, dtype), steps)
        name = golden_folder(mistake.model) if checkpoint else ""
        a, b = (
            save_trace(self.folder / f"{side}.safetensors", x, name, dtype=dtype)
            for side, x in (("a", right), ("b", wrong))
        )
        comparison = compare(str(a), str(b))
        first = comparison.first
        return first and first.name, diagnose(comparison)


def trace_of(golden: Golden, steps: bool) -> Arrays:
    return stepwise_trace(golden) if steps else whole_trace(golden)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    return Sides(tmp_path_factory.mktemp("traces"))


each = pytest.mark.parametrize("mistake", IN_A_TRACE, ids=lambda m: m.twin.__name__)


def place(mistake: Mistake) -> str:
    """Name the tap of a trace where a mistake has to show first."""
    names = {"pixels": "inputs/pixel_values"}
    first = names.get(mistake.first, mistake.first)
    return first.replace("step1/", "step001/").replace("prefill/", "step001/")


def test_every_mistake_has_its_cause() -> None:
    assert CAUSES.keys() == {m.twin.__name__ for m in IN_A_TRACE}
    unknown = sum(causes == (UNKNOWN,) for causes in CAUSES.values())
    assert 1 - unknown / len(CAUSES) >= KNOWN


@each
def test_a_mistake_is_named_at_its_own_place(mistake: Mistake, sides: Sides) -> None:
    first, told = sides.outcome(mistake, "float64", checkpoint=True)
    assert first == place(mistake)
    assert told is not None
    assert told.cause == CAUSES[mistake.twin.__name__][0], told.text


@pytest.mark.slow
@each
def test_float32_names_it_too(mistake: Mistake, sides: Sides) -> None:
    first, told = sides.outcome(mistake, "float32", checkpoint=True)
    if mistake.twin.__name__ in LOST:
        assert told is None or told.cause == UNKNOWN
        return
    assert first == place(mistake)
    assert told is not None
    assert told.cause == CAUSES[mistake.twin.__name__][0], told.text


@pytest.mark.slow
def test_no_cause_is_wrong_where_the_arrays_alone_are_known(sides: Sides) -> None:
    named = 0
    for mistake in IN_A_TRACE:
        first, told = sides.outcome(mistake, "float64", checkpoint=False)
        assert first == place(mistake)
        assert told is not None
        assert told.cause in (UNKNOWN, *CAUSES[mistake.twin.__name__]), mistake.twin
        named += told.cause != UNKNOWN
    assert named >= KNOWN_BY_ARRAYS * len(IN_A_TRACE)


def l1_norm(x, w, _):
    return x / np.mean(np.abs(x), axis=-1, keepdims=True) * (1 + w)


def gelu_without_its_cube(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * x))


def heads_joined_backwards(x):
    return merge_heads(x[:, ::-1])


@pytest.mark.parametrize(
    ("replaces", "twin"),
    [
        ("model.gemma.rms_norm", l1_norm),
        ("model.gemma.gelu", gelu_without_its_cube),
        ("model.gemma.merge_heads", heads_joined_backwards),
    ],
)
def test_a_mistake_that_nobody_knows_is_unknown(
    replaces: str, twin: Any, sides: Sides
) -> None:
    stranger = replace(MISTAKES[0], twin=twin, replaces=replaces, first="")
    _, told = sides.outcome(stranger, "float64", checkpoint=True)
    assert told is not None
    assert told.cause == UNKNOWN, told.text


def next_block_s(golden: Golden) -> Golden:
    blocks = golden.model.weights.decoder.blocks
    return with_decoder(golden, blocks=(*blocks[1:], blocks[0]))


def one_added_twice(golden: Golden) -> Golden:
    blocks = golden.model.weights.decoder.blocks
    moved = tuple(replace(w, mlp_norm=w.mlp_norm + 1) for w in blocks)
    return with_decoder(golden, blocks=moved)


def norms_exchanged(golden: Golden) -> Golden:
    blocks = golden.model.weights.decoder.blocks
    moved = tuple(
        replace(w, attention_norm=w.mlp_norm, mlp_norm=w.attention_norm) for w in blocks
    )
    return with_decoder(golden, blocks=moved)


def with_decoder(golden: Golden, **changes: Any) -> Golden:
    w = golden.model.weights
    w = replace(w, decoder=replace(w.decoder, **changes))
    return replace(golden, model=PaliGemma(golden.model.config, w))


@pytest.mark.parametrize(
    ("change", "checkpoint", "cause"),
    [
        (next_block_s, True, "another block's weights"),
        (norms_exchanged, True, "another norm's gain"),
        (one_added_twice, True, "norm gain 2 + w"),
        (one_added_twice, False, "norm gain off by one"),
    ],
)
def test_weights_at_another_place_are_named(
    change: Any, checkpoint: bool, cause: str, tmp_path: Path
) -> None:
    golden = load_golden("two_kv_heads")
    name = golden_folder("two_kv_heads") if checkpoint else ""
    a, b = (
        save_trace(tmp_path / f"{side}.safetensors", whole_trace(x), name)
        for side, x in (("a", golden), ("b", change(golden)))
    )
    told = diagnose(compare(str(a), str(b)))
    assert told is not None
    assert told.cause == cause, told.text


def in_bfloat16(x: np.ndarray) -> np.ndarray:
    return widen_bfloat16(round_to_bfloat16(x)).reshape(x.shape)


def test_chance_explains_nothing_in_bfloat16(tmp_path: Path) -> None:
    """To the tolerance of bfloat16 many things are equal; a cause has to leave less."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 12, 16))
    noise, vector = rng.normal(size=a.shape) / 3, rng.choice([-1.5, 1.5], 16)
    for n, b in enumerate((2 * a + noise, a + vector + noise)):
        sides = [
            save_trace(
                tmp_path / f"{side}{n}.safetensors",
                {"decoder/block17/mlp/out": in_bfloat16(x.astype(np.float32))},
            )
            for side, x in (("a", a), ("b", b))
        ]
        told = diagnose(compare(*map(str, sides)))
        assert told is not None
        assert told.cause == UNKNOWN, told.text
