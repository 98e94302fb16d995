"""What several GPUs and nodes would do, worked out on paper. Nothing here is measured.

    python benchmarks/scaling_model.py
    python benchmarks/scaling_model.py --picture scaling_model.png --json scaling_model.json
    python benchmarks/scaling_model.py --peak 989e12 --share 0.35 --inter 25e9 --gpus 1 8 16

A step of N processes, each with a GPU and a batch of its own (weak scaling), takes

    max(compute, memory, launch) + optimiser + exchange

    compute    = batch · operations an image / (peak · share of it that the convolutions reach)
    memory     = batch · bytes an image / memory bandwidth
    launch     = kernels · time to launch one, without a CUDA graph; with one it is a single launch
    optimiser  = bytes that Adam and the average of the weights read and write / memory bandwidth
    exchange   = for each network one all-reduce of its gradients in fp32, which begins when the backward pass is done:
                 nothing overlaps it, as in `ganzoo.training`

An all-reduce of B bytes over the n GPUs of one node by a ring sends 2 (n - 1) / n · B over every link in 2 (n - 1)
messages. Over m nodes it is taken in three parts: the GPUs of a node add up, each a share of B / n; those with the same
share, one a node, reduce it over the network; the shares are gathered again in the node. Efficiency is the time of the
step on one GPU over that on N.

Left out: stragglers, a shared or slower network, the reading of data (`benchmarks/streaming.py`), checkpoints, the
averaging of batch-norm statistics (once a checkpoint) and synchronised batch norm.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from reporting import Row, print_table, write_json


@dataclass(frozen=True)
class Machine:
    """GPUs and their links; rates in units a second, both directions of a link at once.

    The peak and the memory bandwidth are those that large matrix products and copies reach on an H200; the links' are
    what their makers name: NVLink 4, and one port of InfiniBand NDR, 400 Gbit/s, for every GPU.

    Args:
        peak: operations a second in bf16.
        share: of the peak, that the convolutions of a step reach.
        bandwidth: of the GPU's memory, bytes a second.
        intra: bytes a second between GPUs of a node, each direction.
        inter: bytes a second between nodes for each GPU, each direction.
        intra_latency, inter_latency: seconds a message.
        gpus_per_node: at most.
        launch: seconds to launch a kernel.
        graph: whether the whole step is one CUDA graph.
    """

    peak: float = 790e12
    share: float = 0.45
    bandwidth: float = 4.3e12
    intra: float = 450e9
    inter: float = 50e9
    intra_latency: float = 3e-6
    inter_latency: float = 8e-6
    gpus_per_node: int = 8
    launch: float = 7.5e-6
    graph: bool = True


@dataclass(frozen=True)
class Net:
    """A recipe's step, as counted (`ganzoo show RECIPE`, `ganzoo bench train RECIPE`).

    Args:
        name: of the recipe.
        operations: for each real image; a multiplication and an addition are two.
        bytes_per_image: activations read and written in bf16.
        parameters: of the networks whose gradients are exchanged one after the other.
        optimiser_bytes: that the update of all weights reads and writes.
        kernels: of a step.
    """

    name: str = "dcgan-lsun"
    operations: float = 15.3e9
    bytes_per_image: float = 25.5e6
    parameters: tuple[float, ...] = (17.23e6, 18.87e6)
    optimiser_bytes: float = 1.31e9
    kernels: int = 350


def ring_seconds(size: float, members: int, bandwidth: float, latency: float) -> float:
    """Return how long an all-reduce by a ring takes.

    Args:
        size: bytes that every member has.
        members: of the ring.
        bandwidth: bytes a second of a link, each direction.
        latency: seconds a message.
    """
    return 2 * (members - 1) / members * size / bandwidth + 2 * (members - 1) * latency


def exchange_seconds(size: float, gpus: int, machine: Machine) -> float:
    """Return how long an all-reduce over GPUs of one or several nodes takes.

    Args:
        size: bytes that every GPU has.
        gpus: in all; more than a node's are whole nodes.
        machine: their links.

    Raises:
        ValueError: nodes that are not full.
    """
    in_node = min(gpus, machine.gpus_per_node)
    if gpus % in_node:
        raise ValueError(f"{gpus} GPUs are not whole nodes of {in_node}")
    within = ring_seconds(size, in_node, machine.intra, machine.intra_latency)
    return within + ring_seconds(size / in_node, gpus // in_node, machine.inter, machine.inter_latency)


def step_seconds(net: Net, machine: Machine, batch: int, gpus: int) -> dict[str, float]:
    """Return the parts of a step and their sum, "step", in seconds.

    Args:
        net: what is trained.
        machine: on what.
        batch: real images for each GPU.
        gpus: in all.
    """
    parts = {
        "compute": batch * net.operations / (machine.peak * machine.share),
        "memory": batch * net.bytes_per_image / machine.bandwidth,
        "launch": machine.launch * (1 if machine.graph else net.kernels),
        "optimiser": net.optimiser_bytes / machine.bandwidth,
        "exchange": sum(exchange_seconds(4 * count, gpus, machine) for count in net.parameters),
    }
    longest = max(parts["compute"], parts["memory"], parts["launch"])
    return {**parts, "step": longest + parts["optimiser"] + parts["exchange"]}


def efficiency(net: Net, machine: Machine, batch: int, gpus: int) -> float:
    """Return the images a second of each of N GPUs over those of one alone, in (0, 1]; arguments as `step_seconds`."""
    return step_seconds(net, machine, batch, 1)["step"] / step_seconds(net, machine, batch, gpus)["step"]


def main() -> None:
    """Work out what the command line asks for; print tables, write JSON and a picture where asked to."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512, 1024], help="images a GPU")
    for one in fields(Machine):
        if one.name == "graph":
            parser.add_argument("--no-graph", dest="graph", action="store_false", help="launch every kernel by itself")
        else:
            kind = int if one.name == "gpus_per_node" else float
            parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default)
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--picture", type=Path, help="a PNG for the chart")
    arguments = parser.parse_args()
    machine = replace(Machine(), **{one.name: getattr(arguments, one.name) for one in fields(Machine)})
    net = Net()
    rows = [_row(net, machine, batch, gpus) for batch in arguments.batches for gpus in arguments.gpus]
    print_table(f"{net.name}: calculated, not measured", rows)
    write_json(arguments.json, {"calculated": True, "machine_assumed": vars(machine), "net": vars(net), "rows": rows})
    if arguments.picture is not None:
        _draw(rows, net, machine, arguments.picture)


def _row(net: Net, machine: Machine, batch: int, gpus: int) -> Row:
    parts = step_seconds(net, machine, batch, gpus)
    return {
        "batch a GPU": batch,
        "GPUs": gpus,
        **{f"{name}, ms": seconds * 1e3 for name, seconds in parts.items()},
        "images/s": batch * gpus / parts["step"],
        "efficiency": efficiency(net, machine, batch, gpus),
    }


def _draw(rows: Sequence[Row], net: Net, machine: Machine, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for batch in dict.fromkeys(row["batch a GPU"] for row in rows):
        of = [row for row in rows if row["batch a GPU"] == batch]
        gpus = [row["GPUs"] for row in of]
        left.plot(gpus, [row["efficiency"] for row in of], "o-", markersize=4, label=f"{batch} images a GPU")
        right.plot(gpus, [row["images/s"] for row in of], "o-", markersize=4)
    for axes, label in ((left, "efficiency"), (right, "images a second")):
        axes.set_xscale("log", base=2)
        ticks = list(dict.fromkeys(row["GPUs"] for row in rows))
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel(f"GPUs, {machine.gpus_per_node} a node")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    left.set_ylim(0, 1.05)
    right.set_yscale("log")
    left.legend(fontsize=8)
    figure.suptitle(f"{net.name} on several GPUs and nodes: calculated, not measured")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
