"""Run folders: what a training writes, and what of it must agree for the training to go on.

runs/00003-dcgan-lsun/
    recipe.toml         resolved
    run.json            precision, arithmetic, data, versions, how it was started
    log.txt  metrics.jsonl  tensorboard/
    samples/            step-00000500.png …
    evaluations/        step-00000500.json …, where the recipe has [evaluate]
    checkpoints/        see `ganzoo.training.checkpoints`
    model/              at the end; see `ganzoo.models`
    evolution.gif  curves.png
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from ganzoo.devices import Precision
from ganzoo.errors import RecipeError, RunError
from ganzoo.files import write_atomically
from ganzoo.models import CONFIG
from ganzoo.recipes import Recipe, parse_recipe, read_table
from ganzoo.torchrun import Place

SCHEMA_VERSION = 1
RECIPE, FACTS, LOCK, LAUNCH = "recipe.toml", "run.json", ".lock", ".launch"

FROM_PYTHON = "given from Python"
"""What a recipe tells as its source where the data were an object of Python's."""

MAY_CHANGE = frozenset(
    {"train.kimg", "train.log_every", "train.sample_every", "train.checkpoint_every", "train.keep", "data.source"}
)
"""Recipe entries that may differ when a run goes on; the data's content is compared instead of its source's name."""

MAY_CHANGE_WHOLE = ("evaluate",)
"""Tables of which every entry may: nothing that is measured gets into the training."""


@dataclass(frozen=True)
class Facts:
    """What `run.json` holds beside the recipe.

    Args:
        precision: "fp32" or "bf16", as it was resolved at the start.
        data: "description", "content_sha256", "images" of the pack, and "notice" (its licence or origin) where known.
        init: the model whose weights it began with, "model" (its folder) and "sha256" (of its weights); None: random.
        versions: of ganzoo and torch at the start.
        processes: how many trained together at the start.
        fast: whether the fast forms of the arithmetic are used; runs that were begun before there were any have the
            plain ones.
    """

    precision: Precision
    data: Mapping[str, Any]
    init: Mapping[str, str] | None
    versions: Mapping[str, str]
    processes: int = 1
    fast: bool = False


@dataclass(frozen=True)
class Run:
    """An opened run folder."""

    path: Path
    recipe: Recipe
    facts: Facts

    @property
    def samples(self) -> Path:
        """Folder of the sample grids."""
        return self.path / "samples"

    @property
    def evaluations(self) -> Path:
        """Folder of what was measured on the way; not there where nothing was."""
        return self.path / "evaluations"

    @property
    def model(self) -> Path:
        """The model folder, there when training is over."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The file of metrics."""
        return self.path / "metrics.jsonl"

    @property
    def finished_steps(self) -> int:
        """For how many steps the model that lies in the run was trained; 0 where there is none."""
        try:
            return int(json.loads((self.model / CONFIG).read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0


def is_run(path: Path) -> bool:
    """Return whether a folder is a run's."""
    return (path / FACTS).is_file()


def reserve_run(runs: Path, name: str) -> Path:
    """Make and return the next numbered folder under `runs`; two processes at once get two.

    Raises:
        RunError: it cannot be made.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        number = _next_number(runs)
        while True:
            path = runs / f"{number:05d}-{name}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise RunError(
            f"No run folder can be made under {runs}: {error.strerror}.", "Choose another with --out."
        ) from error


def mark_launch(path: Path, here: Place) -> None:
    """Note in a numbered run folder which launch of torchrun began it, so that its restarts find it.

    Raises:
        RunError: the folder cannot be written.
    """
    if here.launch is not None:
        with writing(path):
            (path / LAUNCH).write_text(here.launch, encoding="utf-8")


def begun_before(runs: Path, here: Place) -> Path | None:
    """Return the numbered run folder that the same launch of torchrun began before its processes were started again."""
    if here.launch is None or here.restarts == 0:
        return None
    for path in sorted(runs.glob("*-*"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            if (path / LAUNCH).read_text(encoding="utf-8") == here.launch:
                return path
    return None


def next_run(runs: Path, name: str) -> Path:
    """Return the folder that `reserve_run` would make now."""
    return runs / f"{_next_number(runs):05d}-{name}"


def _next_number(runs: Path) -> int:
    taken = [int(match[1]) for path in runs.glob("*-*") if (match := re.match(r"(\d{5,})-", path.name))]
    return max(taken, default=-1) + 1


def check_new(path: Path) -> None:
    """Refuse a folder in which no new run can be made.

    What a start that was killed has left, a recipe beside a lock, is in nobody's way.

    Raises:
        RunError: it is a file, holds something else, or holds a run.
    """
    remedy = "Choose another folder with --out."
    try:
        if not path.exists():
            return
        others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise RunError(f"{path} cannot be a run folder: {error.strerror}.", remedy) from error
    if is_run(path):
        raise RunError(f"{path} is a run that another process has just begun.", remedy)
    if others and not (others == [RECIPE] and (path / LOCK).exists()):
        raise RunError(f"{path} is no run and is not empty ({others[0]} is in it).", remedy)


def create_run(path: Path, recipe: Recipe, facts: Facts) -> Run:
    """Write a new run's recipe and facts into its folder, made if need be.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    check_new(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / RECIPE, recipe.to_toml().encode())
        fields = {"schema_version": SCHEMA_VERSION, **asdict(facts)}
        write_atomically(path / FACTS, (json.dumps(fields, indent=2) + "\n").encode())
    return Run(path, recipe, facts)


def update_recipe(run: Run, recipe: Recipe) -> Run:
    """Write a run's recipe anew, as it goes on with other intervals or for longer.

    Raises:
        RunError: the folder cannot be written.
    """
    if recipe != run.recipe:
        with writing(run.path):
            write_atomically(run.path / RECIPE, recipe.to_toml().encode())
    return Run(run.path, recipe, run.facts)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Answer what the operating system refuses within it, a full disk say, by one line.

    Args:
        path: the run folder.

    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"{'Make room' if full else 'Make it writable'}, then go on with: ganzoo train --resume {quoted(path)}"
        raise RunError(
            f"The run folder {path} cannot be written: {error.strerror or error}.",
            remedy if is_run(path) else "Choose another folder with --out.",
        ) from error


def go_on(run: Run) -> str:
    """Return what to type for a run to go on."""
    if run.recipe.data.source == FROM_PYTHON:
        return f"ganzoo.train(resume={str(run.path)!r}, data=...)"
    return f"ganzoo train --resume {quoted(run.path)}"


def quoted(path: Path) -> str:
    """Return a path as it can be typed into a command."""
    text = str(path)
    return f'"{text}"' if any(sign.isspace() for sign in text) else text


def open_run(path: str | os.PathLike[str]) -> Run:
    """Return the run of a folder.

    Raises:
        RunError: it is no run folder, or was written by a newer ganzoo.
    """
    folder = Path(path)
    if not is_run(folder):
        raise RunError(f"{folder} is no run folder: it has no {FACTS}.", "Name a folder like runs/00003-dcgan-lsun.")
    try:
        fields = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if fields.pop("schema_version") > SCHEMA_VERSION:
            raise RunError(f"{folder} was written by a newer ganzoo.", "Update ganzoo.")
        facts = Facts(**fields)
        numbers = type(facts.processes) is int and type(facts.fast) is bool
        whole = numbers and isinstance(facts.data["content_sha256"], str)
        if facts.precision not in get_args(Precision) or not whole:
            raise ValueError(f"{FACTS} is not what it should be")
        return Run(folder, parse_recipe(*read_table(folder / RECIPE)), facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"The run {folder} cannot be read: {type(error).__name__}: {error}.") from error
    except RecipeError as error:
        raise RunError(f"The run {folder} has a recipe that cannot be used: {error.message}", error.remedy) from error


def check_same(run: Run, recipe: Recipe) -> None:
    """Refuse to go on with another recipe than the run began with.

    Raises:
        RunError: with every difference.
    """
    old, new = _flat(run.recipe.to_dict()), _flat(recipe.to_dict())
    changed = [
        f"{key}: {json.dumps(old.get(key))} → {json.dumps(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in MAY_CHANGE and key.partition(".")[0] not in MAY_CHANGE_WHOLE
    ]
    if changed:
        raise RunError(
            f"The run {run.path} was begun with another recipe ({'; '.join(changed)}).",
            "Go on with the same one, or begin a new run (--init takes over a model's weights).",
        )


def check_same_data(run: Run, content_sha256: str, description: str) -> None:
    """Refuse to go on with other data than the run began with.

    Raises:
        RunError: the content differs.
    """
    if run.facts.data.get("content_sha256") != content_sha256:
        raise RunError(
            f"The run {run.path} was begun with other data ({run.facts.data.get('description')}, "
            f"{run.facts.data.get('images')} images) than {description}.",
            "Give the same images with --data, or begin a new run.",
        )


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(table, dict):
        parts = [_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in table.items()]
        return {key: value for part in parts for key, value in part.items()}
    if isinstance(table, list) and table and isinstance(table[0], dict):
        return _flat({str(index): value for index, value in enumerate(table)}, prefix)
    return {prefix: table}
