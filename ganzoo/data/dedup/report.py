"""The report of a search for duplicates: `duplicates.json`, a picture of the largest groups, a page that lists them.

The page is one file with its pictures inside. Both are bounded: the page shows 100 groups of up to 12 images each.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.dedup.result import SHOWN_IMAGES, Duplicates
from ganzoo.data.dedup.views import SIDE
from ganzoo.errors import DataError
from ganzoo.files import atomic_folder, write_atomically
from ganzoo.pictures import grid, save_png

LIST, PICTURE, PAGE = "duplicates.json", "groups.png", "duplicates.html"
_PICTURE_GROUPS = 32
_SHOWN_NAMES = 12
_WHITE = 255

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates in the {{ found.source }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
table { border-collapse: collapse; margin-bottom: 2rem; }
th { text-align: left; font-weight: normal; opacity: .7; padding-right: 2rem; vertical-align: top; }
section { border-top: 1px solid #8884; padding: .8rem 0; }
img { display: block; max-width: 100%; image-rendering: pixelated; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.names { opacity: .7; font-size: 13px; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd; } }
</style>
</head>
<body>
<h1>Duplicates in the {{ found.source }}</h1>
<table>
{%- for name, value in rows %}
<tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</table>
{%- if groups %}
<p>The first image of each group is the one that is kept.
{%- if unshown %} The {{ groups | length }} largest groups are shown; {{ list }} has all.{% endif %}</p>
{%- else %}
<p>There are none.</p>
{%- endif %}
{%- for group in groups %}
<section>
<p>{{ group.count }} images{{ group.remarks }}</p>
{%- if group.picture %}
<img src="data:image/png;base64,{{ group.picture }}" alt="{{ group.kept }} and its duplicates">
{%- endif %}
<p class="names">{{ group.kept }} is kept; left out: {{ group.removed }}</p>
</section>
{%- endfor %}
</body>
</html>
"""


def write_report(found: Duplicates, folder: str | Path) -> list[Path]:
    """Write a report and return its files: `duplicates.json`, `groups.png` (where there are groups), `duplicates.html`.

    The same result gives the same bytes.

    Args:
        found: the duplicates.
        folder: is made; it may not exist yet.

    Raises:
        DataError: the folder exists, or cannot be written; nothing is left behind.
    """
    target = Path(folder)
    try:
        with atomic_folder(target) as building:
            found.save(building / LIST)
            if found.pictures:
                save_png(_picture(found), building / PICTURE)
            write_atomically(building / PAGE, _page(found).encode("utf-8"))
    except FileExistsError as error:
        raise DataError(f"{target} exists already.", "Choose another folder for the report.") from error
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {target}: {error.strerror or error}.", "Choose another folder."
        ) from error
    return [target / name for name in (LIST, PICTURE, PAGE) if (target / name).is_file()]


def _picture(found: Duplicates) -> Any:
    """Return the largest groups below each other, a row each."""
    shown = [number for number in found.largest(_PICTURE_GROUPS) if number in found.pictures]
    rows = [_row(found.pictures[number], max(map(len, found.pictures.values()))) for number in shown]
    images = np.concatenate(rows)
    return grid(images, columns=len(rows[0]), scale=2)


def _row(images: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint8]:
    """Return images and as many white ones after them as fill the row."""
    blank = np.full((width - len(images), SIDE, SIDE, 3), _WHITE, dtype=np.uint8)
    return np.concatenate([images, blank])


def _page(found: Duplicates) -> str:
    import jinja2

    summary = found.summary()
    parameters = summary.pop("parameters")
    rows = [
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value) for name, value in summary.items()
    ]
    rows.append(("parameters", ", ".join(f"{name} {value}" for name, value in parameters.items())))
    groups = [_group(found, number) for number in found.largest()]
    template = jinja2.Environment(autoescape=True).from_string(_PAGE)
    return template.render(found=found, rows=rows, groups=groups, unshown=len(found.groups) - len(groups), list=LIST)


def _group(found: Duplicates, number: int) -> dict[str, Any]:
    group = found.groups[number]
    rest = len(group.names) - 1 - _SHOWN_NAMES
    removed = ", ".join(group.names[1 : 1 + _SHOWN_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")
    remarks = f", {group.identical:,} identical to the first" if group.identical else ""
    remarks += ", of different classes" if group.mixed else ""
    remarks += f", the first {SHOWN_IMAGES} shown" if len(group.names) > SHOWN_IMAGES else ""
    return {
        "count": f"{len(group.names):,}",
        "remarks": remarks,
        "kept": group.names[0],
        "removed": removed,
        "picture": _inline(found.pictures[number]) if number in found.pictures else None,
    }


def _inline(images: npt.NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    grid(images, columns=len(images), scale=2).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
