"""Pictures: rounding, grids, diversity, the evolution as a GIF, and curves."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from ganzoo import pictures
from ganzoo.pictures import diversity, grid, save_curves, save_evolution, save_png, to_uint8


def noise(count: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


# ------------------------------------------------------------------ to_uint8


def test_floats_are_rounded_half_up_and_clamped() -> None:
    step = 1.0 / 127.5
    values = [-7.0, -1.0, -1.0 + 0.49 * step, -1.0 + 0.51 * step, 0.0, 1.0 - 0.51 * step, 1.0 - 0.49 * step, 1.0, 7.0]
    pixels = to_uint8(np.array(values, dtype=np.float32).reshape(1, 1, 1, -1))
    assert pixels.ravel().tolist() == [0, 0, 0, 1, 128, 254, 255, 255, 255]


def test_every_pixel_value_survives_the_way_to_floats_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    assert np.array_equal(to_uint8(floats), pixels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_tensors_give_what_arrays_give_with_channels_last(dtype: torch.dtype) -> None:
    images = (torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2).to(dtype).requires_grad_()
    pixels = to_uint8(images)
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, to_uint8(images.detach().float().numpy()))
    assert pixels[1, 2, 3, 0] == min(max(math.floor(images[1, 0, 2, 3].item() * 127.5 + 128), 0), 255)


def test_nan_and_another_number_of_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(np.full((1, 1, 2, 2), np.nan))
    with pytest.raises(ValueError, match=r"\(3, 4, 4\)"):
        to_uint8(np.zeros((3, 4, 4)))


# ------------------------------------------------------------------ diversity


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    images = noise(5, 3, 4, 3)
    floats = images.astype(np.float64) / 127.5 - 1.0
    pairs = [
        math.sqrt(((floats[i] - floats[j]) ** 2).mean()) for i in range(len(images)) for j in range(i + 1, len(images))
    ]
    assert diversity(images) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_diversity_has_known_extremes() -> None:
    black, white = np.zeros((1, 8, 8, 3), dtype=np.uint8), np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    assert diversity(np.concatenate([black, white])) == 2.0
    assert diversity(np.repeat(noise(1, 8, 8, 3), 6, axis=0)) == 0.0
    assert diversity(black) == 0.0


def test_diversity_of_nearly_equal_images_is_not_lost_to_rounding() -> None:
    images = np.repeat(noise(1, 64, 64, 3), 2, axis=0)
    images[1, 0, 0, 0] ^= 1
    assert diversity(images) == pytest.approx(math.sqrt(1 / images[0].size) / 127.5, rel=1e-12)


# ------------------------------------------------------------------ grid


def test_images_lie_in_rows_from_the_left_on_white() -> None:
    images = noise(5, 4, 4, 3)
    canvas = np.asarray(grid(images, columns=3, scale=1, padding=2))
    assert canvas.shape == (2 * 6 + 2, 3 * 6 + 2, 3)
    covered = np.zeros(canvas.shape[:2], dtype=bool)
    for index, image in enumerate(images):
        top, left = 2 + 6 * (index // 3), 2 + 6 * (index % 3)
        assert np.array_equal(canvas[top : top + 4, left : left + 4], image)
        covered[top : top + 4, left : left + 4] = True
    assert (canvas[~covered] == 255).all()


def test_enlarging_repeats_pixels() -> None:
    image = noise(1, 3, 3, 1)
    canvas = np.asarray(grid(image, scale=4, padding=0))
    assert np.array_equal(canvas, np.kron(image[0, ..., 0], np.ones((4, 4), dtype=np.uint8)))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_grey_stays_grey_and_colour_colour(channels: int, mode: str) -> None:
    assert grid(noise(4, 8, 8, channels)).mode == mode


@pytest.mark.parametrize(
    ("count", "size", "side"),
    [(64, 28, 466), (64, 32, 530), (16, 64, 522), (64, 64, 530), (1, 28, 224), (64, 128, 1042)],
)
def test_small_images_are_enlarged_until_a_person_sees_them(count: int, size: int, side: int) -> None:
    assert grid(noise(count, size, size, 1)).size == (side, side)


def test_grids_are_near_square_whatever_the_number() -> None:
    for count in range(1, 40):
        width, height = grid(noise(count, 4, 4, 1), scale=1, padding=0).size
        assert 0 <= width - height <= 4


def test_what_is_no_image_is_refused() -> None:
    for shape in ((0, 4, 4, 3), (2, 4, 4, 2), (4, 4, 3)):
        with pytest.raises(ValueError, match=str(shape)[1:-1]):
            grid(np.zeros(shape, dtype=np.uint8))


# ------------------------------------------------------------------ files


def test_a_png_holds_the_pixels_and_is_the_same_bytes_twice(tmp_path: Path) -> None:
    image = grid(noise(9, 5, 5, 3))
    save_png(image, tmp_path / "a.png")
    save_png(image, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read), np.asarray(image))
        assert read.info == {}


def test_a_picture_that_cannot_be_put_in_place_leaves_the_old_one_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    save_png(grid(noise(1, 4, 4, 1)), path)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_png(grid(noise(1, 4, 4, 1, seed=1)), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


# ------------------------------------------------------------------ the evolution


def pages_of(path: Path) -> list[tuple[Image.Image, float]]:
    pages = []
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        for index in range(gif.n_frames):
            gif.seek(index)
            pages.append((gif.convert("RGB"), gif.info["duration"]))
    return pages


def test_the_evolution_shows_each_grid_over_its_caption_and_holds_the_last(tmp_path: Path) -> None:
    frames = [grid(noise(4, 16, 16, 1, seed=seed), scale=4) for seed in range(5)]
    save_evolution(frames, [f"step {seed}" for seed in range(5)], tmp_path / "evolution.gif")
    pages = pages_of(tmp_path / "evolution.gif")
    assert len(pages) == 5
    for (page, _), frame in zip(pages, frames, strict=True):
        grey = np.asarray(page)
        assert np.array_equal(grey[: frame.height, :, 0], np.asarray(frame))  # grey is exact
        assert np.array_equal(grey[..., 0], grey[..., 2])
        assert grey[frame.height :].min() < 100  # the caption
    captions = [np.asarray(page)[frames[0].height :].tobytes() for page, _ in pages]
    assert len(set(captions)) == 5
    durations = [duration for _, duration in pages]
    assert durations[-1] == 3000
    assert set(durations[:-1]) == {600}


def test_colours_of_the_evolution_stay_near(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 24, dtype=np.uint8)
    tile = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(80)), axis=-1)[None]
    frames = [grid(tile, scale=4), grid(np.flip(tile, axis=1), scale=4)]
    save_evolution(frames, ["a", "b"], tmp_path / "evolution.gif")
    for (page, _), frame in zip(pages_of(tmp_path / "evolution.gif"), frames, strict=True):
        error = np.asarray(page)[: frame.height].astype(float) - np.asarray(frame)
        assert np.abs(error).mean() < 6


def test_many_frames_are_thinned_evenly_with_first_and_last(tmp_path: Path) -> None:
    frames = [Image.new("L", (40, 40), shade) for shade in range(200)]
    save_evolution(frames, [str(shade) for shade in range(200)], tmp_path / "evolution.gif")
    shades = [page.getpixel((20, 20))[0] for page, _ in pages_of(tmp_path / "evolution.gif")]  # type: ignore[index]
    assert len(shades) == 60
    assert (shades[0], shades[-1]) == (0, 199)
    assert set(np.diff(shades)) == {3, 4}


def test_files_and_grids_of_several_sizes_are_taken(tmp_path: Path) -> None:
    save_png(grid(noise(4, 8, 8, 3), scale=2), tmp_path / "0.png")
    save_png(grid(noise(9, 8, 8, 1), scale=2), tmp_path / "1.png")
    save_evolution([tmp_path / "0.png", tmp_path / "1.png"], ["0", "1"], tmp_path / "evolution.gif")
    assert len(pages_of(tmp_path / "evolution.gif")) == 2


def test_an_evolution_that_would_be_too_large_gets_fewer_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.fromarray(noise(1, 60, 60, 3, seed=seed)[0]) for seed in range(40)]
    captions = [str(seed) for seed in range(40)]
    save_evolution(frames, captions, tmp_path / "whole.gif")
    limit = (tmp_path / "whole.gif").stat().st_size // 2
    monkeypatch.setattr(pictures, "_MOST_BYTES", limit)
    save_evolution(frames, captions, tmp_path / "evolution.gif")
    assert (tmp_path / "evolution.gif").stat().st_size <= limit
    assert 12 <= len(pages_of(tmp_path / "evolution.gif")) < 30


def test_an_evolution_is_the_same_bytes_twice_and_needs_a_caption_a_frame(tmp_path: Path) -> None:
    frames = [grid(noise(4, 8, 8, 3, seed=seed)) for seed in range(3)]
    for name in ("a.gif", "b.gif"):
        save_evolution(frames, ["0", "1", "2"], tmp_path / name)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with pytest.raises(ValueError, match="3 and 2"):
        save_evolution(frames, ["0", "1"], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="0 and 0"):
        save_evolution([], [], tmp_path / "a.gif")


# ------------------------------------------------------------------ curves


def rows(ticks: int, **more: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for index in range(ticks):
        place = {"step": 10 * index, "kimg": 0.64 * index}
        names = ("loss/discriminator", "loss/generator", "logits/real", "logits/fake", "accuracy/real", "accuracy/fake")
        statistics = {name: math.sin(index + len(name)) for name in names} | {
            "gradient/generator": 2.0,
            "gradient/discriminator": 0.5 + index,
            **more,
        }
        found.append({"event": "tick", "images_per_second": 100.0, "statistics": statistics, **place})
        found.append({"event": "samples", "diversity": 0.5, **place})
    return found


@pytest.mark.parametrize("ticks", [0, 1, 12, 200])
def test_curves_are_drawn_from_any_number_of_rows(tmp_path: Path, ticks: int) -> None:
    save_curves(rows(ticks), tmp_path / "curves.png", data_diversity=0.6, title="a recipe")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1500, 800)
        assert np.asarray(image.convert("L")).std() > 5


def test_curves_bear_missing_values_penalties_and_alarms(tmp_path: Path) -> None:
    metrics = rows(40, **{"penalty/real_zero_centered": 0.3, "penalty/fake_zero_centered": 0.0})
    save_curves(metrics, tmp_path / "plain.png")
    metrics[6]["statistics"]["loss/generator"] = None
    del metrics[8]["statistics"]["logits/real"]
    metrics.append({"event": "alarm", "name": "collapse", "step": 100, "kimg": 6.4})
    metrics.append({"event": "checkpoint", "step": 100, "kimg": 6.4})
    save_curves(metrics, tmp_path / "more.png")
    with Image.open(tmp_path / "more.png") as image:
        red, green, _ = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
    assert ((red - green) > 150).sum() > 300  # six dotted lines
    with Image.open(tmp_path / "plain.png") as image:
        red, green, _ = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
    assert ((red - green) > 150).sum() == 0


@pytest.mark.parametrize(
    ("values", "titles"),
    [
        ({}, []),
        ({"fid": 12.0}, ["fid"]),
        (
            {"fid": 12.0, "precision-x": 0.5, "recall-x": 0.4, "density-x": 0.9, "coverage-x": 0.8, "kid": None},
            ["fid", "precision, recall, density, coverage", "kid"],
        ),
        ({"fid": 12.0, "kid": 0.01, "is": 8.0, "recall": 0.4}, ["fid", "kid", "is", "recall"]),
    ],
    ids=lambda one: str(len(one)),
)
def test_every_measure_of_evaluations_has_a_panel_and_shares_have_one_together(
    values: dict[str, float | None], titles: list[str]
) -> None:
    found = [{"event": "evaluation", "kimg": kimg, "values": dict(values)} for kimg in (1.0, 2.0)] if values else []
    figure = Figure()
    pictures._draw(figure, rows(20) + found, None, "")
    panels = [panel for panel in figure.axes if panel.axison]
    assert [panel.get_title() for panel in panels[6:]] == titles
    assert figure.get_size_inches()[1] == 4.0 * (2 + math.ceil(len(titles) / 3))
    drawn = [line.get_label() for panel in panels[6:] for line in panel.get_lines()]
    assert drawn == [name for name, value in values.items() if value is not None]


def test_a_measure_that_falls_far_is_drawn_on_a_logarithmic_axis() -> None:
    def is_logarithmic(*values: float | None) -> bool:
        found = [{"event": "evaluation", "kimg": 1.0, "values": {"fid": value}} for value in values]
        axes = Figure().subplots()
        for draw in pictures._evaluation_panels(found):
            draw(axes)
        return bool(axes.get_yscale() == "log")

    assert is_logarithmic(300.0, 12.0)
    assert not is_logarithmic(30.0, 12.0)
    assert not is_logarithmic(30.0, 0.0)
    assert not is_logarithmic(30.0, -1.0, None)
    assert not is_logarithmic(None)


def test_a_moving_mean_keeps_a_constant_and_halves_no_ends() -> None:
    assert pictures._moving_mean(np.full(30, 3.0), 4) == pytest.approx(np.full(30, 3.0))
    line = np.arange(30.0)
    assert pictures._moving_mean(line, 4)[4:-4] == pytest.approx(line[4:-4])


def test_drawing_touches_nothing_global_and_pictures_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, ganzoo.pictures as p, tempfile, pathlib\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules), 'imported at import time'\n"
        "p.save_curves([], pathlib.Path(tempfile.mkdtemp()) / 'c.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
