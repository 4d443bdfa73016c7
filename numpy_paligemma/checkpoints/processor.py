"""A checkpoint's files about input into a `PaliGemmaProcessor`."""

from os.path import lexists
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.config import read_json
from numpy_paligemma.checkpoints.vocabulary import open_tokenizer
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.inputs.settings import image_settings_from
from numpy_paligemma.model.config import PaliGemmaConfig


def load_processor(folder: Path, c: PaliGemmaConfig) -> PaliGemmaProcessor:
    """Load a checkpoint's processor.

    Parameters
    ----------
    folder : Path
        With `tokenizer.model`, and `preprocessor_config.json` or, as transformers 5
        saves it, `processor_config.json`.
    c : PaliGemmaConfig
        The files about input must fit the model: the picture's size and the `<image>` id.

    Raises
    ------
    ValueError
        If a file is missing or broken, or asks for what the model does not take.
    """
    tokenizer = open_tokenizer(folder / "tokenizer.model", c)
    path, fields = _image_fields(folder)
    settings = image_settings_from(fields)
    length = fields.get("image_seq_length", c.vision.patches)
    pairs = [
        (f"{path}: size", settings.size, "image_size", c.vision.image_size),
        (f"{path}: image_seq_length", length, "patches a picture", c.vision.patches),
    ]
    for where, found, field, wanted in pairs:
        if found != wanted:
            msg = f"{where} {found}, but by config.json {field} is {wanted}; "
            raise ValueError(msg + "the two files are of different checkpoints")
    return PaliGemmaProcessor(tokenizer, settings, c.vision.patches)


def _image_fields(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find what is said of pictures, in a file of its own or as transformers 5 has it."""
    path, together = (
        folder / "preprocessor_config.json",
        folder / "processor_config.json",
    )
    if lexists(path) or not lexists(together):
        return path, read_json(path)
    fields = read_json(together).get("image_processor", {})
    if not isinstance(fields, dict):
        msg = f"{together}: image_processor: expected an object, found {fields!r}"
        raise ValueError(msg)  # noqa: TRY004  the file is wrong, not the caller
    return together, fields
