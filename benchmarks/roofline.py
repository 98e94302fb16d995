"""Where the training of each recipe stands between what the device computes and what its memory moves.

    python benchmarks/roofline.py
    python benchmarks/roofline.py --only dcgan-tutorial64 dcgan-lsun --json roofline.json --chart roofline.png
    python benchmarks/roofline.py --device cuda

Each recipe is measured as `ganzoo bench train` does it, beside the roofs: the rate of large matrix products and
convolutions in each precision, and that of memory. A point's place from left to right is the operations of the plain
step for each byte that it reads and writes, by the rule of `ganzoo.benchmarking.work`: every operation reads its
tensors and writes its results once. Recipes of which a step takes long on a processor have smaller batches here; the
table says which. What is in the JSON file already is not measured again (--again does), and all of it is drawn.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from ganzoo.benchmarking.machine import this_machine
from ganzoo.benchmarking.measuring import benchmark_training
from ganzoo.recipes import list_recipes

# On a processor; all others have their own batches.
_BATCHES = {"dcgan-faces": 32, "dcgan-imagenet32": 32, "dcgan-lsun": 32, "dcgan64-modern": 16, "wgan-gp-cifar10": 16}
# There, one step of the smallest batch takes so long that they are measured only where they are named.
_LONG = ("r3gan-64", "r3gan-cifar10", "sngan-resnet-cifar10")
_COLOURS = {"dcgan": "#2f6fb0", "sngan": "#c5622c", "wgan": "#5a9e4b", "r3gan": "#8a5aa8"}


def measure(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured of one recipe."""
    batch = None if asked.own_batches or asked.device != "cpu" else _BATCHES.get(name)
    done = benchmark_training(name, batch_size=batch, device=asked.device, threads=asked.threads, seconds=asked.seconds)
    return asdict(done)


def table(rows: list[dict[str, Any]]) -> None:
    """Print the limits in Markdown: operations, bytes, what the peak would give, what is reached."""
    columns = ("recipe", "batch", "GFLOP an image", "MB an image", "FLOP/byte", "images/s at the peak", "images/s")
    print(f"\n| {' | '.join((*columns, 'TFLOP/s', 'share'))} |\n|{'---|' * (len(columns) + 2)}")
    for row in rows:
        (result,) = row["results"]
        flops, moved = row["flops_per_image"], row["bytes_per_image"]
        cells = (
            f"`{row['recipe']}`",
            f"{row['batch_size']}",
            f"{flops / 1e9:.3g}",
            f"{moved / 1e6:.3g}",
            f"{flops / moved:.0f}",
            f"{row['limit']:,.0f}",
            f"{result['images_per_second']:,.0f}",
            f"{result['flops_per_second'] / 1e12:.3f}",
            f"{result['share_of_peak']:.0%}",
        )
        print(f"| {' | '.join(cells)} |")


def chart(rows: list[dict[str, Any]], about: str, path: Path) -> None:
    """Draw the roofs, and a numbered point for each recipe."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel, legend = figure.subplots(1, 2, width_ratios=(2.4, 1))
    bandwidth = median(row["roofs"]["bytes_per_second"] for row in rows)
    left, right = 1.0, 2000.0
    for name, style in (("bf16", "-"), ("fp32", "--")):
        peak = median(row["roofs"]["flops_per_second"][name] for row in rows)
        ridge = peak / bandwidth
        panel.plot([left, ridge, right], [bandwidth * left, peak, peak], style, color="black", linewidth=1.3)
        panel.annotate(
            f"{name}: {peak / 1e9:,.0f} GFLOP/s",
            (right, peak),
            (-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    panel.annotate(
        f"memory: {bandwidth / 1e9:,.0f} GB/s", (2, 2 * bandwidth), (10, -4), textcoords="offset points", fontsize=9
    )
    lines: list[tuple[str, str, str]] = []
    points: list[tuple[float, float]] = []
    for number, row in enumerate(rows, start=1):
        (result,) = row["results"]
        x, y = row["flops_per_image"] / row["bytes_per_image"], result["flops_per_second"]
        colour = _COLOURS[row["recipe"].partition("-")[0].rstrip("0123456789")]
        panel.plot(x, y, "o", color=colour, markersize=7, alpha=0.85)
        crowded = any(abs(math.log(x / u)) < 0.25 and abs(math.log(y / v)) < 0.06 for u, v in points)
        offset = (0, -11) if crowded else (0, 10)
        panel.annotate(
            str(number), (x, y), offset, textcoords="offset points", ha="center", va="center", fontsize=9, color=colour
        )
        points.append((x, y))
        lines.append(
            (f"{number}  {row['recipe']}, batch {row['batch_size']}", f"{result['share_of_peak']:.0%}", colour)
        )
    panel.set(xscale="log", yscale="log", xlim=(left, right))
    panel.set_xlabel("operations of the plain step for each byte read or written (FLOP/byte)")
    panel.set_ylabel("operations a second (FLOP/s)")
    panel.grid(alpha=0.3, which="both")
    panel.set_title("Training steps under the device's measured roofs", fontsize=11)
    legend.axis("off")
    legend.set_title("recipe, share of the peak in its precision", fontsize=10, loc="left")
    for number, (text, share, colour) in enumerate(lines):
        height = 1 - (number + 0.7) / (max(len(lines), 12) + 0.5)
        legend.text(0.0, height, text, color=colour, fontsize=9, transform=legend.transAxes)
        legend.text(1.0, height, share, color=colour, fontsize=9, ha="right", transform=legend.transAxes)
    figure.supxlabel(about, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure what is asked for, print a table, draw."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=list_recipes(), metavar="RECIPE", help="if left out, all that are fast enough"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each recipe; five steps at least")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of the processor; torch's own choice if left out")
    parser.add_argument("--own-batches", action="store_true", help="on a processor, too, and all recipes")
    parser.add_argument("--again", action="store_true", help="measure what is in the JSON file already, too")
    parser.add_argument("--json", type=Path, default=Path("roofline.json"))
    parser.add_argument("--chart", type=Path, default=Path("roofline.png"))
    asked = parser.parse_args()
    machine = this_machine(asked.device)
    known = json.loads(asked.json.read_text(encoding="utf-8"))["recipes"] if asked.json.exists() else {}
    patient = asked.own_batches or asked.device != "cpu"
    for name in asked.only or [one for one in list_recipes() if patient or one not in _LONG]:
        if asked.again or name not in known:
            known[name] = measure(name, asked)
            print(name, f"{known[name]['results'][0]['share_of_peak']:.0%}", flush=True)
            told = {"machine": asdict(machine), "recipes": known}
            asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    rows = [known[name] for name in sorted(known)]
    threads = rows[0]["results"][0]["threads"]
    table(rows)
    chart(rows, f"{machine}; {threads} thread{'s' if threads > 1 else ''}", asked.chart)


if __name__ == "__main__":
    main()
