"""How fast ganzoo trains DCGANs beside its peers, all in one run.

    python benchmarks/training.py
    python benchmarks/training.py --only mnist28
    python benchmarks/training.py --only paper64 --rounds 3
    python benchmarks/training.py --device cuda --seconds 3

Peers: the loop of PyTorch's DCGAN tutorial, torchgan's trainer (where it is installed) and torch-mimicry's loop
(`peers/`), each as its users run it: float32, step by step, torch's DataLoader with two workers. ganzoo: its recipe, by
the trainer's step and feeder, from a pack, with the precision and engine that it chooses by itself. All train the same
networks (the numbers of parameters are compared) with the same batches, one update of D and one of G for each batch of
real images. ganzoo's G goes back through the fakes of D's update, as the tutorial's does; the other two draw new ones,
as they do. ganzoo keeps its running average of G, where the recipe has one; peers have none.

Every contender has a process of its own. They take turns, round by round, each round in another order; a rate is the
median of the rounds, and the ratio to the fastest peer the median of the rounds' ratios. What is measured is computing
and feeding: the peers' images are in memory already, so that decoding files, which their users pay for as well, is left
out, and so are checkpoints and sample images. The first steps, which allocate, and the first one of every round, after
the others' turns, are not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers.worker import PEERS

from ganzoo.benchmarking.machine import Machine, this_machine
from ganzoo.benchmarking.measuring import Contender, random_pack
from ganzoo.benchmarking.process import MeasuringProcess
from ganzoo.building import load_recipe
from ganzoo.recipes import Recipe
from ganzoo.summary import summarize

# One update of each network for every batch of real images, G's through D's fakes: what the tutorial's loop does.
_ORDER = ("train.update=sequential", "train.reuse_fakes=true")
_REMEDY = "Too little memory ends processes so: choose a net by --only."


@dataclass(frozen=True)
class Net:
    """Networks under test.

    Args:
        title: for people.
        recipe: whose networks.
        batch_size: real images of an update.
        goal, aim: the ratio to the fastest peer that is promised, and hoped for; None where nothing was.
    """

    title: str
    recipe: str
    batch_size: int
    goal: float | None = None
    aim: float | None = None


NETS = {
    "tutorial64": Net("tutorial's 64×64, batch 128", "dcgan-tutorial64", 128, 2.5, 3.0),
    "tutorial64-b64": Net("tutorial's 64×64, batch 64", "dcgan-tutorial64", 64, 2.5, 3.0),
    "paper64": Net("paper's 64×64, batch 32", "dcgan-lsun", 32, 1.7, 2.0),
    "mnist28": Net("MNIST 28×28, batch 32", "dcgan-mnist", 32, 2.0),
    "mnist28-b128": Net("MNIST 28×28, batch 128", "dcgan-mnist", 128, 2.0),
    "cifar32": Net("CIFAR 32×32, batch 64", "dcgan-cifar10", 64, 2.0),
    "cifar32-b128": Net("CIFAR 32×32, batch 128", "dcgan-cifar10", 128, 2.0),
}

TITLES = {"tutorial": "PyTorch's\ntutorial", "torchgan": "torchgan", "mimicry": "torch-\nmimicry", "ganzoo": "ganzoo"}


def measure(net: Net, asked: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured of one net: contenders with their rates, and ganzoo's ratio to the fastest peer."""
    recipe = load_recipe(net.recipe, [*_ORDER, f"train.batch_size={net.batch_size}"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ganzoo-bench-")))
        contenders = _start(stack, folder, recipe, asked)
        steps = {name: one.steps_in(asked.seconds) for name, one in contenders.items()}
        names = list(contenders)
        for turn in range(asked.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                contenders[name].settle()
                contenders[name].train(steps[name])
    _check_same(recipe, contenders)
    rows = [
        {
            "contender": name,
            "images_per_second": statistics.median(one.rates),
            "slowest": min(one.rates),
            "fastest": max(one.rates),
            "rounds": one.rates,
            "steps": steps[name] * asked.rounds,
            **{key: one.told.get(key) for key in ("threads", "precision", "arithmetic", "graph", "version")},
        }
        for name, one in contenders.items()
    ]
    fastest = max(rows[:-1], key=lambda row: row["images_per_second"])
    ratios = [own / peer for own, peer in zip(rows[-1]["rounds"], fastest["rounds"], strict=True)]
    ratio = {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    return {**asdict(net), "rows": rows, "fastest_peer": fastest["contender"], "ratio": ratio}


def _start(stack: ExitStack, folder: Path, recipe: Recipe, asked: argparse.Namespace) -> dict[str, Contender]:
    """Return the peers and, last, ganzoo, each in a process that has taken its first steps."""
    table = recipe.to_dict()
    common = {"device": asked.device, "threads": asked.threads}
    peers = [
        name
        for name, (_, _, package) in PEERS.items()
        if package is None or importlib.util.find_spec(package) is not None
    ]
    modules = {**dict.fromkeys(peers, "peers.worker"), "ganzoo": "ganzoo.benchmarking.training"}
    processes = {  # all load torch at once
        name: stack.enter_context(MeasuringProcess(module, name, folder / f"{name}.log", _REMEDY))
        for name, module in modules.items()
    }
    pack = stack.enter_context(random_pack(recipe, folder / "packs"))
    own = {"recipe": table, "pack": str(pack.path), "precision": asked.precision, **common}
    return {
        name: Contender(
            process, own if name == "ganzoo" else {"peer": name, "recipe": table, "folder": str(folder), **common}
        )
        for name, process in processes.items()
    }


def _check_same(recipe: Recipe, contenders: dict[str, Contender]) -> None:
    """Assert that all train networks of the same size, with batches of the same size."""
    summary = summarize(recipe)
    wanted = {"generator": summary.generator.parameters, "discriminator": summary.discriminator.parameters}
    for name, contender in contenders.items():
        assert contender.told.get("parameters", wanted) == wanted, (name, contender.told, wanted)
        assert contender.told["images_per_step"] == recipe.train.batch_size, (name, contender.told)


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print a table in Markdown: a row for each net."""
    peers = list(dict.fromkeys(row["contender"] for one in results.values() for row in one["rows"]))
    print(f"\n| net | {' | '.join(peers)} | to the fastest peer | goal |\n|---|{'---|' * (len(peers) + 2)}")
    for one in results.values():
        rates = {row["contender"]: row for row in one["rows"]}
        cells = [
            f"{rates[name]['images_per_second']:,.0f} ({rates[name]['slowest']:,.0f}–{rates[name]['fastest']:,.0f})"
            if name in rates
            else "not installed"
            for name in peers
        ]
        ratio = one["ratio"]
        told = f"**{ratio['median']:.2f}×** ({ratio['lowest']:.2f}–{ratio['highest']:.2f})"
        print(f"| {one['title']} | {' | '.join(cells)} | {told} | {one['goal']}× |")


def chart(results: dict[str, dict[str, Any]], machine: Machine, path: Path) -> None:
    """Draw images a second, a panel for each net."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.7 * max(len(results), 2), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for panel, one in zip(panels, results.values(), strict=True):
        rows = one["rows"]
        rates = [row["images_per_second"] for row in rows]
        spread = [
            [rate - row["slowest"] for rate, row in zip(rates, rows, strict=True)],
            [row["fastest"] - rate for rate, row in zip(rates, rows, strict=True)],
        ]
        colours = ["#b8bec8"] * (len(rows) - 1) + ["#2f6fb0"]
        bars = panel.bar([TITLES[row["contender"]] for row in rows], rates, color=colours, yerr=spread, capsize=3)
        for text in panel.bar_label(bars, labels=[f"{rate:,.0f}" for rate in rates], label_type="center", fontsize=8):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5})
        panel.set_title(f"{one['title']}\n{one['ratio']['median']:.2f}× the fastest peer", fontsize=9)
        panel.tick_params(axis="x", labelsize=8)
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].set_ylabel("real images trained on, per second", fontsize=9)
    threads = next(iter(results.values()))["rows"][-1]["threads"]
    figure.suptitle("Training DCGANs: median, slowest and fastest round", fontsize=11)
    figure.supxlabel(f"{machine}; {threads} thread{'s' if threads > 1 else ''}", fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure the nets, print a table, write JSON and a chart."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender in each round; a step at least")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of the processor; torch's own choice if left out")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="ganzoo's")
    parser.add_argument("--json", type=Path, default=Path("training.json"))
    parser.add_argument("--chart", type=Path, default=Path("training.png"))
    asked = parser.parse_args()
    machine = this_machine(asked.device)
    print(machine, flush=True)
    results = {}
    for name in asked.only:
        results[name] = measure(NETS[name], asked)
        for row in results[name]["rows"]:
            rate, slowest, fastest = (row[key] for key in ("images_per_second", "slowest", "fastest"))
            print(f"{name:<15}{row['contender']:<10}{rate:>9.1f} images/s ({slowest:.1f} to {fastest:.1f})", flush=True)
    show(results)
    told = {"machine": asdict(machine), "rounds": asked.rounds, "seconds": asked.seconds, "nets": results}
    asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    chart(results, machine, asked.chart)


if __name__ == "__main__":
    main()
