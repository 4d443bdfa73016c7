"""A checkpoint into a model and its processor, and the whole line in one call."""

import logging
from os import PathLike
from typing import Unpack

from numpy_paligemma.arrays.device import choose_device, to_device
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.big_vision.config import archive_config, find_archive
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.generation import warn_of_generation
from numpy_paligemma.checkpoints.hub import MINIATURE, checkpoint_folder
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.lora.adapter import read_adapter
from numpy_paligemma.checkpoints.lora.merge import Change, warn_of_another_base
from numpy_paligemma.checkpoints.processor import load_processor
from numpy_paligemma.inputs.image import ImageSource
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.paligemma import Options, PaliGemma

log = logging.getLogger(__name__)


def load_hf_model(
    model: str | PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "bfloat16",
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    adapter: str | PathLike[str] | None = None,
) -> tuple[PaliGemma, PaliGemmaProcessor]:
    """Load a checkpoint: a folder in Hugging Face form, an `.npz`, or a hub name.

    Parameters
    ----------
    model : str or path
        Or "miniature". An `.npz` is one of big_vision's, the tokenizer beside it.
    device : {"auto", "cpu", "cuda"}
        "auto" takes a GPU where CuPy finds one and it has the memory.
    dtype : {"bfloat16", "float16", "float32", "float64", "int8"}
        How matrices are held; "int8" includes embedding and head. The arithmetic is float32, for "float64" float64.
    revision, token, cache_dir : str, optional
        For hub names; see `numpy_paligemma.checkpoints.hub.checkpoint_folder`.
    adapter : str or path, optional
        A LoRA adapter's folder, as peft saves it; it is merged in. `changes` of the
        model holds a `numpy_paligemma.checkpoints.lora.merge.Change` for each matrix
        that it changed: name, rank, scale and both norms, ‖W' – W‖ and ‖W‖.

    Returns
    -------
    model : PaliGemma
    processor : PaliGemmaProcessor

    Raises
    ------
    ValueError
        If a file is missing or broken, or holds another model than config.json says.
    HubError
        If a hub name cannot be had.
    MemoryError
        If the model cannot fit into the memory that is there, before it is read, or
        for "cuda" into that of the GPU.
    """
    if dtype not in HELD_DTYPES:
        msg = f"dtype: expected one of {', '.join(HELD_DTYPES)}, found {dtype!r}"
        raise ValueError(msg)
    chosen = choose_device(device)
    folder = checkpoint_folder(
        str(model), dtype=dtype, revision=revision, token=token, cache_dir=cache_dir
    )
    lora = None if adapter is None else read_adapter(adapter)
    archive = find_archive(folder)
    config = archive_config(archive) if archive else read_config(folder)
    place = archive or folder
    processor = load_processor(place, config)
    changes: list[Change] = []
    weights = load_weights(place, config, dtype, lora, changes)
    if archive is None:
        warn_of_generation(folder)
    if lora is not None:
        warn_of_another_base(lora, str(model))
    try:
        weights = to_device(weights, chosen)
    except MemoryError as error:
        if device != "auto":
            raise
        log.warning("warning: %s; the processor answers", error)
    return PaliGemma(config, weights, tuple(changes), place), processor


def answer(
    image: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
    prompt: str,
    model: str | PathLike[str] = MINIATURE,
    **options: Unpack[Options],
) -> str:
    """Answer a prompt about a picture, or several: the whole line in one call.

    Parameters
    ----------
    image : path, Pillow image, uint8 array, or a list of them
    prompt : str
        Such as "caption en".
    model : str or path
        Loaded at each call; keep `load_hf_model`'s two to ask more.
    **options
        Of `PaliGemma.stream`.
    """
    loaded, processor = load_hf_model(model)
    pictures = image if isinstance(image, list | tuple) else [image]
    ids = loaded.generate(**processor([prompt], [pictures]), **options)
    return processor.tokenizer.decode(ids[0])
