"""The training step on a GPU: every engine and every alternative form of a layer, in one command.

    python benchmarks/gpu_step.py --out gpu_step.json
    python benchmarks/gpu_step.py --device cpu --smoke

For each net and batch size it measures images/s (real images drawn) of

    loop            a plain loop as tutorials have it: float32, one operation after the other
    eager           train.engine = "eager": the plain reference of ganzoo
    fast            the fast arithmetic, operation by operation
    graph           the same, replayed from a CUDA graph
    graph+compile   with the networks compiled by torch.compile
    graph+pad8      with layers of 3 channels padded to 8
    graph+subpixel  with transposed convolutions of stride 2 as convolutions to four times the channels

What cannot be run says why. Achieved TFLOP/s are of the operations that the eager step needs, whichever form computes
them; the peak is that of the largest bf16 product of two matrices measured here. It needs no network and no data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import ganzoo
from ganzoo.building import load_recipe
from ganzoo.data import Pack, open_pack
from ganzoo.data.request import DataRequest
from ganzoo.devices import choose_precision
from ganzoo.recipes import Recipe
from ganzoo.training.beginning import torch_settings
from ganzoo.training.engines import PLAIN, Engine
from ganzoo.training.feeder import Feeder
from ganzoo.training.graph import WARM_UP, GraphedStep
from ganzoo.training.networks import build_networks
from ganzoo.training.step import Step

PENALTIES = (
    'penalty=[{name="gradient", where="real", weight=1.0}, {name="gradient", where="fake", weight=1.0}]',
    'objective={name="relativistic"}',
    'discriminator.norm="none"',
)


@dataclass(frozen=True)
class Case:
    """A net at a batch size."""

    name: str
    recipe: str
    batch: int
    overrides: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("loop", "eager", "fast", "graph")

    def settled(self, smoke: bool) -> Recipe:
        """Return its recipe."""
        batch = 4 if smoke else self.batch
        return load_recipe(self.recipe, (*self.overrides, f"train.batch_size={batch}"))


ALL = ("loop", "eager", "fast", "graph", "graph+pad8", "graph+subpixel", "graph+compile")
FORMS = ("eager", "fast", "graph", "graph+pad8", "graph+subpixel")
CASES = (
    Case("tutorial-64", "dcgan-tutorial64", 128, variants=ALL),
    Case("paper-64", "dcgan-lsun", 128, variants=FORMS),
    Case("paper-64", "dcgan-lsun", 1024, variants=ALL),
    Case("cifar-32", "dcgan-cifar10", 128),
    Case("cifar-32", "dcgan-cifar10", 1024, variants=(*FORMS, "graph+compile")),
    Case("sngan-32", "sngan-cifar10", 256),
    Case("paper-64-no-norm", "dcgan-lsun", 1024, ('discriminator.norm="none"',), ("eager", "graph")),
    Case("paper-64-r1-r2", "dcgan-lsun", 1024, PENALTIES, ("eager", "fast", "graph")),
    Case("r3gan-32", "r3gan-cifar10", 128, variants=("eager", "fast", "graph")),
)
SMOKE = (
    Case("tutorial-64", "dcgan-tutorial64", 4, variants=(*ALL, "fast+pad8", "fast+subpixel")),
    Case("cifar-32-r1-r2", "dcgan-cifar10", 4, PENALTIES, ("eager", "fast", "graph")),
)


# ---------------------------------------------------------------------------------------------- forms of layers


class Padded(nn.Module):
    """A convolution, transposed or not, of which 3 input or output channels are computed as 8."""

    def __init__(self, inner: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the convolution returns."""
        inner, weight = self.inner, self.inner.weight
        if isinstance(inner, nn.Conv2d):
            more = -inner.in_channels % 8
            x, weight = F.pad(x, (0, 0, 0, 0, 0, more)), F.pad(weight, (0, 0, 0, 0, 0, more))
            return F.conv2d(x, weight, inner.bias, inner.stride, inner.padding)
        more = -inner.out_channels % 8
        bias = None if inner.bias is None else F.pad(inner.bias, (0, more))
        y = F.conv_transpose2d(
            x, F.pad(weight, (0, 0, 0, 0, 0, more)), bias, inner.stride, inner.padding, inner.output_padding
        )
        return y[:, : inner.out_channels]


class SubPixel(nn.Module):
    """A transposed convolution that doubles the sides, as a 3×3 convolution to four times the channels.

    Output 2 i + r reads input i + d by tap r + padding - 2 d of the kernel, along either axis.
    """

    def __init__(self, inner: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.inner = inner
        size, padding = inner.kernel_size[0], int(inner.padding[0])
        taps = torch.tensor([[r + padding - 2 * d for d in (-1, 0, 1)] for r in (0, 1)])
        self.register_buffer("taps", torch.where((taps >= 0) & (taps < size), taps, size), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the convolution returns."""
        weight = F.pad(self.inner.weight, (0, 1, 0, 1))  # the last row and column are the zeros of missing taps
        taps: Any = self.taps
        four = weight.index_select(2, taps.flatten()).index_select(3, taps.flatten())
        four = four.view(*weight.shape[:2], 2, 3, 2, 3)  # (in, out, row r, row d, column r, column d)
        kernel = four.permute(1, 2, 4, 0, 3, 5).reshape(-1, weight.shape[0], 3, 3)
        y = F.pixel_shuffle(F.conv2d(x, kernel, padding=1), 2)
        return y if self.inner.bias is None else y + self.inner.bias[:, None, None]

    @staticmethod
    def fits(inner: nn.Module) -> bool:
        """Return whether a layer is such a convolution."""
        if not isinstance(inner, nn.ConvTranspose2d) or inner.stride != (2, 2):
            return False
        size, padding, more = inner.kernel_size[0], int(inner.padding[0]), inner.output_padding[0]
        return size - 2 * padding + more == 2 and 2 * padding + 1 >= size - 1 and padding <= 2


def _has_few_channels(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.in_channels == 3 and module.groups == 1
    return isinstance(module, nn.ConvTranspose2d) and module.out_channels == 3


def replaced(network: nn.Module, fits: Callable[[nn.Module], bool], by: Callable[[Any], nn.Module]) -> int:
    """Replace layers of a network in place, and return how many there were."""
    places = [(parent, name) for parent in network.modules() for name, child in parent.named_children() if fits(child)]
    for parent, name in places:
        setattr(parent, name, by(getattr(parent, name)))
    return len(places)


# ---------------------------------------------------------------------------------------------- one measurement


class NotHere(Exception):
    """Why a variant cannot be run."""


def stepper(variant: str, recipe: Recipe, pack: Pack, device: torch.device) -> Iterator[None]:
    """Return an iterator of which each turn is a step."""
    engine = PLAIN if variant == "eager" else Engine("graph" if variant.startswith("graph") else "eager", fast=True)
    if engine.name == "graph" and device.type != "cuda":
        raise NotHere("a CUDA graph needs CUDA")
    generator, discriminator = build_networks(recipe)
    if variant.endswith("+pad8") and not sum(
        replaced(one, _has_few_channels, Padded) for one in (generator, discriminator)
    ):
        raise NotHere("no layer has 3 channels")
    if variant.endswith("+subpixel") and not replaced(generator, SubPixel.fits, SubPixel):
        raise NotHere("no transposed convolution doubles the sides")
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)
        if variant.endswith("+compile"):
            network.compile()
    step = Step(recipe, generator, discriminator, choose_precision("auto", device), engine=engine)
    feeder = Feeder(recipe, step.round, pack, device, step.dtype, resident=True)
    if engine.name == "eager":
        for number, batches in enumerate(feeder.rounds(0, 1 << 30)):
            step(number, batches)
            yield
    graphed = GraphedStep(step, feeder, demanded=True)
    for number, parts in enumerate(feeder.given(0, 1 << 30)):
        graphed(number, parts)
        yield


def loop(recipe: Recipe, pack: Pack, device: torch.device) -> Iterator[None]:
    """Train as tutorials do: float32, binary cross-entropy, two passes of the discriminator, Adam; a turn is a step."""
    if recipe.data.num_classes:
        raise NotHere("the plain loop knows no classes")
    generator, discriminator = (network.to(device) for network in build_networks(recipe))
    pixels = pack.to_tensor(device).permute(0, 3, 1, 2).contiguous()
    optimisers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (discriminator, generator)
    ]
    batch, criterion = recipe.train.batch_size, nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(batch, device=device), torch.zeros(batch, device=device)
    while True:
        real = pixels[torch.randint(len(pixels), (batch,), device=device)].float().div(127.5).sub(1.0)
        fake = generator(torch.randn(batch, recipe.generator.latent_dim, device=device))
        optimisers[0].zero_grad()
        criterion(discriminator(real).flatten(), ones).backward()
        criterion(discriminator(fake.detach()).flatten(), zeros).backward()
        optimisers[0].step()
        optimisers[1].zero_grad()
        criterion(discriminator(fake).flatten(), ones).backward()
        optimisers[1].step()
        yield


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_a_step(turns: Iterator[None], device: torch.device, seconds: float, warm_up: int) -> list[float]:
    """Return the seconds of a step, measured over five stretches that take the given seconds together."""
    for _ in range(warm_up):
        next(turns)
    synchronise(device)
    begun = time.perf_counter()
    next(turns)
    synchronise(device)
    stretch = max(1, int(seconds / 5 / max(time.perf_counter() - begun, 1e-6)))
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(stretch):
            next(turns)
        synchronise(device)
        found.append((time.perf_counter() - begun) / stretch)
    return found


class Operations(TorchDispatchMode):
    """Within it, the floating-point operations of convolutions and matrix products are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, and count it."""
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations_an_image(recipe: Recipe, pack: Pack, device: torch.device) -> float:
    """Return the floating-point operations that the eager step needs for a real image that it draws."""
    turns = stepper("eager", recipe, pack, device)
    next(turns)
    with Operations() as counter:
        next(turns)
    turns.close()  # type: ignore[attr-defined]
    images = Step(recipe, *build_networks(recipe)).images
    return counter.total / images


def peak(device: torch.device, smoke: bool) -> float:
    """Return the largest rate of a bf16 product of two square matrices, in FLOP/s."""
    best = 0.0
    for size in (128,) if smoke else (4096, 8192, 12288):
        one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        for _ in range(3):
            one @ one
        synchronise(device)
        begun, times = time.perf_counter(), 3 if smoke else 30
        for _ in range(times):
            one @ one
        synchronise(device)
        best = max(best, 2 * size**3 * times / (time.perf_counter() - begun))
    return best


def measure(case: Case, variant: str, pack: Pack, device: torch.device, asked: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the results."""
    recipe = case.settled(asked.smoke)
    row: dict[str, Any] = {"net": case.name, "batch": recipe.train.batch_size, "variant": variant}
    turns: Any = None
    try:
        with torch_settings(recipe), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turns = loop(recipe, pack, device) if variant == "loop" else stepper(variant, recipe, pack, device)
            warm_up = WARM_UP + 3 if not asked.smoke else 1
            found = seconds_a_step(turns, device, asked.seconds, warm_up)
    except Exception as error:
        row["why_not"] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return row
    finally:
        if turns is not None:
            turns.close()
        del turns
        if device.type == "cuda":
            torch.cuda.empty_cache()
    images = recipe.train.batch_size if variant == "loop" else Step(recipe, *build_networks(recipe)).images
    row |= {
        "images_per_second": images / statistics.median(found),
        "spread": [images / max(found), images / min(found)],
        "milliseconds_a_step": 1e3 * statistics.median(found),
    }
    return row


def packs(recipe: Recipe, count: int) -> Pack:
    """Return a pack of random images."""
    data = recipe.data
    shape = (count, data.image_size, data.image_size, data.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    request = DataRequest(data.image_size, data.channels, labels=data.labelled)
    if not data.labelled:
        return open_pack(images, request)
    return open_pack((images, np.arange(count, dtype=np.int64) % data.num_classes), request)


def told(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    head = f"{row['net']:<18} {row['batch']:>5} {row['variant']:<15}"
    if "why_not" in row:
        return f"{head} not measured: {row['why_not']}"
    return (
        f"{head} {row['images_per_second']:>10,.0f} images/s {row['milliseconds_a_step']:>8.2f} ms/step "
        f"{row['tflops']:>8.2f} TFLOP/s {row['share_of_peak']:>6.1%} of peak"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Measure all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which no measurement is begun")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--only", help="nets whose name holds this")
    parser.add_argument("--out", type=Path, help="of the JSON")
    asked = parser.parse_args(words)
    if asked.smoke:
        asked.seconds = min(asked.seconds, 0.01)
    device = torch.device(asked.device, 0) if asked.device == "cuda" else torch.device(asked.device)
    begun, rows, limit = time.monotonic(), [], peak(device, asked.smoke)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{where}, torch {torch.__version__}, ganzoo {ganzoo.__version__}: {limit / 1e12:,.2f} TFLOP/s in bf16")
    cases = [case for case in (SMOKE if asked.smoke else CASES) if (asked.only or "") in case.name]
    # What takes longest, compiling, comes last: a budget that ends costs the least.
    work = [(case, variant) for case in cases for variant in case.variants]
    for case, variant in sorted(work, key=lambda one: one[1].endswith("+compile")):
        if time.monotonic() - begun > asked.budget:
            rows.append({"net": case.name, "batch": case.batch, "variant": variant, "why_not": "no time was left"})
            print(told(rows[-1]), flush=True)
            continue
        small = load_recipe(case.recipe, (*case.overrides, "train.batch_size=4"))
        with packs(case.settled(asked.smoke), 64 if asked.smoke else 4096) as pack:
            row = measure(case, variant, pack, device, asked)
            if "why_not" not in row:
                row["gflop_an_image"] = operations_an_image(small, pack, device) / 1e9
                row["tflops"] = row["images_per_second"] * row["gflop_an_image"] / 1e3
                row["share_of_peak"] = row["tflops"] * 1e12 / limit
        rows.append(row)
        print(told(row), flush=True)
    if asked.out is not None:
        found = {"device": where, "torch": torch.__version__, "ganzoo": ganzoo.__version__, "peak_tflops": limit / 1e12}
        asked.out.write_text(json.dumps(found | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
