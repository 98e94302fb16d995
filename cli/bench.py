"""`ganzoo bench`: how fast a model draws on this machine, in each runtime, and how fast a recipe trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from . import output
from .train import Device

if TYPE_CHECKING:
    from ganzoo.benchmarking.measuring import EngineResult, TrainingBenchmark
    from ganzoo.export.benchmark.measuring import SamplingBenchmark

_LARGEST_BATCH = 1 << 16


@click.group("bench")
def group() -> None:
    """Measure speed on this machine."""


class _BatchSizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas: 1,8,64."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the sizes, each once."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdecimal() and len(part) < 9 for part in parts):
            raise click.BadParameter(f"{value!r} is not understood: give sizes such as 1,8,64.", ctx, param)
        if wrong := [part for part in parts if not 1 <= int(part) <= _LARGEST_BATCH]:
            raise click.BadParameter(f"{wrong[0]} is not from 1 to {_LARGEST_BATCH}.", ctx, param)
        return tuple(dict.fromkeys(int(part) for part in parts))


@group.command("sample")
@click.argument("model", required=False)
@click.option(
    "--batch-sizes",
    type=_BatchSizes(),
    default="1,8,64",
    show_default=True,
    metavar="N,N",
    help="Images drawn at once.",
)
@click.option(
    "--runtimes",
    metavar="NAME,NAME",
    help="Of torch, torch-bf16, torch-compile, onnx-fp32, onnx-fp16, onnx-int8, openvino-fp32, openvino-bf16, "
    "openvino-int8; all that are installed if left out, but torch-compile.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Time for each runtime at each batch size.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Of the processor; one a core if left out.")
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sample(
    model: str | None,
    batch_sizes: tuple[int, ...],
    runtimes: str | None,
    seconds: float,
    threads: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure how fast MODEL draws in torch, ONNX Runtime and OpenVINO.

    MODEL is as for `ganzoo sample`; left out, it is the newest run. It is exported into a temporary folder; an .onnx
    file is measured alone, or by the --runtimes that read it. Each runtime has a process of its own, and they take
    turns. A draw is timed from z in memory to images in memory. Memory is the most that the process had, Python and the
    runtime's code included.

    \b
    Examples:
      ganzoo bench sample
      ganzoo bench sample dcgan-mnist --batch-sizes 1,64 --threads 1
      ganzoo bench sample model.onnx --seconds 10 --json
    """
    from ganzoo.export.benchmark.measuring import benchmark_sampling
    from ganzoo.references import resolve_model

    from .terminal import TerminalReporter

    chosen = None if runtimes is None else [part.strip() for part in runtimes.split(",")]
    with TerminalReporter() as terminal:
        location = resolve_model(model, progress=terminal.fetching)
        if location.said is not None:
            terminal.close()
            output.note(location.said)
        done = benchmark_sampling(
            location,
            runtimes=chosen,
            batch_sizes=batch_sizes,
            seconds=seconds,
            threads=threads,
            device=device,
            progress=terminal.status,
        )
    if as_json:
        output.result_json(
            {
                "model": str(location.path),
                "seconds": seconds,
                "results": [asdict(result) for result in done.results],
                "left_out": done.left_out,
            }
        )
        return
    _show(done)


def _show(done: SamplingBenchmark) -> None:
    baseline = done.results[0]
    header = ("batch", "runtime", "images/s", f"× {baseline.runtime}", "p50 ms", "p99 ms", "draws")
    rows = []
    for place, reference in enumerate(baseline.batches):
        for number, result in enumerate(done.results):
            batch = result.batches[place]
            rows.append(
                (
                    f"{batch.batch_size}" if number == 0 else "",
                    result.runtime,
                    _rate(batch.images_per_second),
                    f"{batch.images_per_second / reference.images_per_second:.2f}",
                    f"{batch.p50_ms:.2f}",
                    f"{batch.p99_ms:.2f}",
                    f"{batch.draws:,}",
                )
            )
    for line in output.table(rows, header, right=(0, 2, 3, 4, 5, 6)):
        output.result(line)
    output.result()
    on_gpu = any(result.device_memory_bytes is not None for result in done.results)
    sizes = [
        (
            result.runtime,
            f"{result.computed_on}, {result.threads} thread{'s' if result.threads > 1 else ''}",
            output.size_of(result.file_bytes),
            *(_size(one) for one in (result.memory_bytes, *((result.device_memory_bytes,) if on_gpu else ()))),
        )
        for result in done.results
    ]
    gpu = ("GPU memory",) if on_gpu else ()
    for line in output.table(sizes, ("runtime", "on", "file", "memory", *gpu), right=(2, 3, 4)):
        output.result(line)
    for runtime, reason in done.left_out.items():
        output.warning_line(f"{runtime} was left out. {reason}")


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.1f}"


def _size(number: int | None) -> str:
    return "-" if number is None else output.size_of(number)


# ---------------------------------------------------------------------------------------------------- training

_PARTS = {
    "data": "data",
    "discriminator": "D",
    "generator": "G",
    "gradients": "D and G",
    "optimizers": "optimisers",
    "step": "step",
    "rest": "rest",
}


@group.command("train")
@click.argument("recipe", required=False)
@click.option(
    "--engine",
    "engines",
    metavar="NAME,NAME",
    help="Compare these values of train.engine, such as eager,auto; the recipe's own if left out.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(2, _LARGEST_BATCH),
    metavar="N",
    help="Images of a minibatch; the recipe's if left out.",
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="The recipe's if left out.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an entry, e.g. generator.widths=[64,32]; may be repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Time for each engine.",
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps for each engine, instead of a time.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Of the processor; one a core if left out.")
@click.option(
    "--device", type=Device(), default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def train(
    recipe: str | None,
    engines: str | None,
    batch_size: int | None,
    precision: str | None,
    overrides: tuple[str, ...],
    seconds: float,
    steps: int | None,
    threads: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure how fast RECIPE trains, and how near that is to what this machine can do.

    RECIPE is as for `ganzoo train`; left out, it is dcgan-tutorial64. No data are needed: the images are random. Each
    engine has a process of its own, and they take turns with one that measures the machine's peak, by large matrix
    products and convolutions. Operations are those of the plain step, so a faster way to the same update does not count
    for more. Sample grids and checkpoints are left out.

    \b
    Examples:
      ganzoo bench train
      ganzoo bench train dcgan-mnist --precision fp32 --threads 1
      ganzoo bench train dcgan64-modern --engine eager,auto --seconds 30
    """
    from ganzoo.benchmarking.measuring import DEFAULT_RECIPE, benchmark_training

    from .terminal import TerminalReporter

    with TerminalReporter() as terminal:
        done = benchmark_training(
            recipe or DEFAULT_RECIPE,
            overrides=overrides,
            engines=None if engines is None else [part.strip() for part in engines.split(",")],
            batch_size=batch_size,
            precision=precision,
            device=device,
            threads=threads,
            seconds=seconds,
            steps=steps,
            progress=terminal.status,
        )
    if as_json:
        output.result_json(asdict(done))
        return
    _show_training(done)


def _show_training(done: TrainingBenchmark) -> None:
    first = done.results[0]
    shape = "×".join(map(str, done.image))
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    output.result(f"{done.recipe}: {shape}, batches of {done.batch_size}, on {first.computed_on}, {threads}")
    output.result()
    on_gpu = any(result.device_memory_bytes is not None for result in done.results)
    header = ("engine", "", "", "images/s", "slowest", "fastest", "TFLOP/s", "of peak", "memory")
    rows = [
        (
            result.engine,
            result.arithmetic + (", graph" if result.graph else ""),
            result.precision,
            _rate(result.images_per_second),
            _rate(result.slowest),
            _rate(result.fastest),
            _tera(result.flops_per_second),
            f"{result.share_of_peak:.0%}",
            _size(result.memory_bytes),
            *((_size(result.device_memory_bytes),) if on_gpu else ()),
        )
        for result in done.results
    ]
    gpu = ("GPU memory",) if on_gpu else ()
    for line in output.table(rows, (*header, *gpu), right=range(3, len(header) + len(gpu))):
        output.result(line)
    output.result()
    _show_parts(done.results)
    output.result()
    _show_machine(done)
    for engine, reason in done.left_out.items():
        output.warning_line(f"{engine} was left out. {reason}")


def _show_parts(results: Sequence[EngineResult]) -> None:
    """Say what a step's time goes to."""
    parts = [part for part in _PARTS if any(part in result.seconds for result in results)]
    rows = [
        (
            result.engine,
            f"{sum(result.seconds.values()) * 1e3:,.1f}",
            *(f"{result.seconds[part] * 1e3:,.1f}" if part in result.seconds else "-" for part in parts),
        )
        for result in results
    ]
    header = ("ms a step", "all", *(_PARTS[part] for part in parts))
    for line in output.table(rows, header, right=range(1, len(header))):
        output.result(line)


def _show_machine(done: TrainingBenchmark) -> None:
    flops, peak = done.flops_per_image, done.roofs.flops_per_second
    precision = done.results[0].precision
    work = f"{flops / 1e9:,.3g} GFLOP and {done.bytes_per_image / 1e6:,.3g} MB"
    rows = [
        ("peak here", f"{', '.join(f'{_tera(peak[name])} TFLOP/s in {name}' for name in sorted(peak))}"),
        ("memory here", f"{done.roofs.bytes_per_second / 1e9:,.1f} GB/s"),
        ("a real image", f"{work}: at the peak in {precision} {_rate(done.limit)} images/s"),
    ]
    for line in output.table(rows):
        output.result(line)


def _tera(flops_per_second: float) -> str:
    return f"{flops_per_second / 1e12:,.3g}"
