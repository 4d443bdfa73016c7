"""A checkpoint's files about input into a `PaliGemmaProcessor`."""

from collections.abc import Sequence
from os.path import lexists
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX
from numpy_paligemma.checkpoints.fields import read_json
from numpy_paligemma.checkpoints.vocabulary import open_tokenizer
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.inputs.settings import image_settings_from
from numpy_paligemma.model.config import PaliGemmaConfig

NAMES = ("tokenizer.model", "tokenizer.json")  # the first that is there
# what the files call it, and what it is called here
SETTINGS = {
    "size": "size",
    "image_mean": "mean",
    "image_std": "std",
    "rescale_factor": "rescale",
    "resample": "resample",
}
BIG_VISION_NAMES = ("tokenizer.model", "paligemma_tokenizer.model", "tokenizer.json")


def load_processor(place: Path, c: PaliGemmaConfig) -> PaliGemmaProcessor:
    """Load a checkpoint's processor.

    Parameters
    ----------
    place : Path
        A folder with `tokenizer.model` and `preprocessor_config.json` or, as transformers 5
        saves it, with `tokenizer.json` and `processor_config.json`. Or big_vision's
        `.npz`, with the tokenizer beside it, that may be `paligemma_tokenizer.model`;
        pictures are then handled as in the published checkpoints.
    c : PaliGemmaConfig
        The files about input must fit the model: the picture's size and the `<image>` id.

    Raises
    ------
    ValueError
        If a file is missing or broken, or asks for what the model does not take.
    """
    is_archive = place.suffix == SUFFIX
    folder, told = (place.parent, place.name) if is_archive else (place, "config.json")
    vocabulary = _vocabulary(folder, BIG_VISION_NAMES if is_archive else NAMES)
    tokenizer = open_tokenizer(vocabulary, c, told=told)
    path, fields = _image_fields(folder, c, needed=not is_archive)
    settings = image_settings_from(fields)
    length = fields.get("image_seq_length", c.vision.patches)
    pairs = [
        (f"{path}: size", settings.size, "image_size", c.vision.image_size),
        (f"{path}: image_seq_length", length, "patches a picture", c.vision.patches),
    ]
    for where, found, field, wanted in pairs:
        if found != wanted:
            msg = f"{where} {found}, but by {told} {field} is {wanted}; "
            raise ValueError(msg + "the two files are of different checkpoints")
    return PaliGemmaProcessor(tokenizer, settings, c.vision.patches)


def _vocabulary(folder: Path, names: Sequence[str]) -> Path:
    """Choose the tokenizer's file: the model, if it is there, needs no further library."""
    paths = [folder / name for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def _image_fields(
    folder: Path, c: PaliGemmaConfig, *, needed: bool
) -> tuple[Path, dict[str, Any]]:
    """Find what is said of pictures, in a file of its own or as transformers 5 has it.

    Where neither is `needed` nor there, the size is the model's. Where both are, they
    must agree: transformers 5, saving over an older clone, leaves the old one behind.
    """
    path, together = (
        folder / "preprocessor_config.json",
        folder / "processor_config.json",
    )
    if not (needed or lexists(path) or lexists(together)):
        return path, {"size": c.vision.image_size}
    said = read_json(together) if lexists(together) else {}
    fields = said.get("image_processor")
    if lexists(path) or not lexists(together):
        alone = read_json(path)
        if fields is not None:
            pair = (path, alone), (together, _object(together, fields))
            _require_the_same(pair, c.vision.patches)
        return path, alone
    return together, _object(together, said.get("image_processor", {}))


def _object(path: Path, fields: Any) -> dict[str, Any]:
    """Refuse what is no object."""
    if not isinstance(fields, dict):
        msg = f"{path}: image_processor: expected an object, found {fields!r}"
        raise ValueError(msg)  # noqa: TRY004  the file is wrong, not the caller
    return fields


def _require_the_same(
    pair: tuple[tuple[Path, dict[str, Any]], tuple[Path, dict[str, Any]]], patches: int
) -> None:
    """Refuse two files that would make other pixels: no third says which is right."""
    (path, first), (other, second) = pair
    one, two = image_settings_from(first), image_settings_from(second)
    found = {field: (getattr(one, n), getattr(two, n)) for field, n in SETTINGS.items()}
    lengths = (f.get("image_seq_length", patches) for f in (first, second))
    for field, (a, b) in {**found, "image_seq_length": tuple(lengths)}.items():
        if a != b:
            msg = f"{path} and {other} disagree on {field}: {a} and {b}; remove the "
            msg += "one that is not this checkpoint's (transformers 5 reads the second)"
            raise ValueError(msg)
