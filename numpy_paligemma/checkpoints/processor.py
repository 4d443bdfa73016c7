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
    vocabulary = folder / "tokenizer.model"
    tokenizer = Tokenizer(vocabulary, c.image_token_id)
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
    length = fields.get("image_seq_length", c.vision.patches)
    pairs = [
        (f"{path}: size", settings.size, "image_size", c.vision.image_size),
        (f"{path}: image_seq_length", length, "patches a picture", c.vision.patches),
        (f"{vocabulary}: <bos>", tokenizer.bos_token_id, "bos", c.bos_token_id),
        (f"{vocabulary}: <pad>", tokenizer.pad_token_id, "pad", c.pad_token_id),
    ]
    for where, found, field, wanted in pairs:
        if found != wanted:
            msg = f"{where} {found}, but by config.json {field} is {wanted}; "
            raise ValueError(msg + "the two files are of different checkpoints")
    if tokenizer.pieces > c.text.vocab_size:
        msg = (
            f"{vocabulary}: {tokenizer.pieces} pieces, but by config.json the embedding "
            f"has {c.text.vocab_size} rows; the two are of different checkpoints"
        )
        raise ValueError(msg)
    return PaliGemmaProcessor(tokenizer, settings, c.vision.patches)
