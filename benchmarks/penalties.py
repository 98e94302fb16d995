"""What gradient penalties cost: steps with R1 and R2, by double backward and at first-order cost, beside plain steps.

    python benchmarks/penalties.py
    python benchmarks/penalties.py --only mnist --json penalties.json --chart penalties.png
    python benchmarks/penalties.py --device cuda

    plain             no penalty, else the same; the fast arithmetic, as `ganzoo train` has it by itself
    first order       R1 and R2 by `ganzoo.training.first_order`, as `ganzoo train` has them by itself
    double backward   R1 and R2 by automatic differentiation of the gradient, all else fast
    eager plain       no penalty, engine = "eager": torch's own operations
    eager             R1 and R2 by double backward, engine = "eager"

Whole steps are timed, an update of the discriminator and one of the generator, by the trainer's own step and feeder
from a pack of random images in memory. All contenders of a net live in one process and take turns, step by step, so
that what else the machine does strikes all alike; a time is the median of the rounds (p25 and p75 beside it), a ratio
the median of the rounds' ratios to the plain step of the same round. What is in the JSON file already is drawn again,
and measured again only where `--only` asks for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from reporting import print_table

from ganzoo.benchmarking.machine import this_machine
from ganzoo.benchmarking.measuring import random_pack
from ganzoo.benchmarking.training import Training
from ganzoo.building import load_recipe
from ganzoo.recipes import Recipe
from ganzoo.training.first_order import FirstOrder

GOAL, AIM = 1.6, 1.4  # of a step with R1 and R2 at first-order cost, in plain steps
_SWITCHED_OFF = "it is switched off, to be compared with"


@dataclass(frozen=True)
class Net:
    """Networks under test.

    Args:
        title: for people.
        recipe: with R1 and R2.
        batch_size: real images of a step.
        overrides: what is changed of the recipe.
    """

    title: str
    recipe: str
    batch_size: int
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contender:
    """A way to do a step.

    Args:
        engine: of the recipe.
        penalised: whether with R1 and R2.
        first_order: whether they may be taken at first-order cost.
    """

    engine: str
    penalised: bool
    first_order: bool = True


_TUTORIAL = (
    "generator.widths=[512, 256, 128, 64]",
    "generator.kernel_size=4",
    "discriminator.widths=[64, 128, 256, 512]",
    "discriminator.kernel_size=4",
)
NETS = {
    "mnist": Net("MNIST 28×28", "dcgan-mnist-modern", 32),
    "cifar10": Net("CIFAR 32×32", "dcgan-cifar10-modern", 64),
    "tutorial64": Net("tutorial's 64×64", "dcgan64-modern", 32, _TUTORIAL),
    "paper64": Net("paper's 64×64", "dcgan64-modern", 16),
    "paper64-32": Net("paper's 64×64, batch 32", "dcgan64-modern", 32),
}
CONTENDERS = {
    "plain": Contender("auto", penalised=False),
    "first order": Contender("auto", penalised=True),
    "double backward": Contender("auto", penalised=True, first_order=False),
    "eager plain": Contender("eager", penalised=False),
    "eager": Contender("eager", penalised=True),
}


def training(net: Net, contender: Contender, arguments: argparse.Namespace, folder: Path) -> Training:
    """Return a training of a net, warmed up."""
    overrides = [*net.overrides, f"train.engine={contender.engine}"]
    overrides.append(f"train.batch_size={arguments.batch or net.batch_size}")
    recipe: Recipe = load_recipe(net.recipe, overrides)
    if not contender.penalised:
        recipe = load_recipe(recipe.model_copy(update={"penalty": ()}))
    pack = random_pack(recipe, folder)
    given = (recipe.to_dict(), arguments.device, arguments.precision, arguments.threads, str(pack.path))
    if contender.first_order:
        made = Training(*given)
    else:
        with mock.patch("ganzoo.training.step.choose_first_order", return_value=_SWITCHED_OFF):
            made = Training(*given)
    if isinstance(made.step.first_order, FirstOrder) is not (contender.engine == "auto" and contender.first_order):
        raise SystemExit(f"{net.title}: {made.step.first_order}")
    return made


def measure(net: Net, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return one net's times."""
    with tempfile.TemporaryDirectory() as folder:
        trainings = {name: training(net, one, arguments, Path(folder)) for name, one in CONTENDERS.items()}
        taken: dict[str, list[float]] = {name: [] for name in trainings}
        begun, rounds = time.perf_counter(), 0
        while rounds < arguments.rounds or time.perf_counter() - begun < arguments.seconds:
            for name, one in trainings.items():
                taken[name].append(one.train(arguments.steps)[0] / arguments.steps)
            rounds += 1
        plain = trainings["plain"]
        batch = plain.recipe.train.batch_size
        rows = {name: _times(times, taken["plain"], batch) for name, times in taken.items()}
        return {
            "title": net.title,
            "recipe": net.recipe,
            "overrides": list(net.overrides),
            "batch_size": batch,
            "precision": plain.precision,
            "engine": plain.engine.name,
            "rounds": rounds,
            "steps_a_round": arguments.steps,
            "contenders": rows,
        }


def _times(times: Sequence[float], plain: Sequence[float], batch: int) -> dict[str, float]:
    low, middle, high = (float(value) for value in np.percentile(times, [25, 50, 75]))
    ratios = [one / other for one, other in zip(times, plain, strict=True)]
    low_ratio, high_ratio = (float(value) for value in np.percentile(ratios, [25, 75]))
    return {
        "p25_ms": 1e3 * low,
        "median_ms": 1e3 * middle,
        "p75_ms": 1e3 * high,
        "images_per_second": batch / middle,
        "in_plain_steps": statistics.median(ratios),
        "in_plain_steps_p25": low_ratio,
        "in_plain_steps_p75": high_ratio,
    }


def table(found: dict[str, Any]) -> None:
    """Print one net's times."""
    rows = [
        {
            "step": name,
            "ms": row["median_ms"],
            "p25": row["p25_ms"],
            "p75": row["p75_ms"],
            "images/s": row["images_per_second"],
            "plain steps": row["in_plain_steps"],
        }
        for name, row in found["contenders"].items()
    ]
    about = f"batch {found['batch_size']}, {found['precision']}, {found['rounds']} rounds"
    print_table(f"{found['title']}: {about}", rows)


def chart(nets: Sequence[dict[str, Any]], about: str, path: Path) -> None:
    """Draw each contender's cost in plain steps, with the quartiles of the rounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 1.6 * len(nets), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [name for name in CONTENDERS if name != "plain"]
    width = 0.8 / len(shown)
    colours = {"first order": "#1b7837", "double backward": "#e08214", "eager plain": "#bbbbbb", "eager": "#7f3b08"}
    for place, name in enumerate(shown):
        rows = [net["contenders"][name] for net in nets]
        at = [number - 0.4 + (place + 0.5) * width for number in range(len(nets))]
        heights = [row["in_plain_steps"] for row in rows]
        below = [row["in_plain_steps"] - row["in_plain_steps_p25"] for row in rows]
        above = [row["in_plain_steps_p75"] - row["in_plain_steps"] for row in rows]
        label = name if name in ("first order", "eager plain") else f"{name} (R1 and R2)"
        label = "first order (R1 and R2)" if name == "first order" else label
        axes.bar(at, heights, 0.92 * width, color=colours[name], label=label)
        axes.errorbar(at, heights, yerr=[below, above], fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
        for x, height, up in zip(at, heights, above, strict=True):
            axes.annotate(
                f"{height:.2f}", (x, height + up), (0, 2), textcoords="offset points", ha="center", fontsize=7
            )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.axhline(GOAL, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("goal", (-0.49, GOAL), (0, 2), textcoords="offset points", fontsize=8)
    titles = [f"{net['title'].partition(',')[0]}\nbatch {net['batch_size']}" for net in nets]
    axes.set_xticks(range(len(nets)), titles, fontsize=9)
    axes.set_xlim(-0.5, len(nets) - 0.5)
    axes.margins(y=0.18)
    axes.set_ylabel("time of a step in plain steps")
    axes.set_title("What R1 and R2 cost", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=2, fontsize=8, loc="upper center", frameon=False)
    figure.supxlabel(about, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure what the command line asks for, print tables, write JSON, draw."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NETS, metavar="NET", help=f"of {', '.join(NETS)}")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], help="the recipe's if left out")
    parser.add_argument("--threads", type=int, help="of the processor; ganzoo's own choice if left out")
    parser.add_argument("--batch", type=int, help="another batch size for all nets")
    parser.add_argument("--steps", type=int, help="in a row; 1 on a processor, 50 on a GPU if left out")
    parser.add_argument("--rounds", type=int, default=7, help="at least")
    parser.add_argument("--seconds", type=float, default=10.0, help="at least, for each net")
    parser.add_argument("--json", type=Path, default=Path("penalties.json"))
    parser.add_argument("--chart", type=Path, default=Path("penalties.png"))
    arguments = parser.parse_args()
    if arguments.steps is None:
        arguments.steps = 1 if arguments.device == "cpu" else 50
    machine = this_machine(arguments.device)
    known = json.loads(arguments.json.read_text(encoding="utf-8"))["nets"] if arguments.json.exists() else {}
    for name in arguments.only or NETS:
        known[name] = measure(NETS[name], arguments)
        table(known[name])
        told = {"machine": asdict(machine), "nets": {key: known[key] for key in NETS if key in known}}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    nets = [known[name] for name in NETS if name in known]
    precisions = sorted({net["precision"] for net in nets})
    chart(nets, f"{machine}; {', '.join(precisions)}", arguments.chart)
    print(f"\n{arguments.json}\n{arguments.chart}")


if __name__ == "__main__":
    main()
