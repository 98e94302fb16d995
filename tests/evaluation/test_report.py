"""The report of an evaluation: every number with its protocol, a page that needs nothing else, the same bytes twice."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report import TABLE_HEAD, ReportPictures, protocol_line, table_rows, write_report
from ganzoo.evaluation.report.bars import class_tables, mode_tables
from ganzoo.evaluation.report.charts import curve_charts, histogram_charts
from ganzoo.evaluation.report.pictures import MOST_BYTES, bounded, grid_picture
from ganzoo.evaluation.report.rows import details_rows, protocol_sections, settings_rows
from ganzoo.evaluation.report.wording import MEANINGS, meaning, number, plain, stem, with_error
from ganzoo.evaluation.report.writing import page
from ganzoo.evaluation.results import Evaluation, read_evaluation
from ganzoo.inspection.neighbours import NeighbourRows

SHA = "1a2b3c4d" * 8
PROTOCOL: dict[str, Any] = {
    "generated": {
        "kind": "model",
        "description": "dcgan-mnist",
        "count": 50_000,
        "image_size": 28,
        "seeds": "0-49999",
        "weights": "ema",
        "step": 34_375,
    },
    "reference": {"kind": "data", "description": "MNIST, training set", "count": 60_000, "image_size": 28},
    "test": {"kind": "data", "description": "MNIST, test set", "count": 10_000, "image_size": 28},
    "features": {"mnist-convnet": {"name": "mnist-convnet", "sha256": SHA, "input": {"resize": "none"}}},
    "seed": 7,
    "versions": {"torch": "2.15.0"},
}
ON_NET = {"features": "mnist-convnet"}
FD = Value("fd-mnist-convnet", 3.21456, "lower", reference=0.412, protocol=ON_NET)
KD = Value(
    "kd-mnist-convnet", 0.001234, "lower", error=0.00021, protocol={**ON_NET, "subsets": 100, "subset_size": 1000}
)
PRECISION = Value("precision-mnist-convnet", 0.915, "higher", protocol={**ON_NET, "k": 3})
SSIM = Value("ms-ssim", math.nan, "reference", reference=0.25)
EVALUATION = Evaluation("dcgan-mnist", (FD, KD, PRECISION, SSIM), PROTOCOL)
VOID = ("meta", "img", "line", "polyline", "polygon", "circle")


def images(count: int = 9, size: int = 8, channels: int = 1, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def neighbours(rows: int = 2, k: int = 3) -> NeighbourRows:
    return NeighbourRows(
        queries=images(rows),
        neighbours=images(rows * k, seed=1).reshape(rows, k, 8, 8, 1),
        indices=np.zeros((rows, k), dtype=np.int64),
        distances=np.zeros((rows, k), dtype=np.float32),
        space="pixels",
    )


class Page(HTMLParser):
    """A page's elements and texts; ends that close nothing, or something else than was opened last, are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_files_are_written_and_the_numbers_are_read_again(tmp_path: Path) -> None:
    pictures = ReportPictures(images(), images(4, seed=1), neighbours())
    written = write_report(EVALUATION, tmp_path / "new", pictures)
    names = ["metrics.json", "report.html", "samples.png", "reference.png", "neighbours.png"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    read = read_evaluation(tmp_path / "new" / "metrics.json")
    assert read.subject == EVALUATION.subject
    assert [value.name for value in read.values] == [value.name for value in EVALUATION.values]
    assert (read["fd-mnist-convnet"], read["kd-mnist-convnet"]) == (FD, KD)
    assert math.isnan(read["ms-ssim"].value)
    assert read.protocol == PROTOCOL
    assert json.loads((tmp_path / "new" / "metrics.json").read_text())["values"][3]["value"] is None


def test_the_same_evaluation_gives_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    curves = {"fd": [(10.0, 30.0), (20.0, 3.0)]}
    pictures = ReportPictures(images(), images(4, seed=1), neighbours(), curves)
    one, other = (write_report(EVALUATION, tmp_path / name, pictures, command="ganzoo evaluate x") for name in "ab")
    for first, second in zip(one, other, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
        assert str(tmp_path).encode() not in first.read_bytes(), first.name


def test_every_value_stands_on_the_page_with_all_that_belongs_to_it() -> None:
    shown = Page(page(EVALUATION, ReportPictures(images())))
    assert shown.row("fd-mnist-convnet") == [
        "fd-mnist-convnet",
        "3.215",
        "0.412",
        "lower is better",
        "mnist-convnet 1a2b3c4d",
    ]
    common = "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST, training set; EMA"
    assert common in shown.text
    assert shown.row("ms-ssim")[4] == "50,000 samples (seeds 0-49999); EMA"  # it compares with nothing
    assert shown.row("kd-mnist-convnet")[1:4] == ["0.001234 ± 0.00021", "–", "lower is better"]
    assert shown.row("precision-mnist-convnet")[3] == "higher is better"
    assert shown.row("ms-ssim")[1:4] == ["not defined", "0.25", "nearer to real images is better"]
    for name in ("fd", "kd", "precision", "ms-ssim"):
        assert MEANINGS[name].replace("'", "&#39;") in page(EVALUATION, ReportPictures(images()))


def test_the_protocol_stands_on_the_page_whole() -> None:
    shown = Page(page(EVALUATION, ReportPictures(images())))
    assert shown.row("mnist-convnet · SHA-256")[1] == SHA
    assert shown.row("mnist-convnet · input · resize")[1] == "none"
    assert shown.row("seeds")[1] == "0-49999"
    assert shown.row("weights")[1] == "ema"
    assert shown.row("step")[1] == "34,375"
    assert shown.row("seed")[1] == "7"
    assert shown.row("torch")[1] == "2.15.0"
    settings_of = [row for row in shown.rows if row[0] == "kd-mnist-convnet"][1]
    assert settings_of[1] == "features: mnist-convnet; subsets: 100; subset size: 1,000"
    told = [text for _, rows in protocol_sections(EVALUATION) for _, text in rows]
    assert len(told) == 7 + 4 + 4 + 3 + 1 + 1


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = page(EVALUATION, ReportPictures(images(), images(), neighbours(), {"fd": [(1.0, 2.0)]}))
    shown = Page(text)
    assert text.startswith("<!DOCTYPE html>\n")
    assert {"script", "link", "iframe", "object", "form", "a"} & {tag for tag, _ in shown.tags} == set()
    assert re.findall(r"https?://|url\(|@import", text) == []
    pictures = [attributes for tag, attributes in shown.tags if tag == "img"]
    assert len(pictures) == 3
    for one in pictures:
        assert (one["src"] or "").startswith("data:image/png;base64,")
        assert one["alt"]
    assert any(tag == "meta" and "default-src 'none'" in (one.get("content") or "") for tag, one in shown.tags)
    assert "prefers-color-scheme: dark" in text
    assert any(tag == "meta" and one.get("name") == "viewport" for tag, one in shown.tags)


def test_ids_are_unique_and_every_label_points_to_one() -> None:
    curves = {"fd": [(1.0, 2.0)], "recall": [(1.0, 0.5)]}
    values = (FD, Value("modes-x", 2.0, "higher", details={"histogram": [3, 1]}))
    text = page(replace(EVALUATION, values=values), ReportPictures(images(), curves=curves))
    tags = Page(text).tags
    ids = [one["id"] for _, one in tags if "id" in one]
    assert len(ids) == len(set(ids))
    assert {one["aria-labelledby"] for _, one in tags if "aria-labelledby" in one} <= set(ids)
    assert [one["role"] for tag, one in tags if tag == "svg"] == ["img"] * 3


HOSTILE = "<script>alert('1')</script>\"&{{ 7 * 7 }}"


def test_what_others_wrote_is_escaped_wherever_it_stands() -> None:
    value = Value(
        HOSTILE,
        1.0,
        "lower",
        protocol={HOSTILE: HOSTILE},
        details={"by_class": {HOSTILE: 1.0}, "shares": {HOSTILE: 0.5}, "histogram": [1, 2], HOSTILE: HOSTILE},
    )
    hostile = {
        "generated": {"description": HOSTILE, HOSTILE: HOSTILE},
        "reference": {"description": HOSTILE},
        HOSTILE: 1,
    }
    pictures = ReportPictures(images(), images(), replace(neighbours(), space=HOSTILE), {HOSTILE: [(1.0, 2.0)]})
    text = page(Evaluation(HOSTILE, (value,), hostile), pictures, command=HOSTILE)
    shown = Page(text)
    assert "script" not in {tag for tag, _ in shown.tags}
    assert "<script" not in text
    assert "alert('1')" in "".join(shown.texts)
    assert "{{ 7 * 7 }}" in "".join(shown.texts)
    assert {name for _, attributes in shown.tags for name in attributes if name.startswith("on")} == set()
    assert shown.row(HOSTILE)[1] == "1"


@settings(max_examples=25, deadline=None)
@given(st.text())
def test_no_text_breaks_the_page(text: str) -> None:
    value = Value(text, 1.0, "lower", details={"by_class": {text: 1.0}})
    Page(page(Evaluation(text, (value,), {text: {text: text}}), ReportPictures(images(1, 2))))


def test_missing_parts_leave_no_empty_sections() -> None:
    shown = Page(page(Evaluation("x", (PRECISION,), {}), ReportPictures(images(1))))
    headings = [attributes["id"] for tag, attributes in shown.tags if tag == "h2"]
    assert headings == ["numbers", "images", "meanings", "protocol"]
    assert "real images" not in [cell for row in shown.rows for cell in row]
    assert "no real images were named" in shown.text
    assert "1 generated image, in order" in shown.text
    full = ReportPictures(images(), images(), neighbours(), {"fd": [(1.0, 2.0)]})
    details = {"by_class": {"a": 1.0}, "histogram": [1, 2], "more": 3}
    everything = Evaluation("x", (replace(FD, details=details),), PROTOCOL)
    headings = [one["id"] for tag, one in Page(page(everything, full, "ganzoo evaluate x")).tags if tag == "h2"]
    assert headings == [
        *("numbers", "images", "curves", "modes", "classes"),
        *("neighbours", "meanings", "protocol", "details", "command"),
    ]


def test_an_evaluation_without_values_says_so() -> None:
    assert "No number was asked for." in page(Evaluation("x", ()), ReportPictures(images(1)))


def test_parts_that_are_there_but_empty_are_left_out() -> None:
    empty = ReportPictures(
        images(), images(0), replace(neighbours(), queries=images(0)), {"fd": [], "nan": [(1.0, math.nan)]}
    )
    tags = Page(page(EVALUATION, empty)).tags
    assert [tag for tag, _ in tags].count("img") == 1
    assert "svg" not in [tag for tag, _ in tags]


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (128, 3), (512, 3)])
def test_the_page_stays_small_whatever_the_images(size: int, channels: int, tmp_path: Path) -> None:
    noise = images(64 if size < 512 else 2, size, channels)
    rows = NeighbourRows(
        queries=noise[:2],
        neighbours=np.stack([noise[:2]] * 5, axis=1),
        indices=np.zeros((2, 5), dtype=np.int64),
        distances=np.zeros((2, 5), dtype=np.float32),
        space="pixels",
    )
    written = write_report(EVALUATION, tmp_path, ReportPictures(noise, noise, rows))
    assert all(path.stat().st_size < 2_000_000 for path in written)


def test_grids_are_bounded_and_small_images_are_enlarged_without_blur() -> None:
    few = grid_picture(images(100, 8))
    assert few.images == 64
    assert len(few.png) <= MOST_BYTES
    with Image.open(io_of(few.png)) as file:
        pixels = np.asarray(file)
    assert pixels.shape[0] > 400
    assert set(np.unique(pixels)) <= set(np.unique(images(100, 8))) | {255}
    assert grid_picture(images(3)).images == 3
    large = grid_picture(images(36, 128, 3))
    assert 0 < large.images < 36
    assert large.reduced == 1
    huge = grid_picture(images(1, 640, 3))
    assert (huge.images, huge.width) == (1, 640 // huge.reduced)
    assert huge.reduced > 1


def io_of(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


def test_a_wide_picture_is_reduced_by_whole_numbers() -> None:
    wide = bounded(np.zeros((100, 5000, 3), dtype=np.uint8))
    assert (wide.width, wide.height, wide.reduced) == (1250, 25, 4)
    same = bounded(np.zeros((10, 20, 1), dtype=np.uint8))
    assert (same.width, same.height, same.reduced) == (20, 10, 1)


def test_nothing_is_written_where_a_picture_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images are"):
        write_report(EVALUATION, tmp_path / "out", ReportPictures(np.zeros((2, 8, 8), dtype=np.uint8)))
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------ rows of text


def test_rows_for_the_terminal_hold_text_in_the_columns_that_are_named() -> None:
    rows = table_rows(EVALUATION)
    assert {len(row) for row in rows} == {len(TABLE_HEAD)}
    assert [row[:4] for row in rows] == [
        ["fd-mnist-convnet", "3.215", "↓", "0.412"],
        ["kd-mnist-convnet", "0.001234 ± 0.00021", "↓", ""],
        ["precision-mnist-convnet", "0.915", "↑", ""],
        ["ms-ssim", "not defined", "≈", "0.25"],
    ]
    assert [row[4] for row in rows] == [protocol_line(value, EVALUATION) for value in EVALUATION.values]


@pytest.mark.parametrize(
    ("name", "protocol", "expected"),
    [
        (
            "recall-mnist-convnet",
            {**ON_NET, "k": 3},
            "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST, training set; "
            "EMA; mnist-convnet 1a2b3c4d; k 3",
        ),
        (
            "is-mnist-convnet",
            {**ON_NET, "splits": 10},
            "50,000 samples (seeds 0-49999); EMA; mnist-convnet 1a2b3c4d; splits 10",
        ),
        (
            "modes-mnist-convnet",
            {"classifier": {"name": "mnist-convnet", "sha256": SHA}, "samples": 50_000, "real": 30_000},
            "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST, training set; "
            "EMA; mnist-convnet 1a2b3c4d; real 30,000",
        ),
        (
            "memorisation-pixels",
            {"features": "pixels", "distance": "euclidean"},
            "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST, training set beside 10,000 images "
            "at 28×28 of MNIST, test set; EMA; pixels",
        ),
        (
            "one-nn-error",
            {},
            "50,000 samples (seeds 0-49999) tested on 10,000 images at 28×28 of MNIST, test set; EMA",
        ),
        (
            "probe-accuracy",
            {},
            "trained on 60,000 images at 28×28 of MNIST, training set tested on 10,000 images at 28×28 of MNIST, "
            "test set; EMA",
        ),
        (
            "mine",
            {"exact": True},
            "50,000 samples (seeds 0-49999) against 60,000 images at 28×28 of MNIST, training set; EMA",
        ),
    ],
)
def test_a_line_of_protocol_names_the_images_the_network_and_the_settings(
    name: str, protocol: dict[str, Any], expected: str
) -> None:
    assert protocol_line(Value(name, 1.0, "lower", protocol=protocol), EVALUATION) == expected


def test_data_of_the_training_are_called_as_the_model_calls_them() -> None:
    def told(sha256: str) -> str:
        generated = {"count": 5, "trained_on": {"description": "MNIST", "content_sha256": "a" * 64}}
        reference = {"count": 7, "description": "idx file 'train'", "content_sha256": sha256}
        return protocol_line(
            Value("fd", 1.0, "lower"), Evaluation("x", (), {"generated": generated, "reference": reference})
        )

    assert told("a" * 64) == "5 images against 7 images of MNIST"
    assert told("b" * 64) == "5 images against 7 images of idx file 'train'"


def test_a_line_of_protocol_is_one_line_whatever_others_call_their_images() -> None:
    told = Evaluation("x", (FD,), {"generated": {"count": 5, "description": "a\nb\x00\u2028c"}})
    line = protocol_line(FD, told)
    assert line.isprintable()
    assert line == "5 images of a b\N{REPLACEMENT CHARACTER} c; mnist-convnet"
    assert protocol_line(FD, Evaluation("x", (FD,), {"generated": None, "features": None})) == "mnist-convnet"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (math.nan, "not defined"),
        (math.inf, "not defined"),
        (12345.678, "12,346"),
        (3.14159, "3.142"),
        (0.0, "0"),
    ],
)
def test_numbers_are_written_with_four_digits(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_an_error_stands_beside_its_number_where_both_are_known() -> None:
    assert with_error(KD) == "0.001234 ± 0.00021"
    assert with_error(replace(KD, error=math.nan)) == "0.001234"
    assert with_error(replace(KD, value=math.nan)) == "not defined"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fd-mnist-convnet", "fd"),
        ("fid", "fid"),
        ("is", "is"),
        ("ms-ssim", "ms-ssim"),
        ("one-nn-error", "one-nn"),
        ("probe-accuracy-400", "probe"),
        ("label-accuracy-mnist-convnet", "label-accuracy"),
        ("mine-on-pixels", "mine"),
        ("isomap", "isomap"),
    ],
)
def test_a_name_tells_what_is_measured(name: str, expected: str) -> None:
    assert stem(name) == expected
    assert (meaning(name) is None) == name.startswith(("mine", "isomap"))


def test_values_of_a_protocol_are_told_in_words() -> None:
    assert plain([1000, None, True, 0.5]) == "1,000, none, yes, 0.5"
    assert plain({"image_size": 28, "a_b": []}) == "size in pixels 28, a b none"


# ------------------------------------------------------------------------------------------------- charts and tables


def test_a_curve_lies_inside_its_field_and_rises_where_values_do() -> None:
    (chart,) = curve_charts({"recall": [(0.0, 0.1), (50.0, 0.4), (100.0, 0.9)]})
    places = [tuple(float(one) for one in pair.split(",")) for pair in chart.points.split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert all(58 <= x <= 396 and 12 <= y <= 190 for x, y in places)
    assert places[0][0] == 58
    assert chart.across[0][1] == "0"
    assert chart.across[-1][1] == "100"
    assert [text for _, text in chart.up] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert (
        chart.summary
        == "3 points, from 0.1 at 0 kimg to 0.9 at 100 kimg; lowest 0.1 at 0 kimg, highest 0.9 at 100 kimg."
    )


def test_numbers_of_different_magnitude_are_drawn_logarithmically() -> None:
    (chart,) = curve_charts({"fd": [(10.0, 300.0), (20.0, 30.0), (30.0, 3.0)]})
    heights = [float(pair.split(",")[1]) for pair in chart.points.split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert [text for _, text in chart.up] == ["1", "10", "100", "1,000"]
    assert chart.title == "fd (logarithmic)"


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0], [-1.0, -1.0], [1e-9, 1e9], [1e300, -1e300], [-3.0, 0.0]])
def test_any_finite_numbers_make_a_chart(values: list[float]) -> None:
    (chart,) = curve_charts({"x": [(float(index), one) for index, one in enumerate(values)]})
    places = [tuple(float(one) for one in pair.split(",")) for pair in chart.points.split()]
    assert len(places) == len(values)
    assert all(58 <= x <= 396 and 12 <= y <= 190 for x, y in places)
    assert 2 <= len(chart.up) <= 24
    assert len({text for _, text in chart.up}) == len(chart.up)


def test_points_that_are_not_numbers_are_left_out_and_long_curves_are_thinned() -> None:
    (chart,) = curve_charts({"x": [(1.0, 2.0), (2.0, math.nan), (3.0, 4.0)], "nothing": [(1.0, math.inf)]})
    assert len(chart.points.split()) == 2
    (long,) = curve_charts({"x": [(float(index), index % 7) for index in range(5000)]})
    assert len(long.points.split()) == 400
    assert long.markers == ()


def test_a_histogram_is_sorted_and_counted() -> None:
    (chart,) = histogram_charts([Value("modes", 3.0, "higher", details={"histogram": [0, 5, 10, 5]}), FD])
    heights = [float(pair.split(",")[1]) for pair in chart.points.split()][1:-1]
    assert heights == sorted(heights)
    assert chart.summary.startswith("3 of 4 modes are drawn: the most frequent 10 times, the rarest 0 times")
    assert chart.level is not None
    assert chart.level[0] == heights[2]  # five each would be even


@pytest.mark.parametrize("wrong", [None, "text", {"a": 1}, [], [math.nan], [-1], ["x"], [1] * 2001])
def test_what_is_no_histogram_is_not_drawn(wrong: Any) -> None:
    assert histogram_charts([Value("modes", 3.0, "higher", details={"histogram": wrong})]) == []


def test_classes_have_bars_in_proportion() -> None:
    (table,) = class_tables(
        [Value("fd-x", 2.0, "lower", details={"by_class": {"cat": 4.0, "dog": 1.0, "cow": -1.0}}), FD]
    )
    assert [(row.name, row.text, row.width) for row in table.rows] == [
        ("cat", "4", 100.0),
        ("dog", "1", 25.0),
        ("cow", "-1", 0.0),
    ]
    assert (table.title, table.has_real) == ("fd-x (lower is better)", False)


def test_modes_stand_beside_those_of_real_images() -> None:
    classes = {"shares": {"0": 0.5, "1": 0.25}, "real_shares": {"0": 0.1, "1": 0.9}}
    triples = {"digits": {"red": [1, 3]}, "real_digits": {"red": [2, 2]}}
    one, two = mode_tables(
        [Value("modes-a", 2, "higher", details=classes), Value("modes-b", 2, "higher", details=triples)]
    )
    assert [(row.name, row.text, row.real, row.real_width) for row in one.rows] == [
        ("0", "0.5", "0.1", 11.1),
        ("1", "0.25", "0.9", 100.0),
    ]
    assert two.title == "modes-b: digits in red"
    assert [(row.name, row.text, row.real) for row in two.rows] == [("0", "1", "2"), ("1", "3", "2")]


def test_what_is_not_drawn_is_told() -> None:
    details = {"copied": 0.01, "test": {"share": 0.5}, "by_class": {"a": 1}, "nothing": None, "long": "x" * 500}
    told = details_rows(Evaluation("x", (replace(FD, details=details), KD)))
    assert told == [("fd-mnist-convnet", "copied: 0.01; test · share: 0.5")]
    assert settings_rows(Evaluation("x", (SSIM, FD))) == [("fd-mnist-convnet", "features: mnist-convnet")]
