"""What the first of several processes tells the others: which run they train, on what data, and how it ended."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ganzoo.errors import DataError
from ganzoo.recipes import Recipe, parse_recipe
from ganzoo.training.processes import World
from ganzoo.training.request import data_request
from ganzoo.training.run import Facts, Run
from ganzoo.training.trainer import Trainer, TrainingResult

if TYPE_CHECKING:
    from ganzoo.data import Pack


def tell_run(world: World, run: Run | None) -> None:
    """Tell the others which run to train; None: there is nothing to do."""
    world.tell(
        None if run is None else {"path": str(run.path), "recipe": run.recipe.to_dict(), "facts": asdict(run.facts)}
    )


def tell_result(world: World, result: TrainingResult) -> TrainingResult:
    """Tell the others how the training ended, and return it."""
    fields = {
        **asdict(result),
        "run": str(result.run),
        "model": None if result.model is None else str(result.model),
        "pictures": {name: str(path) for name, path in result.pictures.items()},
    }
    world.tell(fields)
    return result


def follow(world: World, data: Any, device: torch.device) -> TrainingResult:
    """Train as one that is not the first, and return what the first tells in the end.

    Args:
        world: the processes.
        data: what `ganzoo.train` was given; the recipe's source where it was given none.
        device: of this process.

    Raises:
        GanzooError: as `ganzoo.train`.
    """
    told = world.tell()
    if told is not None:
        recipe = parse_recipe(told["recipe"], told["recipe"]["name"])
        repeatable(recipe, device)
        run = Run(Path(told["path"]), recipe, Facts(**told["facts"]))
        with pack_of_machine(world, None, data if data is not None else recipe.data.source, recipe) as pack:
            Trainer(run, pack, device, (), world).train()
    ended = world.tell()
    pictures = {name: Path(path) for name, path in ended.pop("pictures").items()}
    path, model = Path(ended.pop("run")), ended.pop("model")
    return TrainingResult(path, None if model is None else Path(model), pictures=pictures, **ended)


def pack_of_machine(world: World, pack: Pack | None, data: Any = None, recipe: Recipe | None = None) -> Pack:
    """Return the pack of this machine, which one process of each machine makes where it is not there yet.

    Args:
        world: the processes.
        pack: what the first process has opened.
        data, recipe: of the others, what to pack on a machine that the first process is not on.

    Raises:
        DataError: the data of a machine are others than the first one's.
    """
    from ganzoo.data import Pack, open_pack

    if pack is None and world.local_rank == 0:
        assert recipe is not None
        pack = open_pack(data, data_request(recipe))
    found = world.exchange(None if pack is None else (str(pack.path.absolute()), pack.manifest.content_sha256))
    if pack is None:
        pack = Pack(Path(found[world.rank - world.local_rank][0]))
    if pack.manifest.content_sha256 != found[0][1]:
        raise DataError(
            f"Process {world.rank} found other data ({pack.manifest.source}) than the first one.",
            "Give every machine the same images.",
        )
    return pack


def repeatable(recipe: Recipe, device: torch.device) -> None:
    """Let cuBLAS choose algorithms whose results repeat, where the recipe asks for it; before its first use."""
    if recipe.train.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
