"""`ganzoo doctor`: whether this machine and its packages are in order, line by line, with what to do where not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from . import output

Status = Literal["ok", "warning", "problem"]

_LOW_MEMORY = 2 << 30
_LOW_DISK = 2 << 30
_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do where it is not well."""

    name: str
    status: Status
    text: str
    remedy: str | None = None


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Check that this machine and its packages are in order.

    Every line says ok, warning or problem, and what to do. The exit code is 1 if there is a problem.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _show(finding)
    problems = sum(finding.status == "problem" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if as_json:
        output.result_json({"problems": problems, "warnings": warnings, "findings": [asdict(one) for one in findings]})
    else:
        several = [
            f"{number} {word}{'s' if number > 1 else ''}"
            for number, word in ((problems, "problem"), (warnings, "warning"))
            if number
        ]
        output.result(f"\n{' and '.join(several)}." if several else "\nAll is well.")
    if problems:
        click.get_current_context().exit(1)


def _show(finding: Finding) -> None:
    status = click.style(f"{finding.status:<8}", fg=_STYLES[finding.status])
    output.result(f"{status} {finding.name:<15} {finding.text}")
    if finding.remedy is not None:
        output.result(f"{'':<8} {'':<15} {finding.remedy}")


def examine() -> Iterator[Finding]:
    """Yield all findings, one after the other as they are made; nothing that is broken stops the next."""
    for name, check in _CHECKS:
        try:
            yield from check()
        except Exception as error:  # a broken package may raise anything
            yield Finding(
                name, "problem", _one_line(error), "Reinstall what it names; GANZOO_DEBUG=1 does not help here."
            )


# ---------------------------------------------------------------------------------------------------- packages


def _python() -> Iterator[Finding]:
    from ganzoo import __version__

    yield Finding("ganzoo", "ok", f"{__version__} in {Path(__file__).resolve().parent.parent}")
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("torch", "problem", _one_line(error), "Reinstall it: pip install --force-reinstall torch")
        return
    yield Finding("torch", "ok", str(torch.__version__))
    built = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
            yield Finding(
                f"cuda:{index}", "ok", f"{about.name}, {output.size_of(about.total_memory)}, {bf16} (CUDA {built})"
            )
    elif built and shutil.which("nvidia-smi"):
        yield Finding(
            "GPU",
            "warning",
            f"torch is built for CUDA {built} and sees no GPU, though a driver is installed",
            "Run nvidia-smi; if it shows a GPU, its driver is probably older than this CUDA: update it.",
        )
    else:
        yield Finding(
            "GPU", "ok", "none seen; everything runs on the processor" + (f" (torch has CUDA {built})" if built else "")
        )


def _torchvision() -> Iterator[Finding]:
    # torch and torchvision must be of one build; a mismatch shows only when its operators are loaded.
    try:
        module = importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops")
    except Exception as error:
        yield Finding(
            "torchvision",
            "warning",
            f"cannot be imported: {_one_line(error)}",
            "Install the build that belongs to torch: pip install --force-reinstall torch torchvision. "
            "Only `torchvision:` data need it.",
        )
        return
    yield Finding("torchvision", "ok", str(module.__version__))


def _onnx() -> Iterator[Finding]:
    from ganzoo.export.runtime.providers import import_runtime

    yield _imported("onnx", "problem")
    yield _imported("onnxscript", "problem")
    packages = [name for name in ("onnxruntime-gpu", "onnxruntime") if _version(name) is not None]
    versions = " and ".join(f"{name} {_version(name)}" for name in packages)
    try:
        runtime = import_runtime()
        providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers())
    except Exception as error:
        yield Finding(
            "onnxruntime",
            "problem",
            f"{versions or 'not installed'}: {_one_line(error)}",
            "pip install --force-reinstall onnxruntime",
        )
        return
    if len(packages) > 1:
        yield Finding(
            "onnxruntime",
            "warning",
            f"{versions} are both installed and overwrite each other's files (providers now: {providers})",
            "Keep one: pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu "
            "(or onnxruntime, without a GPU).",
        )
    else:
        yield Finding("onnxruntime", "ok", f"{versions or runtime.__version__}, providers {providers}")


def _libraries() -> Iterator[Finding]:
    for name, module in (
        ("numpy", "numpy"),
        ("pillow", "PIL"),
        ("safetensors", "safetensors"),
        ("pydantic", "pydantic"),
        ("rich", "rich"),
        ("scikit-learn", "sklearn"),
        ("matplotlib", "matplotlib"),
        ("tomli-w", "tomli_w"),
    ):
        yield _imported(name, "problem", module)
    yield _extra("huggingface_hub", "models on the Hub cannot be loaded", "hub")
    yield _extra("lmdb", "LSUN's databases cannot be read", "lsun")
    yield _extra("pyarrow", "parquet files cannot be read", "parquet")
    yield _extra("tensorboard", "runs are not written for TensorBoard", "tensorboard")


def _imported(name: str, otherwise: Status, module: str | None = None) -> Finding:
    version = _version(name)
    try:
        importlib.import_module(module or name)
    except Exception as error:
        state = "is not installed" if version is None else f"{version} cannot be imported: {_one_line(error)}"
        return Finding(name, otherwise, state, f"pip install --force-reinstall {name}")
    return Finding(name, "ok", version or "installed")


def _extra(name: str, without: str, extra: str) -> Finding:
    if _version(name) is None:
        return Finding(name, "ok", f"not installed: {without} (pip install 'ganzoo[{extra}]' adds it)")
    return _imported(name, "warning")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------------- machine


def _processor() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    capability = torch.backends.cpu.get_cpu_capability()
    bf16 = "bf16 in hardware" if _has_bf16(torch.cpu) else "no bf16 in hardware"
    yield Finding(
        "processor",
        "ok",
        f"{cores} core{'s' if cores > 1 else ''}, {torch.get_num_threads()} used, {capability}, {bf16}",
    )


def _has_bf16(cpu: Any) -> bool:
    """Return whether the processor multiplies bfloat16; torch's own questions are private and change with versions."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported"):
        question = getattr(cpu, name, None)
        if question is not None and question():
            return True
    return False


def _memory() -> Iterator[Finding]:
    total, free = _memory_bytes()
    if total is None:
        yield Finding("memory", "ok", "this system does not tell")
        return
    text = output.size_of(total) + (f", {output.size_of(free)} free" if free is not None else "")
    if free is not None and free < _LOW_MEMORY:
        yield Finding(
            "memory", "warning", text, "Close other programs, or train with smaller batches (--set train.batch_size=N)."
        )
    else:
        yield Finding("memory", "ok", text)


def _memory_bytes() -> tuple[int | None, int | None]:
    """Return the machine's memory and what of it is free, in bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
        return sizes.get("MemTotal"), sizes.get("MemAvailable")
    except (OSError, ValueError):
        pass
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (AttributeError, OSError, ValueError):
        return None, None


def _windows_memory() -> tuple[int | None, int | None]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [  # Windows's MEMORYSTATUSEX, in its order
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *(
                (name, ctypes.c_uint64)
                for name in ("total", "free", "page", "page_free", "virtual", "virtual_free", "extended")
            ),
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    windll: Any = getattr(ctypes, "windll")  # noqa: B009 - it exists on Windows only
    if not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.free)


def _cache() -> Iterator[Finding]:
    from ganzoo.files import cache_home

    cache = cache_home()
    nearest = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    text = f"{cache}{'' if cache.exists() else ' (made when needed)'}, {output.size_of(free)} free"
    if not os.access(nearest, os.W_OK):
        yield Finding("cache", "problem", f"{text}; not writable", "Set GANZOO_HOME to a folder that you may write to.")
    elif free < _LOW_DISK:
        yield Finding("cache", "warning", text, "Free some space, or set GANZOO_HOME to a folder on a larger disk.")
    else:
        yield Finding("cache", "ok", text)


# ---------------------------------------------------------------------------------------------------- ganzoo itself


def _plugins() -> Iterator[Finding]:
    from ganzoo import registry

    if not registry.plugins_enabled():
        yield Finding("plug-ins", "ok", "turned off by GANZOO_PLUGINS=0")
        return
    found = 0
    for known in (
        registry.generators,
        registry.discriminators,
        registry.objectives,
        registry.penalties,
        registry.regularizers,
        registry.augmentations,
        registry.sources,
        registry.recipes,
    ):
        for entry in known.entries():
            if entry.origin in ("ganzoo", "registered"):
                continue
            found += 1
            try:
                known.get(entry.name)
            except Exception as error:  # a third party's package may raise anything
                text = f"the {known.kind} {entry.name!r} of {entry.origin}: {_one_line(error)}"
                yield Finding(
                    "plug-in", "warning", text, f"Update or uninstall {entry.origin}; GANZOO_PLUGINS=0 turns all off."
                )
            else:
                yield Finding("plug-in", "ok", f"the {known.kind} {entry.name!r} of {entry.origin}")
    if not found:
        yield Finding("plug-ins", "ok", "none installed")


def _smoke() -> Iterator[Finding]:
    """Build the smallest recipe's generator and draw one image."""
    import torch

    from ganzoo.building import build_generator, load_recipe

    recipe = load_recipe("dcgan-digits")
    generator = build_generator(recipe).eval()
    with torch.no_grad():
        image = generator(torch.zeros(1, recipe.generator.latent_dim))
    size = (1, recipe.data.channels, recipe.data.image_size, recipe.data.image_size)
    if tuple(image.shape) != size or not bool(image.isfinite().all()):
        yield Finding(
            "drawing",
            "problem",
            f"a generator drew {tuple(image.shape)}, not {size} of finite numbers",
            "Reinstall torch.",
        )
    else:
        yield Finding("drawing", "ok", "a small generator was built and drew an image")


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


_CHECKS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("python", _python),
    ("torch", _torch),
    ("torchvision", _torchvision),
    ("onnx", _onnx),
    ("libraries", _libraries),
    ("processor", _processor),
    ("memory", _memory),
    ("cache", _cache),
    ("plug-ins", _plugins),
    ("drawing", _smoke),
)
