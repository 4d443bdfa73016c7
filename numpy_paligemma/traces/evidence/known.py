"""What is known of the model behind two traces: its checkpoint, or what taps tell."""

from collections.abc import Callable, Sequence
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
    if held == "float32" and _bytes(folder) <= SMALL:
        held = "float64"
    try:
        archive = find_archive(folder)
        config = archive_config(archive) if archive else read_config(folder)
        return load_weights(archive or folder, config, held), config
    except (ValueError, OSError):
        return None


def require_checkpoint(name: str, sha256: Sequence[str]) -> None:
    """Refuse a checkpoint that was asked for and cannot be what the traces tell of.

    Parameters
    ----------
    name : str
        "miniature", a folder or an `.npz`.
    sha256 : strings
        What the traces say of their weights; empty where one says nothing.

    Raises
    ------
    ValueError
        If it is not here, cannot be read, or has other weights.
    """
    folder = _found(name, Path())
    if folder is None:
        msg = f"--model {name}: expected a checkpoint's folder, an .npz or "
        raise ValueError(msg + f'"{MINIATURE}", found nothing there')
    found = weights_sha256(folder)
    if any(said and said != found for said in sha256):
        msg = f"--model {name}: its weights are not those that the traces tell of; "
        raise ValueError(msg + "give the checkpoint that they were made from")


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


def _bytes(folder: Path) -> int:
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
    vision = _vision_config(shape, depths[0])
    text = _text_config(shape, depths[1], gemma_2=gemma_2)
    return PaliGemmaConfig(vision, text, -1, 2, (1,), 0)


def _size(shape: Shape, axis: int, *taps: str) -> int:
    """Read one size off the first of these taps that is there, else one."""
    found = next((sizes for tap in taps if (sizes := shape(tap))), ())
    return found[axis] if -len(found) <= axis < len(found) else 1


def _vision_config(shape: Shape, depth: int) -> VisionConfig:
    """Read the eye's sizes."""
    grid = max(1, round(_size(shape, 1, "vision/embed", "projector/out") ** 0.5))
    side = _size(shape, -1, "inputs/pixel_values")
    return VisionConfig(
        image_size=max(side, grid),
        patch_size=max(1, side // grid),
        channels=_size(shape, 1, "inputs/pixel_values"),
        width=_size(shape, -1, "vision/embed"),
        depth=depth,
        heads=_size(shape, 1, "vision/block00/attention/q"),
        mlp_width=1,
        norm_eps=EPS,
    )


def _text_config(shape: Shape, depth: int, *, gemma_2: bool) -> TextConfig:
    """Read the decoder's sizes."""
    block = "decoder/block00/attention/"
    sized = block + ("q_proj" if shape(block + "q_proj") else "q")
    return TextConfig(
        vocab_size=_size(shape, -1, "logits"),
        width=_size(shape, -1, "fusion/out", "decoder/out"),
        depth=depth,
        heads=_size(shape, 1, sized),
        kv_heads=_size(shape, 1, sized.replace("/q", "/k")),
        head_dim=_size(shape, -1, sized),
        mlp_width=1,
        norm_eps=EPS,
        rope_base=BASE,
        post_norms=gemma_2,
        sliding_blocks=frozenset(range(0, depth, 2)) if gemma_2 else frozenset(),
    )


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
