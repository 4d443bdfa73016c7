"""How a checkpoint wants its pictures, read from ``preprocessor_config.json``."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FAR = 10  # ImageNet's mean and deviation lead to 2.6, forgotten scaling to hundreds
BICUBIC = 3  # in Pillow's numbering: nearest, Lanczos, bilinear, bicubic, box, Hamming


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The square a picture is stretched to, and what centres its bytes on zero."""

    size: int  # S, the side of the square
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    rescale: float = 1 / 255
    resample: int = BICUBIC


def image_settings_from(fields: Mapping[str, Any]) -> ImageSettings:
    """Read the fields of an image processor; absent ones are SigLIP's.

    ``do_convert_rgb`` is not asked: later files are believed to say null, for which
    transformers fails on every picture that is not RGB, and we always convert. A whole
    number as ``size`` is the side of the square (transformers would keep the aspect
    ratio, which no PaliGemma can take).

    Parameters
    ----------
    fields : the parsed ``preprocessor_config.json``, or the object ``image_processor``
        of ``processor_config.json``, where transformers 5 puts it

    Raises
    ------
    ValueError
        For a field that would change the pixels and that we do not honour.
    """
    for step in ["do_resize", "do_rescale", "do_normalize"]:
        _require(fields.get(step, True) is True, step, "true", fields.get(step))
    for step in ["do_center_crop", "do_pad"]:
        _require(not fields.get(step), step, "false", fields.get(step))
    resample = fields.get("resample", BICUBIC)
    is_filter = type(resample) is int and resample in range(6)
    _require(is_filter, "resample", "a number from 0 to 5", resample)
    rescale = fields.get("rescale_factor", 1 / 255)
    is_factor = _is_number(rescale) and rescale > 0
    _require(is_factor, "rescale_factor", "a positive number", rescale)
    settings = ImageSettings(
        size=_side(fields.get("size", 224)),
        mean=_channels("image_mean", fields),
        std=_channels("image_std", fields),
        rescale=float(rescale),
        resample=int(resample),
    )
    _check_range(settings)
    return settings


def _check_range(settings: ImageSettings) -> None:
    """Refuse settings that together bring bytes nowhere near the -1 to 1 of training."""
    for mean, std in zip(settings.mean, settings.std, strict=True):
        low, high = -mean / std, (255 * settings.rescale - mean) / std
        near = -FAR < low < high < FAR and high - low > 1 / FAR
        _require(near, "image_mean and image_std", "numbers near -1 to 1", (low, high))


def _side(size: Any) -> int:
    """Take the side of the square from either spelling."""
    height = width = size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        height, width = size["height"], size["width"]
    is_side = type(height) is int and height == width and height > 0
    _require(is_side, "size", '{"height": S, "width": S} or S, a whole number', size)
    return height


def _channels(name: str, fields: Mapping[str, Any]) -> tuple[float, ...]:
    """Take three numbers, one a channel."""
    values = fields.get(name, [0.5, 0.5, 0.5])
    is_three = isinstance(values, (list, tuple)) and len(values) == 3
    is_three = is_three and all(map(_is_number, values))
    _require(is_three, name, "three numbers, one a channel", values)
    is_divisor = name == "image_mean" or min(values) > 0
    _require(is_divisor, name, "three positive numbers", values)
    return tuple(map(float, values))


def _is_number(value: Any) -> bool:
    """Tell a finite number; JSON's true is none, though Python's is."""
    return type(value) in {int, float} and abs(value) < sys.float_info.max


def _require(holds: bool, field: str, expected: str, came: Any) -> None:
    """Say in one line which field of the image processor we cannot follow."""
    if not holds:
        message = (
            f"image processor settings, {field}: expected {expected}, came {came!r}; "
            "correct preprocessor_config.json"
        )
        raise ValueError(message)
