"""Several GPUs train one model by NCCL; skipped where fewer than two are here.

The processes are started by `ganzoo train --gpus`, as a user does: CUDA cannot be used in forks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import assert_same, bytes_of, rows, states, weights

pytestmark = pytest.mark.gpu

RECIPE = """
schema_version = 1
name = "tiny"
[data]
source = "digits"
image_size = 16
channels = 1
[generator]
name = "dcgan"
latent_dim = 8
widths = [16, 8]
kernel_size = 4
norm = "{norm}"
[discriminator]
name = "dcgan"
widths = [8, 16]
kernel_size = 4
norm = "{norm}"
[objective]
name = "non_saturating"
[optimizer]
lr = 2e-4
[train]
batch_size = 64
kimg = 1.28
precision = "fp32"
deterministic = true
log_every = 1
checkpoint_every = 10
sample_every = 10
sync_batch_norm = {synchronised}
"""


@pytest.fixture(scope="module")
def gpus() -> int:
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"needs two GPUs, and {count} is here")
    return 1 << (count.bit_length() - 1)  # a power of two, which every batch can be shared by


def train(folder: Path, out: str, count: int, norm: str = "none", synchronised: bool = False) -> Path:
    recipe = folder / f"{norm}-{synchronised}.toml"
    recipe.write_text(RECIPE.format(norm=norm, synchronised=str(synchronised).lower()))
    command = [sys.executable, "-m", "ganzoo", "train", str(recipe), "--out", out]
    device = ["--gpus", str(count)] if count > 1 else ["--device", "cuda"]
    done = subprocess.run([*command, *device], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done:") == 1
    return folder / out


def statistics(run: Path) -> list[dict[str, float]]:
    return [row["statistics"] for row in rows(run) if row["event"] == "tick"]


@pytest.mark.parametrize(("norm", "synchronised"), [("none", False), ("batch", True)])
def test_several_gpus_learn_what_one_learns(gpus: int, norm: str, synchronised: bool, tmp_path: Path) -> None:
    """Without batch norm, or with it over the whole batch; to the rounding of sums."""
    one = statistics(train(tmp_path, "one", 1, norm, synchronised))
    several = statistics(train(tmp_path, "several", gpus, norm, synchronised))
    assert len(one) == len(several) == 20
    for before, after in zip(one, several, strict=True):
        for name in ("loss/discriminator", "loss/generator", "gradient/generator", "gradient/discriminator"):
            assert after[name] == pytest.approx(before[name], rel=1e-3), name


def test_the_same_command_gives_the_same_bytes_and_goes_on_exactly(gpus: int, tmp_path: Path) -> None:
    straight, run = train(tmp_path, "straight", gpus, "batch"), train(tmp_path, "run", gpus, "batch")
    assert_same(bytes_of(straight), bytes_of(run))
    for folder in (run / "model", run / "checkpoints/step-00000020"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    train(tmp_path, "run", gpus, "batch")
    assert_same(weights(straight), weights(run))
    assert_same(states(straight), states(run))
    assert json.loads((run / "run.json").read_text())["processes"] == gpus


def test_samples_of_several_gpus_are_those_of_one(gpus: int, tmp_path: Path) -> None:
    run = train(tmp_path, "run", 1)
    words = ["sample", str(run), "--seeds", "0-99", "--batch-size", "8"]
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={gpus}", "-m", "ganzoo"]
    for command, out in (([sys.executable, "-m", "ganzoo"], "one.npz"), (launcher, "several.npz")):
        subprocess.run([*command, *words, "--out", out], cwd=tmp_path, check=True, timeout=300, env=dict(os.environ))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "several.npz").read_bytes()
