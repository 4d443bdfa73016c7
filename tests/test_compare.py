"""Two traces: whatever their names, files, dtypes and layouts, what is compared is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, assert_one_line
from golden_line import GOLDEN, load_golden
from safetensors.numpy import load_file, save_file
from tiny import stored, write_safetensors
from trace_files import Arrays, golden_folder, save_trace, stepwise_trace, whole_trace

from numpy_paligemma.arrays.formats import round_to_bfloat16
from numpy_paligemma.checkpoints.names import in_memory
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.traces.compare import compare
from numpy_paligemma.traces.reading.names import read_name
from numpy_paligemma.traces.tolerance import tolerance

MODEL = "two_kv_heads"
EYE, GEMMA = "vision/block00/", "decoder/block01/"


@pytest.fixture(scope="module")
def right() -> Arrays:
    return whole_trace(load_golden(MODEL))


@pytest.fixture
def a(right: Arrays, tmp_path: Path) -> Path:
    return save_trace(tmp_path / "a.safetensors", right)


def rows(a: Path, b: Path) -> dict[str, tuple[str, ...]]:
    """Compare, and take every row's notes."""
    found = compare(str(a), str(b))
    assert found.agree, found.first
    return {row.name: row.notes for row in found.rows}


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["two_kv_heads", "gemma_2"])
@pytest.mark.parametrize("layout", range(3))
def test_every_layout_of_modules_is_read(model: str, layout: int) -> None:
    config = load_golden(model).model.config
    gemma_2 = model == "gemma_2"
    for tap, place in every_tap(config).items():
        if place.end == "inside" or not place.module:
            continue
        module = in_memory(place.module)[layout]
        found = read_name(f"{module}.{place.end}", gemma_2=gemma_2)
        assert found.path == tap
        if place.end == "output":
            assert read_name(module, gemma_2=gemma_2).path == tap


@pytest.mark.parametrize(
    ("name", "tap"),
    [
        (
            "base_model.model.model.language_model.layers.3.mlp",
            "decoder/block03/mlp/out",
        ),
        ("model.language_model.layers.3[0]", "decoder/block03/out"),
        ("model.language_model.layers.0.input", "fusion/out"),
        ("model.language_model.layers.4.input_layernorm.input", "decoder/block03/out"),
        ("language_model.model.layers.2.self_attn", "decoder/block02/attention/out"),
        ("model.layers.2.self_attn.q_proj", "decoder/block02/attention/q_proj"),
        ("vision_model.encoder.layers.1.mlp.fc2", "vision/block01/mlp/out"),
        ("model.vision_tower", "vision/out"),
        ("multi_modal_projector", "projector/out"),
        ("step002/lm_head", "step002/logits"),
        ("pixel_values", "inputs/pixel_values"),
    ],
)
def test_other_places_of_the_same_arrays_are_read(name: str, tap: str) -> None:
    assert read_name(name, gemma_2=False).path == tap


def test_gemma_2_s_head_is_not_its_capped_logits() -> None:
    assert not read_name("lm_head", gemma_2=True).known


def test_rows_stand_in_the_model_s_order(
    right: Arrays, a: Path, tmp_path: Path
) -> None:
    b = save_trace(tmp_path / "b.safetensors", dict(sorted(right.items())[::-1]))
    taps = [row.name for row in compare(str(a), str(b)).rows]
    assert taps[4:] == list(every_tap(load_golden(MODEL).model.config))


def test_missing_names_are_listed(
    right: Arrays, a: Path, tmp_path: Path, command: Command
) -> None:
    fewer = {name: x for name, x in right.items() if "mlp" not in name}
    b = save_trace(tmp_path / "b.safetensors", fewer | {"extra": np.ones(3)})
    ran = command("compare", a, b, "--all")
    assert ran.status == 0
    for name in right.keys() - fewer.keys():
        assert f"  {name}\n" in ran.out
    assert "only in B (1):\n  extra\n" in ran.out


# --- files and dtypes -----------------------------------------------------------------


def as_npz(arrays: Arrays, path: Path) -> Path:
    path = path.with_suffix(".npz")
    np.savez(path, **arrays)
    return path


def in_bfloat16(arrays: Arrays, path: Path) -> Path:
    floats = {n: x for n, x in arrays.items() if x.dtype.kind == "f"}
    return write_safetensors(
        path, {name: stored(x.astype(np.float32), "BF16") for name, x in floats.items()}
    )


def npz_of_bfloat16(arrays: Arrays, path: Path) -> Path:
    bits = {
        name: round_to_bfloat16(x.astype(np.float32)).view("V2")
        for name, x in arrays.items()
        if x.dtype.kind == "f"
    }
    return as_npz(bits, path)


def in_float16(arrays: Arrays, path: Path) -> Path:
    return as_npz({n: x.astype(np.float16) for n, x in arrays.items()}, path)


def in_float32(arrays: Arrays, path: Path) -> Path:
    kept = {
        n: x.astype(np.float32) if x.dtype.kind == "f" else x for n, x in arrays.items()
    }
    return save_trace(path, kept)


@pytest.mark.parametrize(
    "write", [as_npz, in_bfloat16, npz_of_bfloat16, in_float16, in_float32]
)
def test_files_and_dtypes_are_compared(
    write: Callable[[Arrays, Path], Path], right: Arrays, a: Path, tmp_path: Path
) -> None:
    b = write(right, tmp_path / "b.safetensors")
    assert len(rows(a, b)) >= len(right) - 5


def test_the_golden_file_of_the_miniature_is_a_trace(tmp_path: Path) -> None:
    golden = GOLDEN / "miniature.safetensors"
    b = as_npz(load_file(golden), tmp_path / "b")
    assert len(rows(golden, b)) > 80


# --- layouts --------------------------------------------------------------------------


def merged(x: np.ndarray) -> np.ndarray:
    B, N, T, H = x.shape
    return x.swapaxes(1, 2).reshape(B, T, N * H)


LAYOUTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], str]] = {
    "heads merged": (GEMMA + "attention/q_proj", merged, "heads merged"),
    "heads behind": (GEMMA + "attention/q", lambda x: x.swapaxes(1, 2), "behind"),
    "keys repeated": (GEMMA + "attention/k", lambda x: x.repeat(2, 1), "2 times"),
    "keys transposed": (GEMMA + "attention/k", lambda x: x.swapaxes(2, 3), "swapped"),
    "scores in groups": (
        GEMMA + "attention/scores",
        lambda x: x.reshape(len(x), 2, -1, *x.shape[2:]),
        "groups",
    ),
    "channels first": ("vision/embed", lambda x: x.swapaxes(1, 2), "swapped"),
    "a grid": ("vision/embed", lambda x: x.reshape(len(x), 2, 2, -1), "grid"),
    "a flat batch": ("projector/out", lambda x: x.reshape(-1, x.shape[-1]), "one axis"),
    "channels last": (
        "inputs/pixel_values",
        lambda x: x.transpose(0, 2, 3, 1),
        "channels last",
    ),
    "an added mask": ("fusion/mask", lambda x: np.where(x, 0.0, -1e38), "added"),
    "the last logits": ("logits", lambda x: x[:, -1], "last position"),
    "masked scores": (GEMMA + "attention/scores", lambda x: x, ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_recognised_and_said(
    layout: str, right: Arrays, a: Path, tmp_path: Path
) -> None:
    name, change, said = LAYOUTS[layout]
    b = save_trace(tmp_path / "b.safetensors", right | {name: change(right[name])})
    assert said in " ".join(rows(a, b)[name])


def test_scores_written_behind_the_mask_are_recognised(
    right: Arrays, a: Path, tmp_path: Path
) -> None:
    name = GEMMA + "attention/scores"
    scores = np.where(right["fusion/mask"], right[name], -np.inf)
    b = save_trace(tmp_path / "b.safetensors", right | {name: scores})
    assert rows(a, b)[name] == ("B: written after the mask",)


def test_a_trace_without_a_batch_is_recognised(tmp_path: Path) -> None:
    golden = load_file(GOLDEN / "miniature.safetensors")
    bare = {n: x[0] for n, x in golden.items() if n != "pixel_values"}
    b = save_trace(tmp_path / "b.safetensors", bare)
    notes = rows(GOLDEN / "miniature.safetensors", b)
    assert notes["decoder/block00/attention/q"] == ("B: no batch axis",)


def test_equal_shapes_are_never_turned_to_agree(
    right: Arrays, a: Path, tmp_path: Path
) -> None:
    name = "decoder/block00/attention/probs"
    b = save_trace(
        tmp_path / "b.safetensors", right | {name: right[name].swapaxes(2, 3)}
    )
    first = compare(str(a), str(b)).first
    assert first is not None
    assert first.name == name


def test_padded_rows_are_left_out(right: Arrays, a: Path, tmp_path: Path) -> None:
    padded = right["inputs/attention_mask"] == 0
    assert padded.any()
    other = dict(right)
    for name, x in right.items():
        if name.startswith("decoder") and x.ndim == 3:
            other[name] = np.where(padded[..., None], 7.0, x)
    rows(a, save_trace(tmp_path / "b.safetensors", other))


# --- differences ----------------------------------------------------------------------


def told(command: Command, a: Path, b: Path, status: int) -> dict[str, object]:
    ran = command("compare", a, b, "--json")
    assert ran.status == status, ran
    found = json.loads(ran.out)
    assert found.keys() == {"agree", "first", "diagnosis", "rows"}
    return found


def test_json_of_equal_traces_has_no_first(a: Path, command: Command) -> None:
    found = told(command, a, a, 0)
    assert (found["agree"], found["first"], found["diagnosis"]) == (True, None, None)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x: np.where(np.arange(x.shape[-1]) == 1, np.nan, x), "not a number"),
        (lambda x: x * 0, "all noughts"),
        (lambda x: x[..., :-1], "shape"),
        (lambda x: x * 1.25, "scale"),
        (lambda x: x + np.sin(np.arange(x.size)).reshape(x.shape), "unknown"),
        (lambda x: x.astype(np.float16).astype(x.dtype), "precision"),
    ],
)
def test_differences_have_their_own_diagnosis(
    change: Callable[[np.ndarray], np.ndarray],
    cause: str,
    right: Arrays,
    a: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    name = GEMMA + "mlp/out"
    b = save_trace(tmp_path / "b.safetensors", right | {name: change(right[name])})
    found = told(command, a, b, 1)
    assert found["first"]["name"] == name  # type: ignore[index]
    assert found["diagnosis"]["cause"] == cause  # type: ignore[index]


def test_zeros_on_both_sides_agree(right: Arrays, tmp_path: Path) -> None:
    name = GEMMA + "mlp/out"
    both = [
        save_trace(tmp_path / f"{s}.safetensors", right | {name: right[name] * 0})
        for s in "ab"
    ]
    rows(*both)


def test_a_swapped_step_is_named(tmp_path: Path) -> None:
    arrays = stepwise_trace(load_golden(MODEL))
    a = save_trace(tmp_path / "a.safetensors", arrays)
    late = {n: x for n, x in arrays.items() if not n.startswith("step")}
    late |= {
        f"step001/{n.removeprefix('step002/')}": x
        for n, x in arrays.items()
        if n.startswith("step002/") and "attention" not in n
    }
    b = save_trace(tmp_path / "b.safetensors", late)
    from numpy_paligemma.traces.diagnosis import diagnose

    found = diagnose(compare(str(a), str(b)))
    assert found is not None
    assert found.cause == "shifted by one step"


def test_what_was_not_given_before_the_first_is_said(
    right: Arrays, a: Path, tmp_path: Path, command: Command
) -> None:
    name = GEMMA + "attention/out"
    fewer = {n: x for n, x in right.items() if not n.startswith(GEMMA + "attention/")}
    b = save_trace(tmp_path / "b.safetensors", fewer | {name: right[name] * 2})
    ran = command("compare", a, b)
    assert f"differ: first at {name}" in ran.out
    assert f"agrees is {GEMMA}attention_norm" in ran.out
    assert (
        f"only one side has {GEMMA}attention/q_proj … {GEMMA}attention/probs"
        in " ".join(ran.out.split())
    )


# --- trouble --------------------------------------------------------------------------


def test_unlike_traces_are_refused(
    right: Arrays, tmp_path: Path, command: Command
) -> None:
    def trace(side: str, arrays: Arrays, **about: str) -> Path:
        folder = golden_folder(MODEL)
        return save_trace(tmp_path / f"{side}.safetensors", arrays, folder, **about)

    rng = np.random.default_rng(1)
    ids = right["inputs/input_ids"].copy()
    ids[0, -1] += 1
    pixels = rng.uniform(-1, 1, right["inputs/pixel_values"].shape)
    for arrays, about, said in (
        (right, {"checkpoint_sha256": "2"}, "other checkpoints"),
        (right, {"prompt": '["detect star"]'}, "other prompts"),
        (right | {"inputs/input_ids": ids}, {}, "other token ids"),
        (right | {"inputs/pixel_values": pixels}, {}, "other pictures"),
    ):
        a = trace("a", right, checkpoint_sha256="1", prompt='["caption en"]')
        ran = command("compare", a, trace("b", arrays, **about))
        assert_one_line(ran, 2)
        assert said in ran.err
        assert "the same checkpoint, prompt and picture" in ran.err


def test_trouble_is_one_line(a: Path, tmp_path: Path, command: Command) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("not a trace")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\3\4 and no more")
    words = tmp_path / "words.npz"
    np.savez(words, logits=np.array(["a", "b"]))
    nothing = save_trace(tmp_path / "nothing.safetensors", {"foo": np.ones(2)})
    for b in (tmp_path / "gone", tmp_path, text, broken, words, nothing):
        for pair in ((a, b), (b, a)):
            assert_one_line(command("compare", *pair), 2)


def test_usage_is_trouble_too(a: Path, command: Command) -> None:
    assert command("compare", a).status == 2


# --- tolerance ------------------------------------------------------------------------


def test_tolerance_grows_with_depth_and_with_the_dtype() -> None:
    taps = ["vision/embed", "vision/block00/out", "vision/block26/out"]
    taps += ["decoder/block00/out", "decoder/block17/out"]
    by_depth = [tolerance(tap, "float32", (27, 18), 0) for tap in taps]
    assert by_depth == sorted(by_depth)
    grains = ["float64", "float32", "float16", "bfloat16"]
    by_dtype = [tolerance("logits", grain, (27, 18), 300) for grain in grains]
    assert by_dtype == sorted(by_dtype)


# --- odd arrays -----------------------------------------------------------------------


def test_an_array_without_numbers_is_another_shape(a: Path, tmp_path: Path) -> None:
    b = save_trace(tmp_path / "b.safetensors", {"logits": np.zeros((0, 5))})
    first = compare(str(a), str(b)).first
    assert first is not None
    assert "cannot be brought together" in first.notes[0]


def test_an_additive_mask_that_hides_nothing_agrees(tmp_path: Path) -> None:
    sees = {"fusion/mask": np.ones((1, 1, 4, 4), bool)}
    added = {"fusion/mask": np.zeros((1, 1, 4, 4), np.float32)}
    sides = [
        save_trace(tmp_path / f"{side}.safetensors", x)
        for side, x in (("a", sees), ("b", added))
    ]
    assert compare(*map(str, sides)).agree


def test_a_single_array_is_no_trace(a: Path, tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "b.npy", np.ones(3))
    ran = command("compare", a, tmp_path / "b.npy")
    assert ran.status == 2
    assert "a .npy, which holds one array" in ran.err


def test_many_names_set_aside_are_counted(
    right: Arrays, a: Path, tmp_path: Path, command: Command
) -> None:
    more = {
        f"model.vision_tower.encoder.layers.{i}.mlp.fc1": np.ones(3) for i in range(9)
    }
    b = save_trace(tmp_path / "b.safetensors", right | more)
    assert "not compared: 8 more" in command("compare", a, b).out
    assert command("compare", a, b, "--all").out.count("not compared") == 9


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("nope", "--model nope: expected a checkpoint's folder, an .npz or"),
        (str(GOLDEN / "gemma_2"), "its weights are not those that the traces tell of"),
    ],
    ids=["nothing there", "another model"],
)
def test_a_checkpoint_that_cannot_be_theirs_is_trouble(
    model: str, told: str, command: Command
) -> None:
    trace = GOLDEN / "miniature.safetensors"
    ran = command("compare", trace, trace, "--model", model)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_agreement_in_a_coarse_dtype_says_what_it_does_not_see(
    tmp_path: Path, command: Command
) -> None:
    arrays = load_file(GOLDEN / "miniature.safetensors")
    names = {name: x.astype(np.float16) for name, x in arrays.items() if x.ndim > 2}
    save_file(names, tmp_path / "half.safetensors")
    ran = command(
        "compare", GOLDEN / "miniature.safetensors", tmp_path / "half.safetensors"
    )
    assert ran.status == 0
    assert "as far as float16 tells: at " in " ".join(ran.out.split())
