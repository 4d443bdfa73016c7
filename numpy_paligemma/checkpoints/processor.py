"""A checkpoint's files about input into a `PaliGemmaProcessor`."""

from pathlib import Path

from numpy_paligemma.checkpoints.config import read_json
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.inputs.settings import image_settings_from
from numpy_paligemma.inputs.tokenizer import Tokenizer
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
    tokenizer = Tokenizer(folder / "tokenizer.model", c.image_token_id)
    path = folder / "preprocessor_config.json"
    together = folder / "processor_config.json"
    if not path.is_file() and together.is_file():
        path = together
        fields = read_json(path).get("image_processor", {})
        if not isinstance(fields, dict):
            msg = f"{path}: image_processor: expected an object, found {fields!r}"
            raise ValueError(msg)
    else:
        fields = read_json(path)
    settings = image_settings_from(fields)
    if settings.size != c.vision.image_size:
        msg = (
            f"{path}: size {settings.size}, but config.json's image_size is "
            f"{c.vision.image_size}; the two files are of different checkpoints"
        )
        raise ValueError(msg)
    return PaliGemmaProcessor(tokenizer, settings, c.vision.patches)
