"""From an encoded file or pixels to the square of bytes that a pack holds, with Pillow alone.

Colours become what a person would expect: palettes and CMYK become RGB, 16 bits become 8 by scaling, transparency is
laid on white, the first frame stands for an animation, the EXIF orientation is obeyed. What cannot be decoded whole
raises `SkippedImage` with the reason.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import SkippedImage

EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
PIXEL_LIMIT = 178_956_970  # twice Pillow's own limit for a warning: above it Pillow refuses too
ENCODED_LIMIT = 256 << 20  # bytes of one encoded image
_LARGE = 1 << 25  # pixels; such images are decoded one at a time, so that memory stays bounded on many cores
# How many times the wanted size a JPEG decoder must leave, and the plain means of pixels that come before Lanczos. What
# comes out then differs by about 48 dB from what resampling all pixels gives; twice the size would be 32 dB for `box`,
# which takes whole pixels.
_LEFT = {"lanczos": 2, "box": 4}
_MEANS_LEAVE = {"lanczos": 3.0, "box": None}
_CELEBA_FACE = 108 / 178  # the face's part of an aligned picture's width
# Formats by name, so that no decoder is tried that runs another program (Pillow's reader of PostScript does).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What these do to the two axes of the stored image: reversed, and exchanged.
_REVERSES_X, _REVERSES_Y, _EXCHANGES = {2, 3, 7, 8}, {3, 4, 6, 7}, {5, 6, 7, 8}

_one_large_image = threading.Lock()


def is_image_name(name: str) -> bool:
    """Return whether a file's name ends like an image's and is not hidden; `name` may be a `/`-separated path."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return parts[-1].lower().endswith(EXTENSIONS)


def render(image: bytes | npt.NDArray[np.uint8] | Image.Image, request: DataRequest) -> npt.NDArray[np.uint8]:
    """Return an image as the request wants it: (image_size, image_size, channels), uint8.

    Args:
        image: an encoded file, pixels (H, W) or (H, W, C) of 1, 3 or 4 channels, or a Pillow image.
        request: size, channels, crop and resampling.

    Raises:
        SkippedImage: it is corrupt, truncated, too large, or of a kind that has no plain meaning; the message says
            which.
    """
    size, channels = request.image_size, request.channels
    if isinstance(image, np.ndarray):
        if image.shape == (size, size, channels) and request.crop != "celeba":
            return image
        if channels == 1 and image.shape == (size, size) and request.crop != "celeba":
            return image[:, :, None]
        opened = _from_array(image)
    elif isinstance(image, bytes):
        opened = _open(image)
    else:
        opened = image
    with _turn(opened):
        fitted = _fit(_plain(opened, request), request)
    return np.asarray(fitted, dtype=np.uint8).reshape(size, size, channels)


def size_of(image: bytes | npt.NDArray[np.uint8] | Image.Image) -> tuple[int, int]:
    """Return an image's (width, height) before any turn that its EXIF asks for, from its header alone.

    Args:
        image: as in `render`.

    Raises:
        SkippedImage: the header cannot be read.
    """
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return (_open(image) if isinstance(image, bytes) else image).size


def channels_of(image: bytes | npt.NDArray[np.uint8] | Image.Image) -> int:
    """Return 1 for an image that is stored in grey, 3 for one in colours, as its header tells.

    Args:
        image: as in `render`.

    Raises:
        SkippedImage: the header cannot be read.
    """
    if isinstance(image, np.ndarray):
        return 1 if image.ndim == 2 or image.shape[2] == 1 else 3
    mode = (_open(image) if isinstance(image, bytes) else image).mode
    return 1 if mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;") else 3


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence Pillow's remarks on odd files for the block: what matters is raised, and counted by the caller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise SkippedImage("empty file")
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise SkippedImage("not an image that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SkippedImage(f"decompression bomb: over {PIXEL_LIMIT:,} pixels") from error
    except Exception as error:  # decoders raise many kinds on broken headers
        raise SkippedImage(_reason(error)) from error


def _from_array(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise SkippedImage(f"pixels of shape {pixels.shape} and type {pixels.dtype}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _turn(image: Image.Image) -> AbstractContextManager[object]:
    pixels = image.width * image.height
    if pixels > PIXEL_LIMIT:
        raise SkippedImage(f"decompression bomb: {image.width}×{image.height} pixels")
    if pixels == 0:
        raise SkippedImage("no pixels")
    return _one_large_image if pixels > _LARGE else nullcontext()


@dataclass(frozen=True)
class _Plain:
    """An upright image in mode L or RGB, which a decoder may have made smaller.

    Args:
        image: the pixels.
        size: (width, height) before it was made smaller.
        area: (left, top, right, bottom), the part of `image` that is the picture: a decoder rounds the smaller size up
            to whole pixels, and repeats the edge in what is over.
    """

    image: Image.Image
    size: tuple[int, int]
    area: tuple[float, float, float, float]

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Return where a box in pixels of `size` lies in `image`; exact, for a decoder divides by a power of two."""
        across = (self.area[2] - self.area[0]) / self.size[0]
        down = (self.area[3] - self.area[1]) / self.size[1]
        x, y = self.area[:2]
        return x + left * across, y + top * down, x + right * across, y + bottom * down


def _plain(image: Image.Image, request: DataRequest) -> _Plain:
    """Return the image upright and in mode L or RGB, as `request.channels` wants; decodes it."""
    size = image.size
    area: tuple[float, float, float, float] | None = None
    try:
        jpeg = image.format in ("JPEG", "MPO")
        orientation = _orientation(image) if jpeg else 1
        if jpeg:
            area = _draft(image, request)
        image.load()
        if not jpeg:
            orientation = _orientation(image)
        plain = _colours(image, "L" if request.channels == 1 else "RGB")
    except SkippedImage:
        raise
    except Exception as error:  # decoders raise many kinds on broken data
        raise SkippedImage(_reason(error)) from error
    return _upright(_Plain(plain, size, area or (0.0, 0.0, float(plain.width), float(plain.height))), orientation)


def _draft(image: Image.Image, request: DataRequest) -> tuple[float, float, float, float] | None:
    """Let the JPEG decoder leave out the colours of a grey image, and the detail that the resampling drops anyway.

    Returns:
        The part of the decoded image that is the picture; None where all is.
    """
    shrink = 1 if request.crop == "celeba" else min(image.size) // (_LEFT[request.resize] * request.image_size)
    mode = "L" if request.channels == 1 else None
    if shrink < 2 and mode is None:
        return None
    smaller = (image.width // max(1, shrink), image.height // max(1, shrink))
    drafted = image.draft(mode, smaller)
    return None if drafted is None else drafted[1]


def _upright(plain: _Plain, orientation: int) -> _Plain:
    """Return the image turned as its EXIF orientation asks for."""
    turn = _ORIENTATIONS.get(orientation)
    if turn is None:
        return plain
    (width, height), (_, _, across, down) = plain.image.size, plain.area
    left = width - across if orientation in _REVERSES_X else 0.0
    top = height - down if orientation in _REVERSES_Y else 0.0
    area, size = (left, top, left + across, top + down), plain.size
    if orientation in _EXCHANGES:
        area, size = (area[1], area[0], area[3], area[2]), (size[1], size[0])
    return _Plain(plain.image.transpose(turn), size, area)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def _colours(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = _eight_bits(image)
    elif image.mode in ("I", "F"):
        raise SkippedImage(f"pixels of mode {image.mode!r} have no known range")
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode == mode:
        return image
    if mode == "L" and image.mode not in ("1", "RGB"):
        image = image.convert("RGB") if image.mode != "L" else image
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    scaled = (values.clip(0, 65535) + 128) // 257  # 65535 = 255 · 257: the nearest of 256 levels
    if isinstance(transparent := image.info.get("transparency"), int):
        scaled[values == transparent] = 255
    return Image.fromarray(scaled.astype(np.uint8))


def _fit(plain: _Plain, request: DataRequest) -> Image.Image:
    size = request.image_size
    width, height = plain.size
    if request.crop == "none":
        return _resize(plain, (size, size), plain.area, request)
    if request.crop == "lsun":
        scale = size / min(width, height)
        whole = (max(size, round(width * scale)), max(size, round(height * scale)))
        resized = _resize(plain, whole, plain.area, request)
        left, top = (resized.width - size) // 2, (resized.height - size) // 2
        return resized.crop((left, top, left + size, top + size))
    side = min(width, height)
    if request.crop == "celeba":
        side = max(1, min(side, round(width * _CELEBA_FACE)))
    left, top = (width - side) // 2, (height - side) // 2
    return _resize(plain, (size, size), plain.box(left, top, left + side, top + side), request)


def _resize(
    plain: _Plain, size: tuple[int, int], box: tuple[float, float, float, float], request: DataRequest
) -> Image.Image:
    resampling, gap = _FILTERS[request.resize], _MEANS_LEAVE[request.resize]
    return plain.image.resize(size, resampling, box=box, reducing_gap=gap)


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0].strip() or type(error).__name__
    return text[:160]
