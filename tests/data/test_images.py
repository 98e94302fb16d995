"""Decoding: every kind of image becomes the pixels that a person would expect, or is left out with its reason."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_files import encode, noise
from PIL import Image, ImageOps

from ganzoo.data import DataRequest
from ganzoo.data.images import PIXEL_LIMIT, is_image_name, render
from ganzoo.data.sources.base import SkippedImage
from ganzoo.errors import UsageError

RGB8 = DataRequest(8)
GREY8 = DataRequest(8, channels=1)


def flat(mode: str, colour: object, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def test_an_image_of_the_wanted_size_keeps_its_bytes() -> None:
    pixels = noise(8, 8, 3)
    assert np.array_equal(render(encode(Image.fromarray(pixels)), RGB8), pixels)
    assert np.array_equal(render(pixels, RGB8), pixels)


def test_grey_becomes_three_equal_channels() -> None:
    grey = noise(8, 8)
    assert np.array_equal(render(encode(Image.fromarray(grey)), RGB8), np.stack([grey] * 3, axis=2))


def test_colour_becomes_grey_by_the_luma_of_itu_r_601() -> None:
    pixels = noise(8, 8, 3)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(render(encode(Image.fromarray(pixels)), GREY8)[:, :, 0] - luma).max() <= 1.0


def test_a_palette_becomes_its_colours() -> None:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert np.array_equal(render(encode(image), RGB8), np.full((8, 8, 3), (200, 100, 50)))


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert np.array_equal(render(encode(image, transparency=1), RGB8), np.full((8, 8, 3), 255))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    drawn = render(encode(flat("RGBA", (255, 0, 0, 51)), kind, **options), RGB8)
    assert np.abs(drawn.astype(int) - (255, 204, 204)).max() <= 1  # a fifth of red on white


def test_grey_with_alpha_is_laid_on_white() -> None:
    assert np.array_equal(render(encode(flat("LA", (0, 0))), RGB8), np.full((8, 8, 3), 255))


def test_a_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    image = Image.fromarray(np.full((8, 8, 3), (10, 20, 30), dtype=np.uint8))
    assert np.array_equal(render(encode(image, transparency=(10, 20, 30)), RGB8), np.full((8, 8, 3), 255))


def test_cmyk_jpeg_becomes_rgb() -> None:
    drawn = render(encode(flat("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), RGB8).astype(int)
    assert np.abs(drawn - (255, 0, 0)).max() <= 3


def test_sixteen_bits_become_eight_by_scaling() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    drawn = render(encode(Image.fromarray(values)), GREY8)[:, :, 0]
    assert np.array_equal(drawn, np.rint(values / 257.0).astype(np.uint8))


def test_one_bit_becomes_black_and_white() -> None:
    bits = noise(8, 8) > 127
    assert np.array_equal(render(encode(Image.fromarray(bits)), GREY8)[:, :, 0], bits * np.uint8(255))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [flat("RGB", colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(render(data, RGB8), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_obeyed(kind: str, orientation: int) -> None:
    blocks = noise(4, 4, 3, seed=1).repeat(16, axis=0).repeat(16, axis=1)  # smooth enough for JPEG to keep
    image = Image.fromarray(blocks)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    tagged = Image.fromarray(blocks)
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged)).astype(int)
    assert np.abs(render(data, DataRequest(64)).astype(int) - expected).mean() < 3


def test_a_truncated_image_is_left_out() -> None:
    for kind in ("PNG", "JPEG"):
        data = encode(Image.fromarray(noise(64, 64, 3)), kind)
        with pytest.raises(SkippedImage):
            render(data[: len(data) // 2], RGB8)


def test_a_damaged_image_is_left_out() -> None:
    data = bytearray(encode(Image.fromarray(noise(32, 32, 3))))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(SkippedImage):
        render(bytes(data), RGB8)


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_left_out(data: bytes) -> None:
    with pytest.raises(SkippedImage):
        render(data, RGB8)


def test_a_decompression_bomb_is_left_out_by_its_header() -> None:
    side = 20_000
    assert side * side > PIXEL_LIMIT

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(SkippedImage, match="bomb"):
        render(bomb, RGB8)


def test_floating_point_images_are_left_out() -> None:
    with pytest.raises(SkippedImage, match="range"):
        render(encode(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), RGB8)


def test_center_keeps_the_middle_square() -> None:
    pixels = noise(8, 20, 3)
    assert np.array_equal(render(pixels, RGB8), pixels[:, 6:14])
    assert np.array_equal(render(pixels.transpose(1, 0, 2), RGB8), pixels[:, 6:14].transpose(1, 0, 2))


def test_none_stretches_the_whole_image() -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 200
    drawn = render(pixels, DataRequest(8, crop="none", resize="box"))
    assert np.array_equal(drawn[:, :4], np.zeros((8, 4, 3)))
    assert np.array_equal(drawn[:, 4:], np.full((8, 4, 3), 200))


def test_lsun_resizes_the_whole_image_and_crops_after() -> None:
    pixels = noise(24, 48, 3)
    resized = np.asarray(Image.fromarray(pixels).resize((16, 8), Image.Resampling.LANCZOS))
    assert np.array_equal(render(pixels, DataRequest(8, crop="lsun")), resized[:, 4:12])


def test_celeba_keeps_108_pixels_of_an_aligned_face() -> None:
    pixels = noise(218, 178, 3)
    assert np.array_equal(render(pixels, DataRequest(108, crop="celeba")), pixels[55:163, 35:143])


def test_box_is_the_mean_of_what_a_pixel_covers() -> None:
    pixels = noise(16, 16, 3)
    mean = pixels.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(render(pixels, DataRequest(8, resize="box")) - mean).max() <= 1.0  # rounds after each axis


def test_a_large_jpeg_is_decoded_at_reduced_size_with_nearly_the_same_pixels() -> None:
    smooth = Image.fromarray(noise(6, 6, 3)).resize((640, 640), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    assert np.abs(render(data, DataRequest(16)).astype(int) - render(np.asarray(smooth), DataRequest(16))).mean() < 2


def photograph(width: int, height: int) -> Image.Image:
    """Blobs at several scales and grain, so that a shift by a part of a pixel shows."""
    layers = [
        np.asarray(Image.fromarray(noise(side, side, 3, seed=side)).resize((width, height), Image.Resampling.BICUBIC))
        for side in (5, 17, 53)
    ]
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    return Image.fromarray((np.mean(layers, axis=0) + grain).clip(0, 255).astype(np.uint8))


def likeness(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The peak signal-to-noise ratio of two images of bytes, in dB."""
    error = np.square(one.astype(float) - other.astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("crop", ["center", "lsun", "none"])
@pytest.mark.parametrize("resize", ["lanczos", "box"])
@pytest.mark.parametrize("size", [(131, 163), (257, 269), (263, 397)])  # odd: the smaller size is rounded up
def test_a_jpeg_decoded_at_reduced_size_gives_the_pixels_of_the_whole(
    crop: Any, resize: Any, size: tuple[int, int]
) -> None:
    data = encode(photograph(*size), "JPEG", quality=90)
    request = DataRequest(32, crop=crop, resize=resize)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    assert likeness(render(data, request), render(whole, request)) > (41 if resize == "lanczos" else 36)


@pytest.mark.parametrize("size", [(263, 397), (1000, 640)])
def test_means_before_lanczos_change_next_to_nothing(size: tuple[int, int]) -> None:
    image = photograph(*size)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    exact = image.resize((32, 32), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    assert likeness(render(np.asarray(image), DataRequest(32)), np.asarray(exact)) > 44


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", ["center", "lsun", "none"])
def test_a_jpeg_decoded_at_reduced_size_is_turned_without_a_shift(orientation: int, crop: Any) -> None:
    image = photograph(257, 139)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, "JPEG", quality=95, exif=exif)
    whole = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    request = DataRequest(32, crop=crop)
    assert likeness(render(data, request), render(whole, request)) > 40


@pytest.mark.parametrize("size", [(40, 40), (263, 397)])
def test_a_colour_jpeg_becomes_grey_by_its_own_luma(size: tuple[int, int]) -> None:
    data = encode(photograph(*size), "JPEG", quality=90)
    request = DataRequest(32, channels=1)
    luma = Image.open(io.BytesIO(data))
    luma.draft("L", luma.size)
    assert luma.mode == "L"
    assert likeness(render(data, request), render(np.asarray(luma), request)) > (60 if size == (40, 40) else 42)
    of_colours = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert likeness(render(data, request), render(of_colours, request)) > 42


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", True),
        ("A/b.JPEG", True),
        ("a.txt", False),
        (".hidden.png", False),
        ("__MACOSX/a.png", False),
        (".git/a.png", False),
        ("png", False),
    ],
)
def test_images_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 0},
        {"image_size": 8, "channels": 2},
        {"image_size": 8, "crop": "left"},
        {"image_size": 8, "max_images": 0},
    ],
)
def test_a_request_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DataRequest(**values)  # type: ignore[arg-type]
