"""Exact resume: N steps straight, and N steps with any number of `kill -9` in between, give the same bytes.

The toy has everything that could break it: batch norm, dropout, spectral norm, an average, scheduled learning rate and
beta, a lazy penalty, mirrored images and gradient statistics that run across a kill.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import ganzoo

RECIPE = textwrap.dedent(
    """
    schema_version = 1
    name = "toy"
    [data]
    source = "digits"
    image_size = 8
    channels = 1
    mirror = true
    max_images = 50
    num_classes = 10
    [generator]
    name = "dcgan"
    latent_dim = 4
    widths = [8, 4]
    kernel_size = 3
    [discriminator]
    name = "dcgan"
    widths = [4, 8]
    kernel_size = 3
    norm = "spectral"
    dropout = 0.3
    bias = true
    [objective]
    name = "relativistic"
    [[penalty]]
    where = "line"
    rule = "one_centered"
    weight = 0.5
    every = 3
    [optimizer]
    lr = { schedule = "cosine", start = 2e-3, end = 1e-4, kimg = 0.3 }
    betas = [0.5, { schedule = "linear", start = 0.9, end = 0.99, kimg = 0.2 }]
    l2 = 1e-4
    [ema]
    half_life_kimg = 0.05
    ramp = 0.1
    [train]
    batch_size = 6
    kimg = 0.24
    update = "sequential"
    log_every = 4
    sample_every = 5
    checkpoint_every = 3
    keep = 50
    """
)
STEPS = 20  # a step draws 6 images for each network

CHILD = textwrap.dedent(
    """
    import os, signal, sys
    import torch, ganzoo, ganzoo.training.checkpoints as checkpoints
    recipe, out, how, at, steps = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def reporter(event):
        print(type(event).__name__, event.step, flush=True)
        if how == type(event).__name__ and event.step == int(at):
            die()

    if how == "half-written":
        save = checkpoints.save_tensors
        def save_half(path, tensors, metadata, **options):
            save(path, tensors, metadata, **options)
            if f"-{int(at):08d}." in str(path.parent.name):
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
                die()
        checkpoints.save_tensors = save_half
    ganzoo.train(recipe, out=out, steps=int(steps), reporters=[reporter], precision="PRECISION", device="cpu")
    """
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.toml"
    path.write_text(RECIPE)
    return path


def start(recipe: Path, out: Path, how: str, at: int, steps: int, precision: str = "fp32") -> subprocess.Popen[str]:
    code = CHILD.replace("PRECISION", precision)
    command = [sys.executable, "-c", code, str(recipe), str(out), how, str(at), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(recipe: Path, out: Path, steps: int, precision: str = "fp32") -> None:
    ganzoo.train(recipe, out=out, steps=steps, precision=precision, device="cpu")


def bytes_of(run: Path) -> dict[str, bytes]:
    """Return everything in a run that must not depend on kills."""
    patterns = (
        "model/*",
        "samples/*.png",
        "evolution.gif",
        "checkpoints/*/state.safetensors",
        "recipe.toml",
        "run.json",
    )
    found = {str(path.relative_to(run)): path.read_bytes() for pattern in patterns for path in run.glob(pattern)}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = ("seconds", "images_per_second")
    kept = [{k: v for k, v in row.items() if k not in timings} for row in rows if row["event"] != "checkpoint"]
    found["metrics"] = json.dumps(kept).encode()
    return found


def assert_same(one: Path, other: Path) -> None:
    first, second = bytes_of(one), bytes_of(other)
    assert first.keys() == second.keys()
    assert "model/generator.safetensors" in first
    different = [name for name in first if first[name] != second[name]]
    assert different == []


@pytest.fixture(scope="module")
def straight(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(recipe, out, STEPS)
    return out


def test_killed_between_and_inside_checkpoints_gives_the_same_bytes(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for how, at in (("Samples", 0), ("Tick", 8), ("half-written", 9), ("Samples", 15), ("Checkpoint", 18)):
        child = start(recipe, out, how, at, STEPS)
        said, _ = child.communicate(timeout=120)
        assert child.returncode == -signal.SIGKILL, said
    finish(recipe, out, STEPS)
    assert_same(straight, out)
    assert not list((out / "checkpoints").glob(".*"))


def test_killed_at_random_moments_gives_the_same_bytes(recipe: Path, tmp_path: Path) -> None:
    steps, moments = 150, random.Random(0)
    finish(recipe, tmp_path / "straight", steps)
    kills = 0
    while kills < 3:
        child = start(recipe, tmp_path / "run", "never", 0, steps)
        assert child.stdout is not None
        assert child.stdout.readline().startswith("Started")
        time.sleep(moments.uniform(0.0, 0.5))
        child.kill()
        child.communicate()
        if child.returncode == 0:
            break  # it was done before the kill
        kills += 1
    finish(recipe, tmp_path / "run", steps)
    assert_same(tmp_path / "straight", tmp_path / "run")


def test_bf16_resumes_exactly_too(recipe: Path, tmp_path: Path) -> None:
    finish(recipe, tmp_path / "straight", STEPS, "bf16")
    child = start(recipe, tmp_path / "run", "Tick", 12, STEPS, "bf16")
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
    finish(recipe, tmp_path / "run", STEPS, "bf16")
    assert_same(tmp_path / "straight", tmp_path / "run")


def test_longer_training_goes_on_as_if_it_had_been_asked_for_at_once(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    finish(recipe, out, 9)
    finish(recipe, out, STEPS)
    one, other = bytes_of(straight), bytes_of(out)
    assert one["model/generator.safetensors"] == other["model/generator.safetensors"]
    assert one["checkpoints/step-00000020/state.safetensors"] == other["checkpoints/step-00000020/state.safetensors"]
