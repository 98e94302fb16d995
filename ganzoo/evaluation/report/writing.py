"""The report of an evaluation: its numbers as JSON, and one page that shows them with all that belongs to them.

The page is a single file without scripts, fonts or pictures from elsewhere: it can be mailed, and says the same in ten
years. All text in it is escaped by its template, for names of classes and data are other people's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report.bars import class_tables, mode_tables
from ganzoo.evaluation.report.charts import curve_charts, histogram_charts
from ganzoo.evaluation.report.pictures import Picture, ReportPictures, Uint8Images, bounded, grid_picture
from ganzoo.evaluation.report.rows import (
    better,
    details_rows,
    judged_images,
    measured_by,
    protocol_line,
    protocol_sections,
    settings_rows,
)
from ganzoo.evaluation.report.wording import meaning, number, with_error
from ganzoo.evaluation.results import Evaluation
from ganzoo.files import write_atomically

if TYPE_CHECKING:
    from jinja2 import Template

    from ganzoo.inspection.neighbours import NeighbourRows

NUMBERS, PAGE, SAMPLES, REFERENCE, NEIGHBOURS = (
    "metrics.json",
    "report.html",
    "samples.png",
    "reference.png",
    "neighbours.png",
)


@dataclass(frozen=True)
class _Shown:
    """A picture of the page, with its caption and the text for who cannot see it."""

    picture: Picture
    title: str
    caption: str
    alternative: str


def write_report(
    evaluation: Evaluation, folder: Path, pictures: ReportPictures, *, command: str | None = None
) -> list[Path]:
    """Write an evaluation into a folder and return the files: its numbers, its page, and the pictures in it.

    metrics.json, report.html, samples.png, and where there are such, reference.png and neighbours.png. The same
    evaluation and pictures give the same bytes.

    Args:
        evaluation: the numbers.
        folder: made where it is missing; files of these names in it are replaced, each whole or not at all.
        pictures: what is shown beside them.
        command: by which the same numbers come about again; None where there is none.

    Raises:
        OSError: it cannot be written.
        ValueError: a picture is no (n, H, W, C) uint8, or a protocol holds what JSON cannot.
    """
    shown = _pictures(pictures)
    contents = {
        NUMBERS: evaluation.to_json().encode("utf-8"),
        PAGE: page(evaluation, pictures, command, shown).encode("utf-8"),
        **{name: one.picture.png for name, one in shown.items()},
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def page(
    evaluation: Evaluation,
    pictures: ReportPictures,
    command: str | None = None,
    shown: Mapping[str, _Shown] | None = None,
) -> str:
    """Return the HTML page of an evaluation.

    Args:
        evaluation: the numbers.
        pictures: what is shown beside them.
        command: by which the same numbers come about again.
        shown: the pictures as they were drawn already; None: they are drawn.
    """
    shown = _pictures(pictures) if shown is None else shown
    common = judged_images(evaluation.values[0], evaluation) if evaluation.values else ""
    return _template().render(
        subject=evaluation.subject,
        reference=_described(evaluation.protocol.get("reference")),
        common=common,
        rows=[_row(value, evaluation, common) for value in evaluation.values],
        has_reference=any(value.reference is not None for value in evaluation.values),
        meanings=_meanings(evaluation.values),
        pictures=[one for name, one in shown.items() if name != NEIGHBOURS],
        neighbours=shown.get(NEIGHBOURS),
        curves=curve_charts(pictures.curves or {}),
        histograms=histogram_charts(evaluation.values),
        modes=mode_tables(evaluation.values),
        by_class=class_tables(evaluation.values),
        sections=protocol_sections(evaluation),
        settings=settings_rows(evaluation),
        details=details_rows(evaluation),
        command=command,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


# ------------------------------------------------------------------------------------------------ parts of the page


def _row(value: Value, evaluation: Evaluation, common: str) -> dict[str, Any]:
    images = judged_images(value, evaluation)
    return {
        "name": value.name,
        "value": with_error(value),
        "better": better(value),
        "reference": number(value.reference) or "–",
        "protocol": measured_by(value, evaluation) if images == common else protocol_line(value, evaluation),
    }


def _meanings(values: Iterable[Value]) -> list[tuple[str, str]]:
    """Return (names, meaning), each meaning once."""
    names: dict[str, list[str]] = {}
    for value in values:
        if (text := meaning(value.name)) is not None:
            names.setdefault(text, []).append(value.name)
    return [(", ".join(found), text) for text, found in names.items()]


def _described(side: Any) -> str | None:
    if not isinstance(side, Mapping):
        return None
    return str(side.get("description") or "real images")


def _pictures(pictures: ReportPictures) -> dict[str, _Shown]:
    shown = {SAMPLES: _grid_shown(pictures.generated, "Generated", "generated", "in order; none was picked")}
    if pictures.reference is not None and len(pictures.reference):
        shown[REFERENCE] = _grid_shown(pictures.reference, "Real", "real", "of those that they are compared with")
    if pictures.neighbours is not None and len(pictures.neighbours.queries):
        shown[NEIGHBOURS] = _neighbours_shown(pictures.neighbours)
    return shown


def _grid_shown(images: Uint8Images, title: str, kind: str, order: str) -> _Shown:
    picture = grid_picture(images)
    what = f"{picture.images} {kind} image{'' if picture.images == 1 else 's'}"
    reduced = f" Shown at 1/{picture.reduced} of the size." if picture.reduced > 1 else ""
    return _Shown(picture, title, f"{what}, {order}.{reduced}", f"A grid of {what}.")


def _neighbours_shown(rows: NeighbourRows) -> _Shown:
    from ganzoo.inspection.neighbours import picture as draw

    text = (
        f"Left in each row a generated image, then the {rows.neighbours.shape[1]} real images nearest to it "
        f"in the space of {rows.space}."
    )
    return _Shown(bounded(draw(rows)), "Nearest real images", text, text)
