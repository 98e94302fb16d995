"""How fast every generator of the zoo draws, in every form, and what a faster form costs in quality.

    python benchmarks/inference.py --only dcgan-mnist
    python benchmarks/inference.py --quality 5000 --data dcgan-mnist=MNIST --json inference.json --chart inference.png

    torch           eager, float32
    torch-bf16      weights in bfloat16, channels last
    torch-compile   compiled for each batch size; only where --forms names it, for it takes minutes
    onnx-plain      what torch.onnx.export writes, in ONNX Runtime
    onnx-fp32, onnx-fp16, onnx-int8    what `ganzoo export` writes, in ONNX Runtime
    openvino-fp32, openvino-bf16, openvino-int8    the same files (bf16: of fp32) in OpenVINO

Each form has a process of its own, and they take turns, so that what else the machine does strikes all alike; told are
medians and quartiles, in milliseconds an image. "whole" is `sampler.sample` of one seed, from the seed to the checked
image; all else is from z in memory to images in memory. Zoo models have their trained weights, other recipes random
ones, as recipes of equal generators are measured once.

Quality is of trained models: PSNR of the worst image and the median one against torch, and the Fréchet distance (FD)
on the packaged features between each form's images and float32's, and to real ones. The real ones of a model come from
its recipe's source where that is built in, else from --data MODEL=SOURCE.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from reporting import Row, print_table, write_json

from ganzoo.building import load_recipe
from ganzoo.errors import GanzooError
from ganzoo.evaluation.evaluating import evaluate
from ganzoo.export.benchmark.process import WorkerProcess
from ganzoo.export.onnx import outputs
from ganzoo.export.onnx.exporting import DEFAULT_OPSET, export_onnx
from ganzoo.export.onnx.tracing import Interface, frozen, to_graph
from ganzoo.export.runtime.openvino import OpenVINOSampler
from ganzoo.export.runtime.providers import default_threads
from ganzoo.export.runtime.sampler import OnnxSampler
from ganzoo.models import Model
from ganzoo.recipes import list_recipes
from ganzoo.sampling import BaseSampler, TorchSampler
from ganzoo.weights import published_models
from ganzoo.zoo import create_model, load_pretrained

BASELINE, EAGER = "onnx-plain", "torch"
FORMS = (
    EAGER,
    "torch-bf16",
    BASELINE,
    "onnx-fp32",
    "onnx-fp16",
    "onnx-int8",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-int8",
)
COMPILED = "torch-compile"
FILE_OF = {"openvino-bf16": "fp32"}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BUILT_IN = ("digits", "rooms")
ROUNDS = 5


def main() -> None:
    """Measure what the command line asks for; print tables, write JSON and a chart where asked to."""
    arguments = _arguments()
    given = dict(one.split("=", 1) for one in arguments.data)
    times: list[Row] = []
    quality: list[Row] = []
    for name in arguments.only or list(unequal_generators()):
        model = load_pretrained(name) if name in published_models() else create_model(name)
        with tempfile.TemporaryDirectory() as folder:
            files = _files(model, arguments.forms, Path(folder))
            found = _times(name, files, arguments)
            times += found
            print_table(name, [_told(row) for row in found])
            if arguments.quality and name in published_models():
                found = _quality(model, files, arguments.quality, given.get(name))
                quality += [{"model": name, **row} for row in found]
                print_table(f"{name}: quality of {arguments.quality:,} images", found)
    write_json(arguments.json, {"machine": _machine(arguments), "times": times, "quality": quality})
    if arguments.chart is not None:
        draw_chart(times, arguments.chart)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", help="recipes or zoo models; all unequal generators if left out")
    parser.add_argument("--forms", nargs="+", choices=[*FORMS, COMPILED], default=list(FORMS), help="what is measured")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help=f"images a call; all: {BATCHES}")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each form at each batch size")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of the processor")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; OpenVINO draws on the CPU alone")
    parser.add_argument("--quality", type=int, default=0, metavar="N", help="images whose quality is measured; 0: none")
    parser.add_argument("--data", nargs="+", default=[], metavar="MODEL=SOURCE", help="real images of a zoo model")
    parser.add_argument("--json", type=Path, help="a file for the results")
    parser.add_argument("--chart", type=Path, help="a PNG of them")
    return parser.parse_args()


def _machine(arguments: argparse.Namespace) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": arguments.threads,
        "device": arguments.device,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def unequal_generators() -> Iterator[str]:
    """Yield the names of recipes whose generators differ, the zoo's own models first."""
    seen: list[Any] = []
    for name in [*published_models(), *list_recipes()]:
        recipe = load_recipe(name)
        kind = (recipe.generator, recipe.data.image_size, recipe.data.channels, recipe.data.num_classes)
        if kind not in seen:
            seen.append(kind)
            yield name


# ---------------------------------------------------------------------------------------------------- forms


def _files(model: Model, forms: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return what each form is opened from; what cannot be exported is told of and left out."""
    files: dict[str, Path] = {}
    for form in forms:
        if form.startswith("torch"):
            files[form] = folder / "model"
            if not files[form].exists():
                model.save(files[form])
            continue
        precision = FILE_OF.get(form, form.rpartition("-")[2])
        path = folder / f"{precision}.onnx"
        try:
            if precision == "plain":
                _save_plain(model, path)
            elif not path.exists():
                export_onnx(model, path, precision=precision, timing=False)  # type: ignore[arg-type]
            files[form] = path
        except GanzooError as error:
            print(f"{form} was left out. {error}", flush=True)
    return files


def _save_plain(model: Model, path: Path) -> None:
    """Write what torch's exporter makes of a generator, with ganzoo's metadata, and nothing else done to it."""
    graph = to_graph(frozen(model), Interface.of(model), DEFAULT_OPSET)
    outputs.set_header(graph, DEFAULT_OPSET)
    outputs.set_metadata(graph, model, precision="fp32", pixels="float", layout="nchw")
    path.write_bytes(graph.SerializeToString())


# ---------------------------------------------------------------------------------------------------- time


def _times(name: str, files: dict[str, Path], arguments: argparse.Namespace) -> list[Row]:
    """Return the times of each form at each batch size, and of a whole `sample` of one seed."""
    rows: list[Row] = []
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes: dict[str, WorkerProcess] = {}
        for form, path in files.items():
            process = stack.enter_context(WorkerProcess(form, logs / form))
            opened = {
                "runtime": form,
                "path": str(path),
                "device": arguments.device,
                "threads": arguments.threads,
                "batch_sizes": arguments.batches,
            }
            try:
                process.ask({"open": opened})
                processes[form] = process
            except GanzooError as error:
                print(f"{form} was left out. {error}", flush=True)
        kinds = [(batch, False) for batch in arguments.batches]
        for batch, whole in [*kinds, (1, True)] if 1 in arguments.batches else kinds:
            rows += _turns(name, processes, batch, whole, arguments.seconds)
    return rows


def _turns(name: str, processes: dict[str, WorkerProcess], batch: int, whole: bool, seconds: float) -> list[Row]:
    taken: dict[str, list[float]] = {form: [] for form in processes}
    order = list(processes)
    for turn in range(ROUNDS):
        first = turn % len(order)
        for form in order[first:] + order[:first]:
            command = {"draw": batch, "seconds": seconds / ROUNDS, "from_seeds": whole}
            taken[form] += processes[form].ask(command)["seconds"][batch == 1 :]  # the first of a turn wakes the cores
    rows = []
    for form, times in taken.items():
        low, middle, high, slow = (float(value) * 1e3 / batch for value in np.percentile(times, [25, 50, 75, 99]))
        row = {"model": name, "batch": f"{batch}{' whole' if whole else ''}", "form": form, "draws": len(times)}
        rows.append(row | {"p25_ms": low, "p50_ms": middle, "p75_ms": high, "p99_ms": slow})
    of = {row["form"]: row["p50_ms"] for row in rows}
    for row in rows:
        for key, against in (("to_plain", BASELINE), ("to_torch", EAGER)):
            row[key] = of[against] / row["p50_ms"] if against in of else None
    return rows


def _told(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "model"}


# ---------------------------------------------------------------------------------------------------- quality


def _quality(model: Model, files: dict[str, Path], count: int, data: str | None) -> list[Row]:
    """Return how far each form's images are from torch's, and how far both are from real ones."""
    source = data or (model.config.recipe.data.source if model.config.recipe.data.source in BUILT_IN else None)
    rows: list[Row] = []
    wanted = exact = None
    for form in (form for form in files if form not in (BASELINE, COMPILED)):
        drawn = _sampler(form, files[form], model).sample(range(count))
        images = np.floor(drawn * 127.5 + 128).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        row: Row = {"form": form, "psnr_worst": None, "psnr_median": None, "fd_to_fp32": None}
        if form == EAGER:
            wanted, exact = drawn, images
        if wanted is not None and form != EAGER:
            errors = ((drawn - wanted) ** 2).reshape(count, -1).mean(axis=1)
            worst, middle = (10 * np.log10(4 / max(float(one), 1e-20)) for one in (errors.max(), np.median(errors)))
            row |= {"psnr_worst": worst, "psnr_median": middle, "fd_to_fp32": _distance(images, exact)}
        if source is not None:
            row["fd_to_real"] = _distance(images, source, reference_count=count)
            first = rows[0]["fd_to_real"] if rows else row["fd_to_real"]
            row["change_percent"] = 100 * (row["fd_to_real"] / first - 1)
        rows.append(row)
    return rows


def _sampler(form: str, path: Path, model: Model) -> BaseSampler:
    if form.startswith("onnx"):
        return OnnxSampler(path, provider="cpu")
    if form.startswith("openvino"):
        return OpenVINOSampler(path, precision="bf16" if form.endswith("bf16") else "fp32")
    if form == EAGER:
        return TorchSampler(model, device="cpu")
    from ganzoo.references import ModelLocation

    return TorchSampler.open(ModelLocation(path), device="cpu", precision="bf16")


def _distance(images: Any, data: Any, **more: Any) -> float:
    """Return the Fréchet distance on the packaged features."""
    channels = images.shape[-1]
    found = evaluate(
        images,
        data,
        metrics=["fd"],
        features="mnist-convnet" if channels == 1 else "cifar-convnet",
        image_size=images.shape[1],
        channels=channels,
        **more,
    )
    return float(found.values[0].value)


# ---------------------------------------------------------------------------------------------------- chart


def draw_chart(times: Sequence[Row], path: Path) -> None:
    """Write a PNG: at the largest batch each form's speed against the plain export, and single images' time against
    eager torch's."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    models = list(dict.fromkeys(row["model"] for row in times))
    largest = max((row["batch"] for row in times if row["batch"].isdecimal()), key=int)
    panels = [
        (largest, "to_plain", f"images/s against the plain ONNX export, batch {largest}", 1.0),
        ("1 whole", "to_torch", "one image: eager torch's time ÷ the form's", 3.0),
    ]
    height = 1.2 + 0.62 * len(models)
    figure, axes = pyplot.subplots(1, 2, figsize=(12, height), sharey=True, layout="constrained")
    forms = [form for form in FORMS if any(row["form"] == form for row in times)]
    colours = dict(zip(FORMS, pyplot.get_cmap("tab10").colors, strict=False))
    for axis, (batch, key, title, line) in zip(axes, panels, strict=True):
        for number, form in enumerate(forms):
            values = {row["model"]: row[key] for row in times if row["batch"] == batch and row["form"] == form}
            places = [models.index(name) + 0.8 * (number / len(forms) - 0.5) for name in values]
            axis.barh(places, list(values.values()), 0.8 / len(forms), label=form, color=colours[form])
        axis.axvline(line, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", linewidth=0.3)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].invert_yaxis()
    figure.legend(*axes[1].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(forms))
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
