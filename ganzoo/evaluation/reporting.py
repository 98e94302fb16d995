"""Where the report of an evaluation goes: a folder of its own, which nothing else is overwritten for."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.errors import UsageError
from ganzoo.files import atomic_folder

if TYPE_CHECKING:
    from ganzoo.evaluation.evaluating import Conducted
    from ganzoo.evaluation.judged import Judged

EVALUATIONS = "evaluations"
_OF_RUN = "evaluation"
_REPORT = "metrics.json"  # what every report has


def check_folder(folder: Path) -> Path:
    """Return a folder in which a report can be written; an older report there will be replaced.

    Args:
        folder: it may not exist yet.

    Raises:
        UsageError: something else is there, or it cannot be written.
    """
    remedy = "Choose another folder with --out."
    try:
        if folder.exists():
            if not folder.is_dir():
                raise UsageError(f"{folder} is a file, and a report is a folder.", remedy)
            others = sorted(one.name for one in folder.iterdir())
            if others and _REPORT not in others:
                raise UsageError(f"{folder} holds no report, but {others[0]!r}.", remedy)
            if (folder / "config.json").is_file() or (folder / "run.json").is_file():
                raise UsageError(f"{folder} is the folder of a model or a run.", remedy)
        standing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    except OSError as error:
        raise UsageError(f"{folder} cannot be a report's folder: {error.strerror or error}.", remedy) from error
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        raise UsageError(f"Nothing can be written in {standing}.", remedy)
    return folder


def next_folder(judged: Judged, parent: Path = Path(EVALUATIONS)) -> Path:
    """Return the folder that the next report of what is judged goes into.

    In the run itself of a run, "evaluation", "evaluation-2" …; else numbered as runs are, "evaluations/00000-NAME".

    Args:
        judged: what is judged.
        parent: of the numbered ones.
    """
    if judged.run is not None:
        numbers = (judged.run / (_OF_RUN if number == 1 else f"{_OF_RUN}-{number}") for number in range(1, 1 << 31))
        return next(folder for folder in numbers if not folder.exists())
    with contextlib.suppress(OSError):
        taken = [int(match[1]) for path in parent.glob("*-*") if (match := re.match(r"(\d{5,})-", path.name))]
        return parent / f"{max(taken, default=-1) + 1:05d}-{judged.name or 'images'}"
    return parent / f"00000-{judged.name or 'images'}"


def save_report(conducted: Conducted, folder: Path | None = None) -> list[Path]:
    """Write the report of an evaluation into a folder, whole or not at all, and return its files.

    Args:
        conducted: with pictures.
        folder: a report that is there is replaced; None: `next_folder`.

    Raises:
        OSError: it cannot be written.
    """
    from ganzoo.evaluation.report import write_report

    assert conducted.pictures is not None
    while True:
        target = folder or next_folder(conducted.judged)
        try:
            with atomic_folder(target, replace=folder is not None) as temporary:
                files = write_report(conducted.evaluation, temporary, conducted.pictures)
                names = [path.relative_to(temporary) for path in files]
        except FileExistsError:  # another process was first with that number
            if folder is not None:
                raise
            continue
        return [target / name for name in names]
