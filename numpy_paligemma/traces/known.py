"""What is known of the model behind two traces: its checkpoint, or what taps tell."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.big_vision.config import archive_config, find_archive
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.checkpoints.identity import weights_sha256
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.typed import typed_path
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig
from numpy_paligemma.model.gemma import GemmaBlockWeights, GemmaWeights, PostNorms
from numpy_paligemma.model.layers import Affine, Norm
from numpy_paligemma.model.pipeline import PaliGemmaWeights
from numpy_paligemma.model.siglip import SiglipBlockWeights, SiglipWeights

Model = tuple[PaliGemmaWeights, PaliGemmaConfig]
SMALL = 400_000_000  # bytes: a checkpoint that may be widened to float64
UPWARDS = 4  # folders above a trace that are looked into
EPS, BASE = 1e-6, 10_000.0  # every published PaliGemma's


def checkpoint_model(
    name: str, dtype: str, sha256: str = "", near: Path = Path()
) -> Model | None:
    """Load the checkpoint that a trace names, where it lies on this disk.

    Parameters
    ----------
    name : str
        "miniature", a folder or an `.npz`; a hub name is not looked for.
    dtype : str
        How the trace's run held matrices; float32 is widened where that is cheap.
    sha256 : str
        What the trace says of the weights; others are not taken for them.
    near : Path
        The trace. It names the last part of a path alone, so that folder is looked for
        here and in the folders above the trace.

    Returns
    -------
    weights and sizes, or None where it is not here or cannot be read
    """
    folder = _found(name, near)
    if folder is None or (sha256 and _other(folder, sha256)):
        return None
    held = dtype if dtype in HELD_DTYPES else "float32"
    if held == "float32" and _size(folder) <= SMALL:
        held = "float64"
    try:
        archive = find_archive(folder)
        config = archive_config(archive) if archive else read_config(folder)
        return load_weights(archive or folder, config, held), config
    except (ValueError, OSError):
        return None


def _found(name: str, near: Path) -> Path | None:
    """Find a checkpoint by its name."""
    if name == MINIATURE:
        return bundled(MINIATURE)
    above = list(near.resolve().parents)[:UPWARDS] if near.name else []
    places = [typed_path(name), *(folder / name for folder in above)]
    return next((place for place in places if name and place.exists()), None)


def _other(folder: Path, sha256: str) -> bool:
    """Tell another checkpoint of the same name."""
    try:
        return weights_sha256(folder) != sha256
    except (ValueError, OSError):
        return True


def _size(folder: Path) -> int:
    """Count a checkpoint's bytes."""
    files = [folder] if folder.is_file() else folder.glob("*.safetensors")
    return sum(path.stat().st_size for path in files)


class UnknownMatrix:
    """A weight that nobody gave: whatever is multiplied by it is unknown, too."""

    __array_ufunc__ = None

    def __init__(self, out: int, width: int) -> None:
        self.shape = (out, width)

    @property
    def T(self) -> "UnknownMatrix":
        """The transpose, to stand on the right of ``@``."""
        return self

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        return np.full((*x.shape[:-1], self.shape[0]), np.nan)

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return np.full((*np.shape(ids), self.shape[1]), np.nan)


Shape = Callable[[str], tuple[int, ...] | None]


def model_of_shapes(shape: Shape, depths: tuple[int, int], *, gemma_2: bool) -> Model:
    """Make a model whose sizes are those of the taps, and whose weights are unknown."""
    c = _config(shape, depths, gemma_2=gemma_2)
    return _weights(c), c


def _config(shape: Shape, depths: tuple[int, int], *, gemma_2: bool) -> PaliGemmaConfig:
    """Read sizes off the taps; what they do not tell is as published, or one."""

    def size(tap: str, axis: int) -> int:
        found = shape(tap)
        return found[axis] if found and -len(found) <= axis < len(found) else 1

    eye, block = "vision/block00/attention/", "decoder/block00/attention/"
    patches = (
        size("vision/embed", 1) if shape("vision/embed") else size("projector/out", 1)
    )
    grid = max(1, round(patches**0.5))
    side = size("inputs/pixel_values", -1)
    vision = VisionConfig(
        image_size=max(side, grid),
        patch_size=max(1, side // grid),
        channels=size("inputs/pixel_values", 1),
        width=size("vision/embed", -1),
        depth=depths[0],
        heads=size(eye + "q", 1),
        mlp_width=1,
        norm_eps=EPS,
    )
    sized = block + ("q_proj" if shape(block + "q_proj") else "q")
    text = TextConfig(
        vocab_size=size("logits", -1),
        width=size("fusion/out", -1)
        if shape("fusion/out")
        else size("decoder/out", -1),
        depth=depths[1],
        heads=size(sized, 1),
        kv_heads=size(sized.replace("/q", "/k"), 1),
        head_dim=size(sized, -1),
        mlp_width=1,
        norm_eps=EPS,
        rope_base=BASE,
        post_norms=gemma_2,
        sliding_blocks=frozenset(range(0, depths[1], 2)) if gemma_2 else frozenset(),
    )
    return PaliGemmaConfig(vision, text, -1, 2, (1,), 0)


def _weights(c: PaliGemmaConfig) -> PaliGemmaWeights:
    """Make unknown weights of these sizes."""

    def vector(n: int) -> np.ndarray:
        return np.full(n, np.nan)

    def affine(out: int, width: int) -> Affine:
        return Affine(UnknownMatrix(out, width), vector(out))

    v, t = c.vision, c.text
    D, F = v.width, v.mlp_width
    norm = Norm(vector(D), vector(D))
    q, k, out = affine(D, D), affine(D, D), affine(D, D)
    fc1, fc2 = affine(F, D), affine(D, F)
    eye = SiglipBlockWeights(norm, q, k, affine(D, D), out, norm, fc1, fc2)
    patch = affine(D, v.channels * v.patch_size**2)
    vision = SiglipWeights(
        patch, np.full((v.patches, D), np.nan), (eye,) * v.depth, norm
    )
    D, F, gain = t.width, t.mlp_width, vector(t.width)
    block = GemmaBlockWeights(
        gain,
        UnknownMatrix(t.heads * t.head_dim, D),
        UnknownMatrix(t.kv_heads * t.head_dim, D),
        UnknownMatrix(t.kv_heads * t.head_dim, D),
        UnknownMatrix(D, t.heads * t.head_dim),
        gain,
        UnknownMatrix(F, D),
        UnknownMatrix(F, D),
        UnknownMatrix(D, F),
        PostNorms(gain, gain) if t.post_norms else None,
    )
    table = UnknownMatrix(t.vocab_size, D)
    decoder = GemmaWeights(table, (block,) * t.depth, gain, table)
    return PaliGemmaWeights(vision, affine(D, v.width), decoder)


Given = Callable[[str], np.ndarray | None]


def with_norms(model: Model, given: Given, tap: str) -> Model:
    """Fit the gains of a block's norms to what a side says goes in and comes out.

    A norm's gain is its output over its normalised input, the same for every token:
    what the first lines up with, the others confirm.
    """
    w, c = model
    if tap.startswith("vision/"):
        return replace(w, vision=_eye_norms(w.vision, c, given, tap)), c
    return replace(w, decoder=_decoder_norms(w.decoder, c, given, tap)), c


def _number(tap: str) -> int | None:
    rest = tap.partition("/block")[2]
    return int(rest[:2]) if rest[:2].isdecimal() else None


def _eye_norms(
    w: SiglipWeights, c: PaliGemmaConfig, given: Given, tap: str
) -> SiglipWeights:
    i, eps = _number(tap), c.vision.norm_eps
    if i is None:
        last = f"vision/block{c.vision.depth - 1:02}/out"
        return replace(
            w, final_norm=_layer(given(last), given("vision/out"), eps) or w.final_norm
        )
    at = f"vision/block{i:02}/"
    into = f"vision/block{i - 1:02}/out" if i else "vision/embed"
    first = _layer(given(into), given(at + "attention_norm"), eps)
    second = _layer(given(at + "mid"), given(at + "mlp_norm"), eps)
    block = w.blocks[i]
    block = replace(
        block,
        attention_norm=first or block.attention_norm,
        mlp_norm=second or block.mlp_norm,
    )
    return replace(w, blocks=(*w.blocks[:i], block, *w.blocks[i + 1 :]))


def _decoder_norms(
    w: GemmaWeights, c: PaliGemmaConfig, given: Given, tap: str
) -> GemmaWeights:
    i, eps = _number(tap), c.text.norm_eps
    if i is None:
        last = f"decoder/block{c.text.depth - 1:02}/out"
        return replace(
            w, final_norm=_rms(given(last), given("decoder/out"), eps, w.final_norm)
        )
    at = f"decoder/block{i:02}/"
    into = f"decoder/block{i - 1:02}/out" if i else "fusion/out"
    block = w.blocks[i]
    post = block.post_norms
    if post is not None:
        post = PostNorms(
            _rms(
                given(at + "attention/out"),
                given(at + "attention_post_norm"),
                eps,
                post.attention,
            ),
            _rms(given(at + "mlp/out"), given(at + "mlp_post_norm"), eps, post.mlp),
        )
    block = replace(
        block,
        attention_norm=_rms(
            given(into), given(at + "attention_norm"), eps, block.attention_norm
        ),
        mlp_norm=_rms(given(at + "mid"), given(at + "mlp_norm"), eps, block.mlp_norm),
        post_norms=post,
    )
    return replace(w, blocks=(*w.blocks[:i], block, *w.blocks[i + 1 :]))


def _rms(
    x: np.ndarray | None, y: np.ndarray | None, eps: float, unknown: np.ndarray
) -> np.ndarray:
    """Fit RMSNorm's gain, less one."""
    if x is None or y is None or x.shape != y.shape or x[..., 0].size < 2:
        return unknown
    n = (x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + eps)).reshape(
        -1, x.shape[-1]
    )
    y = y.reshape(n.shape)
    return np.sum(n * y, 0) / np.sum(n * n, 0) - 1


def _layer(x: np.ndarray | None, y: np.ndarray | None, eps: float) -> Norm | None:
    """Fit LayerNorm's gain and bias."""
    if x is None or y is None or x.shape != y.shape or x[..., 0].size < 3:
        return None
    centred = x - np.mean(x, -1, keepdims=True)
    n = centred / np.sqrt(np.mean(np.square(centred), -1, keepdims=True) + eps)
    n, y = n.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
    mean_n, mean_y = n.mean(0), y.mean(0)
    gain = np.sum((n - mean_n) * (y - mean_y), 0) / np.sum(np.square(n - mean_n), 0)
    return Norm(gain, mean_y - gain * mean_n)
