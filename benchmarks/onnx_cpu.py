"""How fast one generator draws on a processor: torch and ONNX Runtime side by side, in the forms of an export.

    python benchmarks/onnx_cpu.py dcgan-lsun
    python benchmarks/onnx_cpu.py path/to/model --batches 1 64 --threads 2 --json times.json

    torch                 eager, float32
    torch bf16            weights in bfloat16, channels last
    onnx plain            what torch's exporter writes
    onnx fp32             as `ganzoo export --onnx` writes it: folded, and as convolutions those transposed convolutions
                          that run faster so
    onnx fp32 subpixel    all transposed convolutions as convolutions
    onnx fp16             folded, in float16, as `--precision fp16` writes it
    onnx int8 plain       onnxruntime.quantization on the folded graph with its transposed convolutions
    onnx int8             ours

All run in one process and take turns, call by call, so that what else the machine does strikes all alike; told are
medians, and the quarter of the calls below and above (p25, p75). On a machine that is never quiet use --cpu-time: one
thread, and the processor's time of that thread instead of the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ganzoo.export.onnx.exporting import calibration
from ganzoo.export.onnx.half import to_half
from ganzoo.export.onnx.passes import clean, fold_batch_norms, projection_to_gemm, subpixel
from ganzoo.export.onnx.quantization import quantize
from ganzoo.export.onnx.tracing import Interface, frozen, to_graph
from ganzoo.models import Model, load_model
from ganzoo.pictures import to_uint8
from ganzoo.seeds import latents
from ganzoo.zoo import create_model

OPSET = 18
PAUSE_SECONDS = 0.01  # before each call, in which the threads of the one before stop waiting actively
PROOF_IMAGES = 64

Draw = Callable[[Mapping[str, Any]], Any]


def main() -> None:
    """Measure what the command line asks for; print a table, and write JSON where asked to."""
    arguments = _arguments()
    if arguments.cpu_time:
        arguments.threads = 1
    torch.set_num_threads(arguments.threads)
    path = Path(arguments.model)
    model = load_model(path) if path.exists() else create_model(arguments.model)
    interface = Interface.of(model)
    contenders = dict(_contenders(model, interface, arguments.threads, arguments.only))
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    wanted = _images(contenders["torch"], interface)
    rows = []
    for batch in arguments.batches:
        times = _take_turns(contenders, _inputs(interface, batch), arguments.rounds, clock)
        for name, taken in times.items():
            low, middle, high = (float(value) * 1e3 for value in np.percentile(taken, [25, 50, 75]))
            rows.append({"form": name, "batch": batch, "p25_ms": low, "median_ms": middle, "p75_ms": high})
        _print_rows(rows[-len(times) :], batch)
    psnr = {name: _psnr(wanted, _images(draw, interface)) for name, draw in contenders.items() if name != "torch"}
    print("\nPSNR of the pixels with torch's, dB: " + ", ".join(f"{name} {value:.1f}" for name, value in psnr.items()))
    if arguments.json is not None:
        told = {"model": path.name, "machine": _machine(arguments), "times": rows, "psnr_db": psnr}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a recipe's name (random weights), or a model's folder")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64], help="images a call")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the processor")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each at batch 1; fewer of large batches")
    parser.add_argument("--only", nargs="+", help="forms to measure beside torch and onnx plain")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, and its processor time")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_args()


def _machine(arguments: argparse.Namespace) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": arguments.threads,
        "clock": "processor time of one thread" if arguments.cpu_time else "wall",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _contenders(model: Model, interface: Interface, threads: int, only: list[str] | None) -> Iterator[tuple[str, Draw]]:
    """Yield the forms by name, each with a function from inputs to images."""

    def asked(name: str) -> bool:
        return only is None or name in only

    yield "torch", _in_torch(model, None)
    if asked("torch bf16"):
        yield "torch bf16", _in_torch(model, torch.bfloat16)
    plain = to_graph(frozen(model), interface, OPSET)
    yield "onnx plain", _in_onnx(plain, threads)
    folded = fold_batch_norms(projection_to_gemm(plain))
    ours = clean(subpixel(folded, only_where_faster=True))
    phases = clean(subpixel(folded))
    forms: dict[str, Callable[[], onnx.ModelProto]] = {
        "onnx fp32": lambda: ours,
        "onnx fp32 subpixel": lambda: phases,
        "onnx fp16": lambda: to_half(clean(folded)),
        "onnx int8 plain": lambda: _int8_of_onnxruntime(clean(folded), interface),
        "onnx int8": lambda: clean(quantize(phases, calibration(interface))),
    }
    for name, form in forms.items():
        if asked(name):
            yield name, _in_onnx(form(), threads)


def _in_torch(model: Model, dtype: torch.dtype | None) -> Draw:
    generator = frozen(model)
    if dtype is not None:
        generator = generator.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(inputs: Mapping[str, Any]) -> Any:
        given = [torch.from_numpy(value) for value in inputs.values()]
        given[0] = given[0] if dtype is None else given[0].to(dtype)
        with torch.inference_mode():
            return generator(*given).float().numpy()

    return draw


def _in_onnx(graph: onnx.ModelProto, threads: int) -> Draw:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # As `OnnxSampler` does; else the threads of the session before wait actively on the cores that the next one needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))[0]


def _int8_of_onnxruntime(graph: onnx.ModelProto, interface: Interface) -> onnx.ModelProto:
    """Return a graph as ONNX Runtime's own tool quantises it, with the settings that its documentation recommends."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = calibration(interface)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(target)


def _inputs(interface: Interface, count: int) -> dict[str, Any]:
    inputs = {"z": latents(np.arange(count), interface.latent_dim, interface.prior)}
    if interface.num_classes:
        inputs["label"] = np.arange(count) % interface.num_classes
    return inputs


def _take_turns(
    contenders: Mapping[str, Draw], inputs: Mapping[str, Any], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each call, by form: one call of each a round."""
    batch = len(inputs["z"])
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for draw in contenders.values():
        draw(inputs)  # the first call of a size allocates
    for _ in range(max(3, rounds // max(1, batch // 8))):
        for name, draw in contenders.items():
            time.sleep(PAUSE_SECONDS)
            begun = clock()
            draw(inputs)
            times[name].append(clock() - begun)
    return times


def _print_rows(rows: list[dict[str, Any]], batch: int) -> None:
    base = next(row["median_ms"] for row in rows if row["form"] == "onnx plain")
    print(f"\nBatch {batch}{'':10s} ms/image   p25     p75   images/s   against onnx plain", flush=True)
    for row in rows:
        low, middle, high = (row[key] / batch for key in ("p25_ms", "median_ms", "p75_ms"))
        print(
            f"  {row['form']:16s} {middle:7.3f} {low:7.3f} {high:7.3f} {1e3 / middle:9.1f}"
            f"   {base / row['median_ms']:6.2f} x",
            flush=True,
        )


def _images(draw: Draw, interface: Interface) -> Any:
    return to_uint8(draw(_inputs(interface, PROOF_IMAGES)))


def _psnr(wanted: Any, images: Any) -> float:
    apart = wanted.astype(np.float64) - images.astype(np.float64)
    return float(10 * np.log10(255**2 / max(statistics.fmean((apart**2).ravel()), 1e-9)))


if __name__ == "__main__":
    main()
