"""Pictures that a person looks at: sample grids, the evolution of the same z through training, and training curves.

Images come in two forms: (n, C, H, W) floating point in [-1, 1], as a generator draws them, and (n, H, W, C) uint8, as
a file holds them; `to_uint8` leads from one to the other. All files are written under another name and then renamed,
so that a picture is whole or absent.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ganzoo.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Uint8Images = npt.NDArray[np.uint8]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels → Pillow's mode
_GRID_SIDE = 512  # pixels: small images are enlarged until the grid's longer side comes near to it
_LARGEST_SCALE = 8  # a single 28×28 image becomes 224×224, not 512×512
_WHITE = 255

_MOST_FRAMES = 60
_MOST_BYTES = 8_000_000  # of a GIF: code hosts and chat programs refuse pictures above 10 MB
_PALETTE_PIXELS = (
    100_000  # the palette is chosen from so many pixels of all frames; more take seconds and change little
)
_LEAST_FRAMES = 12  # below these few it is no evolution; a larger file is the lesser evil
_SECONDS = 9.0  # the evolution lasts about so long …
_FRAME_SECONDS = (0.12, 0.6)  # … within these bounds for one frame
_LAST_SECONDS = 3.0  # the result is what one wants to look at


# ------------------------------------------------------------------ from arrays to images


def to_uint8(images: Any) -> Uint8Images:
    """Return images as (n, H, W, C) uint8, computed as floor(x · 127.5 + 128) in float32, clamped to [0, 255].

    So -1 becomes 0, 0 becomes 128 and 1 becomes 255: (x + 1) · 127.5 rounded half up.

    Args:
        images: (n, C, H, W), floating point in [-1, 1]; a NumPy array or a torch tensor on any device.

    Raises:
        ValueError: another number of axes, or NaN.
    """
    array = images.detach().cpu().float().numpy() if hasattr(images, "detach") else np.asarray(images, dtype=np.float32)
    if array.ndim != 4:
        raise ValueError(f"images are (n, C, H, W), not of shape {array.shape}")
    scaled = np.floor(array * np.float32(127.5) + np.float32(128.0))
    if np.isnan(scaled).any():
        raise ValueError("the images hold NaN")
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def diversity(images: Uint8Images) -> float:
    """Return the mean distance between two of the images: root mean square over pixels and channels, in [-1, 1] units.

    0.0 for fewer than two images; the largest possible distance is 2.

    Args:
        images: (n, H, W, C) uint8.
    """
    count = len(images)
    if count < 2:
        return 0.0
    flat = images.reshape(count, -1).astype(np.float64)  # integers: every product and sum below is exact
    square = (flat * flat).sum(axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2.0 * (flat @ flat.T), 0.0) / flat.shape[1])
    return float(distance[np.triu_indices(count, k=1)].mean() / 127.5)


def grid(
    images: Uint8Images, columns: int | None = None, scale: int | None = None, padding: int | None = None
) -> Image.Image:
    """Return the images beside and below each other, in rows from the left, on white.

    Args:
        images: (n, H, W, C) uint8 with C = 1 (the grid is grey), 3 (RGB) or 4 (RGBA).
        columns: images a row; None: as many as make the grid near square.
        scale: enlarges each pixel to scale × scale pixels; None: so that small images can be seen, 1 for large ones.
        padding: white pixels between the images and around them; None: 2, or 0 around a single image.

    Raises:
        ValueError: no image, or another shape.
    """
    if images.ndim != 4 or images.size == 0 or images.shape[3] not in _MODES:
        raise ValueError(f"images are (n, H, W, C) with 1, 3 or 4 channels, not of shape {images.shape}")
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count * height / width))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    if scale is None:
        scale = min(max(_GRID_SIDE // max(columns * width, rows * height), 1), _LARGEST_SCALE)
    if padding is None:
        padding = 0 if count == 1 else 2
    tile_height, tile_width = height * scale, width * scale
    shape = (rows * (tile_height + padding) + padding, columns * (tile_width + padding) + padding, channels)
    canvas = np.full(shape, _WHITE, dtype=np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = padding + row * (tile_height + padding), padding + column * (tile_width + padding)
        canvas[top : top + tile_height, left : left + tile_width] = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def save_png(image: Image.Image, path: Path | str) -> None:
    """Write a PNG, whole or not at all; the same image gives the same bytes.

    Args:
        image: what to write.
        path: the file; its folder must exist.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    _write(Path(path), buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------ the same z through training


def save_evolution(frames: Sequence[Image.Image | Path | str], captions: Sequence[str], path: Path | str) -> None:
    """Write an animated GIF of sample grids of the same z through training, which repeats and holds the last frame.

    At most 60 frames are taken, evenly chosen with the first and the last among them; fewer where the file would
    become larger than 8 MB. The same frames give the same bytes.

    Args:
        frames: the grids in order, images or their files; files are opened one at a time.
        captions: one for each frame, shown below it, such as "step 1,000 · 128 kimg".
        path: the file; its folder must exist.

    Raises:
        ValueError: no frame, or not as many captions.
    """
    if not frames or len(frames) != len(captions):
        raise ValueError(f"an evolution needs frames and as many captions, not {len(frames)} and {len(captions)}")
    most = _MOST_FRAMES
    while True:
        chosen = _evenly(len(frames), most)
        content = _gif([_captioned(_opened(frames[index]), captions[index]) for index in chosen])
        if len(content) <= _MOST_BYTES or most <= _LEAST_FRAMES:
            break
        most = max(int(min(most, len(chosen)) * min(0.9, _MOST_BYTES / len(content))), _LEAST_FRAMES)
    _write(Path(path), content)


def _evenly(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _opened(frame: Image.Image | Path | str) -> Image.Image:
    if isinstance(frame, Image.Image):
        return frame
    with Image.open(frame) as image:
        image.load()
        return image


def _captioned(frame: Image.Image, caption: str) -> Image.Image:
    mode = "L" if frame.mode in ("1", "L") else "RGB"
    size = min(max(frame.width // 28, 11), 22)
    font = ImageFont.load_default(size)
    canvas = Image.new(mode, (frame.width, frame.height + 2 * size), "white")
    canvas.paste(frame.convert(mode), (0, 0))
    middle = (frame.width / 2, frame.height + size)
    ImageDraw.Draw(canvas).text(middle, caption, fill="black", font=font, anchor="mm")
    return canvas


def _gif(frames: list[Image.Image]) -> bytes:
    size = max(one.width for one in frames), max(one.height for one in frames)
    colour = any(one.mode == "RGB" for one in frames)
    pages = [_page(frame, size, "RGB" if colour else "L") for frame in frames]
    if colour:
        # One palette for all, so that what does not change from frame to frame costs nothing. No dithering: its noise
        # makes the file larger and small images worse.
        palette = _palette(pages)
        pages = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    shortest, longest = _FRAME_SECONDS
    seconds = min(max(_SECONDS / len(pages), shortest), longest)
    durations = [round(1000 * seconds)] * (len(pages) - 1) + [round(1000 * _LAST_SECONDS)]
    buffer = io.BytesIO()
    pages[0].save(
        buffer, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0, optimize=False
    )
    return buffer.getvalue()


def _page(frame: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    page = Image.new(mode, size, "white")
    page.paste(frame.convert(mode), (0, 0))
    return page


def _palette(pages: list[Image.Image]) -> Image.Image:
    """Return an image whose palette of 256 colours suits all the pages together."""
    stride = max(sum(page.width * page.height for page in pages) // _PALETTE_PIXELS, 1)
    chosen = np.concatenate([np.asarray(page).reshape(-1, 3)[::stride] for page in pages])
    return Image.fromarray(chosen[None]).quantize(256, method=Image.Quantize.MEDIANCUT)


# ------------------------------------------------------------------ training curves

_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#1f6fb4", "#e07b1a", "#2a9d4a", "#c8102e", "#777777"
_SMOOTHING = 0.04  # of all points: how far the moving mean reaches to each side
_FEW = 12  # points: fewer are drawn as they are
_COLOURS = (_BLUE, _ORANGE, _GREEN, _GREY)
_WIDE = 10.0  # a measure whose largest value is more than so many times its least is drawn on a logarithmic axis
_SHARES = ("precision", "recall", "density", "coverage")  # stems of measures that are drawn together

Curve = tuple[str, str, npt.NDArray[np.float64], npt.NDArray[np.float64]]  # label, colour, kimg, values


def save_curves(
    metrics: Sequence[Mapping[str, Any]], path: Path | str, *, data_diversity: float | None = None, title: str = ""
) -> None:
    """Write a PNG of curves over kimg: losses, logits, D's accuracy, diversity, gradients, penalties or speed; below
    them regularizers and augmentation, and what evaluations measured, where there are any.

    Diversity and evaluations are drawn as measured; every other curve faintly so, and boldly as a moving mean (of
    values held to their 1 % and 99 % quantiles, so that no single outlier bends it). Alarms are dotted red lines.

    Args:
        metrics: rows of metrics.jsonl, as `ganzoo.training.reporters.read_metrics` returns them.
        path: the file; its folder must exist.
        data_diversity: `diversity` of as many real images, drawn as a level to compare with; None: not drawn.
        title: above all.

    Raises:
        MissingDependencyError: matplotlib cannot be imported.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"matplotlib cannot be imported: {error}.", "Reinstall it: pip install matplotlib."
        ) from error
    figure = Figure(figsize=(15.0, 8.0), dpi=100, layout="constrained")  # no pyplot: nothing global is touched
    FigureCanvasAgg(figure)
    _draw(figure, metrics, data_diversity, title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    _write(Path(path), buffer.getvalue())


def _draw(figure: Figure, metrics: Sequence[Mapping[str, Any]], data_diversity: float | None, title: str) -> None:
    ticks = [row for row in metrics if row["event"] == "tick"]
    samples = [row for row in metrics if row["event"] == "samples"]
    alarms = [float(row["kimg"]) for row in metrics if row["event"] == "alarm"]

    def curve(label: str, colour: str, key: str) -> Curve:
        return _curve(label, colour, [(row["kimg"], row["statistics"].get(key)) for row in ticks])

    losses = [curve("discriminator", _BLUE, "loss/discriminator"), curve("generator", _ORANGE, "loss/generator")]
    logits = [curve("real", _BLUE, "logits/real"), curve("fake", _ORANGE, "logits/fake")]
    accuracy = [curve("real", _BLUE, "accuracy/real"), curve("fake", _ORANGE, "accuracy/fake")]
    gradients = [
        curve("discriminator", _BLUE, "gradient/discriminator"),
        curve("generator", _ORANGE, "gradient/generator"),
    ]
    spread = [_curve("samples", _GREEN, [(row["kimg"], row["diversity"]) for row in samples])]
    speed = [_curve("images/s", _GREEN, [(row["kimg"], row["images_per_second"]) for row in ticks])]

    def family(prefix: str) -> list[Curve]:
        names = sorted({key for row in ticks for key in row["statistics"] if key.startswith(prefix)})
        return [curve(name.removeprefix(prefix), _COLOURS[index % 4], name) for index, name in enumerate(names)]

    penalties, regularizers, augmentation = family("penalty/"), family("regularizer/"), family("augmentation/")
    below: list[Callable[[Axes], None]] = []
    if regularizers or augmentation:
        below.append(
            functools.partial(_panel, curves=regularizers, title="Regularizers (unweighted)", label="term of a loss")
        )
        share = functools.partial(_panel, curves=augmentation, title="Augmentation", label="probability")
        below.append(functools.partial(share, limits=(0.0, 1.0), raw=True))
    below += _evaluation_panels(metrics)
    rows = 2 + -(-len(below) // 3)
    figure.set_size_inches(15.0, 4.0 * rows)
    panels: list[Axes] = list(figure.subplots(rows, 3, sharex=True).flat)
    _panel(panels[0], losses, "Losses", "loss")
    _panel(panels[1], logits, "Discriminator's logits (mean)", "logit")
    _panel(panels[2], accuracy, "Discriminator's accuracy", "share judged rightly", limits=(0.0, 1.0))
    distance = "mean pairwise distance (RMS)"
    _panel(panels[3], spread, "Diversity of fixed-z samples", distance, data_diversity, (0.0, None), raw=True)
    _panel(panels[4], gradients, "Gradient norms", "norm over all parameters", logarithmic=True)
    if penalties:
        _panel(panels[5], penalties, "Penalties (unweighted)", "penalty", logarithmic=True)
    else:
        _panel(panels[5], speed, "Speed", "real images per second", limits=(0.0, None))
    for panel, draw in zip(panels[6:], below, strict=False):
        draw(panel)
    for panel in panels[6 + len(below) :]:
        panel.set_axis_off()
    del panels[6 + len(below) :]
    for panel in panels:
        for kimg in alarms:
            panel.axvline(kimg, color=_RED, linestyle=":", linewidth=1.0)
    for panel in panels[3:]:
        panel.set_xlabel("kimg (thousands of real images)")
        panel.tick_params(labelbottom=True)  # of those above a place where there is none, too
    heading = title + (" · " if title and alarms else "") + ("dotted red: alarms" if alarms else "")
    if heading:
        figure.suptitle(heading)


def _evaluation_panels(metrics: Sequence[Mapping[str, Any]]) -> list[Callable[[Axes], None]]:
    """Return what draws a panel for each measure of the evaluations; those that are shares have one together."""
    rows = [row for row in metrics if row["event"] == "evaluation"]
    names = dict.fromkeys(name for row in rows for name in row["values"])
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("shares" if name.partition("-")[0] in _SHARES else name, []).append(name)
    drawn: list[Callable[[Axes], None]] = []
    for group in groups.values():
        curves = [
            _curve(name, _COLOURS[index % 4], [(row["kimg"], row["values"].get(name)) for row in rows])
            for index, name in enumerate(group)
        ]
        values = np.concatenate([values for _, _, _, values in curves])
        wide = bool(len(values)) and values.min() > 0.0 and values.max() > _WIDE * values.min()
        title = group[0] if len(group) == 1 else ", ".join(name.partition("-")[0] for name in group)
        drawn.append(
            functools.partial(_panel, curves=curves, title=title, label="measured", logarithmic=wide, raw=True)
        )
    return drawn


def _curve(label: str, colour: str, points: Sequence[tuple[float, float | None]]) -> Curve:
    known = [(kimg, value) for kimg, value in points if value is not None and math.isfinite(value)]
    array = np.array(known, dtype=np.float64).reshape(-1, 2)
    return label, colour, array[:, 0], array[:, 1]


def _panel(
    panel: Axes,
    curves: Sequence[Curve],
    title: str,
    label: str,
    level: float | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    logarithmic: bool = False,
    raw: bool = False,
) -> None:
    panel.set_title(title, fontsize=11)
    panel.set_ylabel(label)
    panel.grid(True, color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if not any(len(values) for _, _, _, values in curves):
        panel.text(0.5, 0.5, "nothing measured", transform=panel.transAxes, ha="center", va="center", color=_GREY)
        return
    seen = [] if level is None else [level]
    for name, colour, kimg, values in curves:
        if raw or len(values) < _FEW:
            panel.plot(kimg, values, color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
            seen += values.tolist()
        else:
            low, high = np.quantile(values, [0.01, 0.99])
            smooth = _moving_mean(values.clip(low, high), max(round(len(values) * _SMOOTHING), 3))
            panel.plot(kimg, values, color=colour, linewidth=0.8, alpha=0.25)
            panel.plot(kimg, smooth, color=colour, linewidth=2.0, label=name)
            seen += [float(low), float(high)]
    if level is not None:
        panel.axhline(level, color=_GREY, linestyle="--", linewidth=1.4, label="real images")
    _scale(panel, min(seen), max(seen), limits, logarithmic)
    panel.legend(frameon=False, fontsize=9, loc="best")


def _scale(panel: Axes, low: float, high: float, limits: tuple[float | None, float | None], logarithmic: bool) -> None:
    """Set the vertical axis to hold low to high, and limits where they are given, with a margin."""
    low, high = (given if given is not None else found for given, found in zip(limits, (low, high), strict=True))
    if logarithmic and low > 0:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        panel.set_yscale("log")
        panel.set_ylim(low / 1.3, high * 1.3)
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        panel.yaxis.set_major_formatter(plain)
        panel.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        panel.yaxis.set_minor_formatter(plain if high / low < 300 else NullFormatter())
    else:
        margin = 0.05 * (high - low) or 0.1
        panel.set_ylim(low - margin, high + margin)


def _moving_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Return the mean weighted by a bell (Hann) over about `width` points to each side, of fewer at the ends."""
    bell = np.hanning(2 * width + 1)[1:-1]
    mean: npt.NDArray[np.float64] = np.convolve(values, bell, "same") / np.convolve(np.ones_like(values), bell, "same")
    return mean
