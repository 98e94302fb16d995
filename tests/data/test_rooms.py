"""Rooms: the same bytes everywhere, and every factor says what is in the picture."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ganzoo.data import DataRequest, open_pack, open_source
from ganzoo.data.rooms import FACTORS, complete, draw, render
from ganzoo.data.rooms.arithmetic import oklch, sine_cosine
from ganzoo.data.rooms.camera import View
from ganzoo.data.sources.rooms import RoomsSource
from ganzoo.errors import UsageError

SHA256 = {
    32: "64332cd49612ab3d4d417fb8202e2146356a91fb39649d5b8159207b4abaa955",
    64: "7228387b1e2d7636cc7d2fb144fd3217b7c12e650ec730cacb56b9fe6cf0ed81",
    128: "2ba352ad3cfe5b767f3f4dd4dd710844c075ea5de20e8ccf0b0befbb52e8f249",
}
PLAIN = {"window": 0, "lamp": 0, "picture": 0, "rug": 0, "floor": 1, "bed_x": 0.0, "camera_angle": 0.0}


def numbers(count: int) -> npt.NDArray[np.int64]:
    return np.arange(count, dtype=np.int64)


def one(size: int = 64, **factors: Any) -> npt.NDArray[np.int64]:
    """Return one plain room with some factors set: (H, W, 3)."""
    picture: npt.NDArray[np.int64] = render({**PLAIN, **factors}, size)[0].astype(np.int64)
    return picture


# ------------------------------------------------------------------ the same everywhere


@pytest.mark.parametrize("size", SHA256)
def test_a_seed_gives_the_same_bytes_on_every_machine(size: int) -> None:
    pictures = render(draw(numbers(24), seed=7), size)
    assert (pictures.shape, pictures.dtype) == ((24, size, size, 3), np.dtype(np.uint8))
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == SHA256[size]


def test_a_room_does_not_depend_on_its_company() -> None:
    factors = draw(numbers(40))
    together = render(factors, 64)
    for number in (0, 7, 8, 23, 39):
        alone = render({name: values[number : number + 1] for name, values in factors.items()}, 64)[0]
        assert np.array_equal(alone, together[number])
    assert len({picture.tobytes() for picture in together}) == 40


def test_factors_depend_on_seed_and_number_alone() -> None:
    first, more = draw(numbers(5), seed=3), draw(numbers(9), seed=3)
    for name, values in more.items():
        assert np.array_equal(values[:5], first[name])
    assert not np.array_equal(draw(numbers(5), seed=4)["wall_hue"], first["wall_hue"])


def test_sines_and_cosines_are_exact_without_a_library() -> None:
    turns = np.linspace(-1.5, 1.5, 1001)
    sine, cosine = sine_cosine(turns)
    for turn, s, c in zip(turns.tolist(), sine.tolist(), cosine.tolist(), strict=True):
        assert s == pytest.approx(math.sin(2 * math.pi * turn), abs=2e-14)
        assert c == pytest.approx(math.cos(2 * math.pi * turn), abs=2e-14)


def test_oklch_gives_the_primaries_of_srgb_and_greys() -> None:
    # lightness, chroma and hue of red, green, blue and of a grey, from CSS Color 4's table of named colours
    lightness = np.array([0.62796, 0.86644, 0.45201, 0.5])
    chroma = np.array([0.25768, 0.29483, 0.31321, 0.0])
    hue = np.array([29.2339, 142.4953, 264.0520, 0.0])
    linear = oklch(lightness, chroma, hue)[:, :, 0, 0].T
    assert linear == pytest.approx(np.vstack([np.eye(3), np.full((1, 3), 0.125)]), abs=2e-3)


# ------------------------------------------------------------------ factors


def test_drawn_factors_fill_their_ranges_evenly_and_independently() -> None:
    factors = draw(numbers(4000))
    assert list(factors) == [*FACTORS, "window_box"]
    for name, factor in FACTORS.items():
        values = factors[name]
        assert values.shape == (4000,)
        if factor.values:
            shares = np.bincount(values, minlength=len(factor.values)) / 4000
            expected = [2 / 3, 1 / 3] if name == "lamp_on" else [1 / len(factor.values)] * len(factor.values)
            assert values.dtype == np.int64
            assert shares == pytest.approx(expected, abs=0.04)
        else:
            assert values.dtype == np.float64
            assert (values.min(), values.max()) >= (factor.low, factor.low)
            assert values.max() <= factor.high
            assert values.mean() == pytest.approx((factor.low + factor.high) / 2, abs=0.03 * (factor.high - factor.low))
    table = np.corrcoef(np.stack([factors[name] for name in FACTORS if name != "lamp_on"]))
    assert np.abs(table - np.eye(len(table))).max() < 0.07


def test_defaults_are_in_range_and_a_number_stands_for_all() -> None:
    for name, factor in FACTORS.items():
        assert factor.low <= factor.default <= factor.high, name
    pictures = render({"wall_hue": [0.0, 120.0, 240.0], "lamp": 2}, 32)
    assert len(pictures) == 3
    assert np.array_equal(render({"wall_hue": 120.0, "lamp": 2}, 32)[0], pictures[1])


@pytest.mark.parametrize(
    ("factors", "size", "match"),
    [
        ({"wall_colour": 1.0}, 64, "no factor 'wall_colour'"),
        ({"window": 2}, 64, "'window' has a value outside"),
        ({"window": 0.5}, 64, "'window' has a value outside"),
        ({"wall_hue": float("nan")}, 64, "'wall_hue' has a value outside"),
        ({"camera_angle": [0.0, 30.0]}, 64, "'camera_angle' has a value outside"),
        ({"wall_hue": [1.0, 2.0], "bed_x": [0.0, 0.1, 0.2]}, 64, "differ in shape"),
        ({"wall_hue": [[1.0]]}, 64, "given as float64"),
        ({"wall_hue": "red"}, 64, "given as <U3"),
        ({}, 4, "from 8 to 4096"),
    ],
)
def test_what_cannot_be_rendered_is_refused(factors: dict[str, Any], size: int, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        render(factors, size)


def test_no_lamp_does_not_shine() -> None:
    assert complete({"lamp": [0, 1, 2], "lamp_on": 1})["lamp_on"].tolist() == [0, 1, 1]
    assert np.array_equal(one(lamp=0, lamp_on=1), one(lamp=0, lamp_on=0))


# ------------------------------------------------------------------ what is in the picture


def test_the_window_box_holds_what_a_window_changes_and_nothing_less() -> None:
    """At dusk a window gives no light, so that a room with it differs from one without inside the box alone."""
    for angle, x, width in ((0.0, 0.2, 1.4), (-20.0, 0.9, 1.0), (24.0, -0.2, 1.7), (-24.0, 0.6, 1.3)):
        given = {"camera_angle": angle, "window_x": x, "window_width": width, "daylight": 0.0, "bed": 0}
        changed = (one(128, **given, window=1) != one(128, **given, window=0)).any(axis=-1)
        rows, columns = np.nonzero(changed)
        box = complete({**given, "window": 1})["window_box"][0] * 128
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert found[:3] == pytest.approx(box[:3].tolist(), abs=1.1)
        assert box[3] - 8 <= found[3] <= box[3] + 1.1  # the head-board hides some of its foot
        inside = changed[round(box[1]) + 3 : round(box[3]) - 8, round(box[0]) + 3 : round(box[2]) - 3]
        assert inside.mean() > 0.97


def test_boxes_lie_inside_of_the_image_and_are_zeros_where_there_is_no_window() -> None:
    factors = draw(numbers(2000))
    box, there = factors["window_box"], factors["window"] > 0
    assert box.min() >= 0
    assert box.max() <= 1
    assert (box[there, 2] - box[there, 0]).min() > 0.1
    assert (box[there, 3] - box[there, 1]).min() > 0.1
    assert not box[~there].any()


def test_the_wall_takes_its_hue() -> None:
    for degrees, strongest in ((30.0, 0), (145.0, 1), (260.0, 2)):
        wall = one(wall_hue=degrees)[14:22, 10:54].mean(axis=(0, 1))  # above the bed
        assert int(wall.argmax()) == strongest
        assert wall.max() - wall.min() > 12
    bright, dark = one(wall_lightness=0.92)[14:22, 10:54], one(wall_lightness=0.66)[14:22, 10:54]
    assert bright.mean() > dark.mean() + 30


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_changes_the_picture(name: str) -> None:
    factor = FACTORS[name]
    middle = factor.low + (factor.high - factor.low) / 2
    values = [0, 1] if factor.values else [factor.low, middle]
    full = {"window": 1, "lamp": 1, "lamp_on": 1, "rug": 1, "picture": 1, "floor": 0}
    before, after = render({**full, name: values}, 64).astype(np.int64)
    assert (np.abs(before - after).max(axis=-1) > 16).sum() >= 8


def test_the_sky_is_in_the_window_and_brightens_with_the_day() -> None:
    box = (complete({"window": 1, "bed": 0})["window_box"][0] * 64).round().astype(int)
    upper = slice(box[1] + 3, (box[1] + box[3]) // 2), slice(box[0] + 3, box[2] - 3)
    noon, dusk, none = (
        one(window=w, daylight=d, wall_hue=60.0, bed=0)[upper].mean(axis=(0, 1))
        for w, d in ((1, 1.0), (1, 0.0), (0, 0.0))
    )
    assert noon[2] > noon[0]  # bluer than the yellow wall
    assert none[0] > none[2]
    assert noon.mean() > dusk.mean() + 60
    assert one(window=1, daylight=1.0)[48:].mean() > one(window=0)[48:].mean() + 4  # light falls on the floor


def test_a_lamp_that_shines_lights_the_room() -> None:
    for lamp in (1, 2):
        off, on = one(lamp=lamp, lamp_on=0), one(lamp=lamp, lamp_on=1)
        assert on.mean() > off.mean() + 4
    right, left = one(lamp=1, lamp_on=1, lamp_side=1), one(lamp=1, lamp_on=1, lamp_side=0)
    assert right[:24, 40:].mean() > left[:24, 40:].mean() + 4


def test_turning_the_camera_the_other_way_mirrors_a_symmetric_room() -> None:
    for angle in (6.0, 15.0, 24.0):
        given = {"lamp": 1, "lamp_on": 1, "rug": 1, "bed_x": 0.0}
        from_right = one(96, **given, camera_angle=angle, lamp_side=1)
        from_left = one(96, **given, camera_angle=-angle, lamp_side=0)
        assert np.abs(from_right - from_left[:, ::-1]).max() <= 1
        assert np.abs(from_right - from_left).max() > 60


@pytest.mark.parametrize("angle", [-22.0, 22.0])
def test_the_blanket_hangs_over_the_side_that_is_seen(angle: float) -> None:
    away = math.copysign(1.0, angle)  # the camera stands on the right for a positive angle, the bed on the left
    given = {"camera_angle": angle, "bed_x": -0.5 * away, "bed": 0, "blanket_hue": 145.0, "floor_hue": 0.0}
    view = View.of(np.array([angle]), 64)
    for depth in (0.9, 1.3, 1.7):
        u, v = view.project(np.array([-0.5 * away + 0.55 * away]), 0.4, depth)[0]
        red, green, blue = one(128, **given)[int(v * 128), int((u + 0.5) * 128)]
        assert green > red + 20
        assert green > blue + 20


def test_edges_are_as_sampling_sixteen_times_finer_makes_them() -> None:
    factors = draw(numbers(32), seed=5)
    fine = render(factors, 256).astype(np.float64).reshape(32, 64, 4, 64, 4, 3)
    averaged = np.sqrt((fine * fine).mean(axis=(2, 4)))  # in linear light, as the renderer mixes
    difference = np.abs(render(factors, 64) - averaged)
    assert difference.mean() < 1.0
    assert np.quantile(difference, 0.99) < 12


# ------------------------------------------------------------------ the source


def test_the_source_is_there_by_name_with_its_factors_and_classes() -> None:
    with open_source("rooms:count=12,seed=3") as source:
        assert (len(source), source.labelled, source.classes) == (12, True, ("no window", "window"))
        expected = draw(numbers(12), seed=3)
        assert source.factors is not None
        assert all(np.array_equal(source.factors[name], values) for name, values in expected.items())
        assert source.labels is not None
        assert source.labels.tolist() == expected["window"].tolist()
        sample = source.read(4)
        assert sample.label == expected["window"][4]
        assert np.array_equal(np.asarray(sample.image), render(expected, 256)[4])
    assert len(open_source("rooms")) == 50_000
    lamps = open_source("rooms:class=lamp,count=50")
    assert lamps.classes == ("no lamp", "floor lamp", "hanging lamp")
    assert lamps.labels is not None
    assert set(lamps.labels.tolist()) == {0, 1, 2}
    assert not open_source("rooms:class=none,count=5").labelled
    assert open_source("rooms:class=none,count=5").read(0).label is None


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("cuont=5", "no option 'cuont'. Did you mean 'count'"),
        ("count=0", "'count' of 'rooms' is '0'. It is a whole number from 1"),
        ("count=1e4", "'count' of 'rooms' is '1e4'"),
        ("seed=-1", "'seed' of 'rooms' is '-1'"),
        ("class=wall_hue", "'class' of 'rooms' is 'wall_hue'. It is one of floor"),
        ("size=4", "from 8 to 4,096"),
        ("count", "'count' of 'rooms' has no value"),
        ("count=5,count=6", "'count' of 'rooms' is given twice"),
        ("count=5,", "no option ''"),
        ("/data", "no option '/data'"),
    ],
)
def test_a_wrong_option_is_told(argument: str, match: str) -> None:
    with pytest.raises(UsageError) as error:
        open_source(f"rooms:{argument}")
    assert match in str(error.value)


def test_a_pack_is_drawn_in_the_size_that_was_asked_for() -> None:
    factors = draw(numbers(10))
    with open_pack("rooms:count=10", DataRequest(32, crop="none")) as pack:
        assert np.array_equal(pack.gather(numbers(10)).numpy(), render(factors, 32))
        assert pack.labels is not None
        assert pack.labels.tolist() == factors["window"].tolist()
        assert pack.factors is not None
        assert list(pack.factors) == [*FACTORS, "window_box"]
        assert np.array_equal(render(pack.factors, 32), pack.gather(numbers(10)).numpy())
    with open_pack("rooms:count=10,size=64", DataRequest(32, resize="box")) as pack:
        smaller = render(factors, 64).reshape(10, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(pack.gather(numbers(10)).numpy() - smaller).max() <= 1


def test_sources_with_other_options_have_other_fingerprints() -> None:
    arguments = ("", "count=9", "seed=1", "class=lamp", "class=none", "size=256")
    prints = {open_source(f"rooms:{argument}").fingerprint() for argument in arguments}
    assert len(prints) == len(arguments)
    assert RoomsSource(5, seed=0, class_factor="window", size=None).fingerprint() in {
        open_source("rooms:count=5").fingerprint()
    }
