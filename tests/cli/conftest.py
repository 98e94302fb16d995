"""A tiny recipe and model folders for the tests of the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """# A recipe for tests.
schema_version = 1
name = "tiny"

[data]
source = "digits"
image_size = 8
channels = 1
num_classes = {classes}

[generator]
name = "dcgan"
latent_dim = 4
widths = [8]
kernel_size = 4

[discriminator]
name = "dcgan"
widths = [8]
kernel_size = 4

[objective]
name = "non_saturating"

[optimizer]
lr = 2e-4

[train]
batch_size = 16
kimg = 0.048
log_every = 1
sample_every = 2
checkpoint_every = 2
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a recipe that trains in a moment and returns its path."""

    def write(classes: int = 0) -> Path:
        path = tmp_path / f"tiny{classes}.toml"
        path.write_text(TINY.format(classes=classes), encoding="utf-8")
        return path

    return write


@pytest.fixture
def model(tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a finished run with an untrained model in ./runs and returns the run's folder."""

    def make(classes: int = 0, name: str = "00000-tiny") -> Path:
        import torch

        from ganzoo.building import build_generator, load_recipe
        from ganzoo.models import ModelConfig, save_model

        recipe = load_recipe(tiny(classes))
        run = tmp_path / "runs" / name
        (run / "model").mkdir(parents=True)
        torch.manual_seed(0)
        save_model(run / "model", ModelConfig(recipe, "raw", 3, 0.048), build_generator(recipe), None)
        return run

    return make
