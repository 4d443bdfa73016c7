"""Read a picture, lay it on white, shrink it to the square that the model looks at.

The arithmetic is that of transformers' Pillow-backed image processor
(``models/siglip/image_processing_pil_siglip.py``) for a picture handed over as an
object, with ``do_convert_rgb`` on, to the last bit. Three things to know:

- A file is treated as the object that Pillow opens from it. Transparent pixels become
  white; an EXIF orientation is *not* applied. (Handed a path, transformers turns the
  picture and drops the alpha channel, so the same file gives it two answers.) Turn a
  sideways photo with ``PIL.ImageOps.exif_transpose`` first.
- An animated picture gives its current frame, for a file the first.
- One departure: 16-bit greyscale is scaled to 8 bits. ``convert("RGB")`` clips it, and
  nearly every pixel comes out white.
"""

import sys
import warnings
from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from numpy_paligemma.inputs.settings import ImageSettings

__all__ = ["ImageSettings", "PictureError", "load_image", "pixel_values", "to_rgb"]

ImageSource = str | PathLike[str] | Image.Image | np.ndarray


class PictureError(ValueError):
    """A picture that cannot be used; the message is one line for its owner."""


def pixel_values(images: Sequence[Image.Image], settings: ImageSettings) -> np.ndarray:
    """Stretch every picture to the model's square and centre its values on zero.

        (float32(resize(u) · rescale) - mean) / std

    The resizing stays in bytes and ignores the aspect ratio; the product is rounded
    from float64 once, the rest is float32.

    Parameters
    ----------
    images : n pictures in mode RGB, as `load_image` gives them
    settings : ImageSettings

    Returns
    -------
    float32 array, (n, 3, S, S)
    """
    side, resample = settings.size, Image.Resampling(settings.resample)
    mean = np.array(settings.mean, np.float32)  # (3,)
    std = np.array(settings.std, np.float32)  # (3,)

    out = np.empty((len(images), 3, side, side), np.float32)
    for row, image in zip(out, images, strict=True):
        levels = np.asarray(image.resize((side, side), resample))  # (S, S, 3), bytes
        scaled = (levels.astype(np.float64) * settings.rescale).astype(np.float32)
        row[:] = np.moveaxis((scaled - mean) / std, -1, 0)
    return out


def load_image(source: ImageSource) -> Image.Image:
    """Open a picture and make it plain RGB.

    Parameters
    ----------
    source : path, Pillow image or uint8 array, (height, width[, 1, 3 or 4])
        The path ``-`` reads standard input.

    Returns
    -------
    Pillow image in mode RGB, decoded in full

    Raises
    ------
    FileNotFoundError, PictureError
        One line: what was expected, what came, what to do. A picture beyond Pillow's
        limit (178,956,970 pixels, unless `PIL.Image.MAX_IMAGE_PIXELS` was set) is
        refused by its header, before it is decoded.
    """
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if isinstance(source, np.ndarray):
        return to_rgb(_from_array(source))
    if source == "-":
        return _read(BytesIO(sys.stdin.buffer.read()), "standard input")
    try:
        with Path(source).open("rb") as file:
            return _read(file, repr(str(source)))
    except FileNotFoundError:
        message = (
            f"no such picture: {str(source)!r}; give an image file, or - for stdin"
        )
        raise FileNotFoundError(message) from None
    except OSError as error:
        message = f"cannot open {str(source)!r} as a picture: {error.strerror}"
        raise PictureError(message) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring any Pillow mode to RGB, transparency laid on white.

    Parameters
    ----------
    image : Pillow image of any mode
        Not transparent, as in transformers: premultiplied alpha (``RGBa``).

    Returns
    -------
    Pillow image in mode RGB, of the same size
    """
    if 0 in image.size:
        width, height = image.size
        message = f"the picture has no pixels: its size is {width} × {height}"
        raise PictureError(message)
    if _is_grey16(image):
        image = _grey8(image)
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _is_grey16(image: Image.Image) -> bool:
    """Tell 16-bit greyscale, also where Pillow widens it (PGM; PNG in its youth)."""
    widened = image.mode == "I" and image.format in {"PNG", "PPM"}
    return image.mode.startswith("I;16") or widened


def _grey8(image: Image.Image) -> Image.Image:
    """Scale 0…65535 to the nearest of 0…255; the PNG's transparent grey is white."""
    levels = np.asarray(image).astype(np.uint32)  # (height, width)
    grey = ((levels + 128) // 257).astype(np.uint8)
    grey[levels == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey)


def _from_array(array: np.ndarray) -> Image.Image:
    """Wrap bytes, channels last; anything else is refused with the reason."""
    if array.dtype != np.uint8:
        message = (
            f"expected a uint8 array of 0…255, came {array.dtype}: floats would be "
            "scaled twice; convert it, from 0…1 by np.round(255 * x).astype(np.uint8)"
        )
        raise PictureError(message)
    if array.ndim not in {2, 3} or array.shape[2:] not in {(), (1,), (3,), (4,)}:
        message = (
            "expected an array (height, width), or with 1, 3 or 4 channels last, "
            f"came {array.shape}; np.moveaxis(x, 0, -1) moves channels from the front"
        )
        raise PictureError(message)
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _read(file: BinaryIO, name: str) -> Image.Image:
    """Decode an open file, turning Pillow's many failures into one line each."""
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, and of large pictures that we do decode
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                _refuse_programs(image)
                return to_rgb(image)
        except MemoryError:
            raise
        except PictureError as error:
            message = f"{name}: {error}"
            raise PictureError(message) from error
        except UnidentifiedImageError as error:
            message = (
                f"{name} is not a picture that Pillow can read, or has no pixels; "
                "give a PNG, JPEG, WebP or other image file"
            )
            raise PictureError(message) from error
        except Image.DecompressionBombError as error:
            message = f"{name} is too large, shrink it first: {error}"
            raise PictureError(message) from error
        except Exception as error:  # damaged files raise nearly anything
            reason = " ".join(f"{error}".split()) or type(error).__name__
            message = f"{name} is damaged or cut short ({reason}); take another copy"
            raise PictureError(message) from error


def _refuse_programs(image: Image.Image) -> None:
    """Refuse PostScript: Pillow would run the file through Ghostscript."""
    if image.format == "EPS":
        message = "PostScript is a program that draws, not a picture; export it as PNG"
        raise PictureError(message)
