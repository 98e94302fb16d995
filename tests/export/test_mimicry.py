"""torch-mimicry's own models, where the package is installed: they are converted and draw and judge as before."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from foreign_nets import z_of
from torch import nn

from ganzoo.errors import WeightsError
from ganzoo.export.conversion.converting import convert
from ganzoo.models import load_model

pytestmark = pytest.mark.slow

_FAMILIES = {
    "SNGAN": ("sngan", (32, 48, 64, 128)),
    "WGANGP": ("wgan_gp", (32, 48, 64, 128)),
    "DCGAN": ("dcgan", (32, 48, 64, 128)),
    "SSGAN": ("ssgan", (32, 48, 64, 128)),
    "InfoMaxGAN": ("infomax_gan", (32, 48, 64, 128)),
    "CGANPD": ("cgan_pd", (32, 128)),
}
_CLASSES, _LATENT = 7, 24


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def module(name: str) -> Any:
    """Return one of its modules; of its package the nets alone are imported, which need nothing but torch."""
    found = importlib.util.find_spec("torch_mimicry") if "torch_mimicry" not in sys.modules else None
    if found is not None and found.submodule_search_locations:
        for bare, inside in (("torch_mimicry", ""), ("torch_mimicry.nets", "nets")):
            sys.modules[bare] = ModuleType(bare)
            sys.modules[bare].__path__ = [str(Path(one) / inside) for one in found.submodule_search_locations]
    return pytest.importorskip(f"torch_mimicry.nets.{name}", exc_type=ImportError)


def trained(network: nn.Module, *inputs: torch.Tensor) -> Any:
    """Return a network whose norms are as after a while of training."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    module.weight.normal_(1, 0.3)
                    module.bias.normal_(0, 0.3)
        for _ in range(3):  # so that spectral norm's vectors are near the right ones
            network.train()(*inputs)
    return network.eval()


@pytest.mark.parametrize(("family", "size"), [(name, size) for name, (_, sizes) in _FAMILIES.items() for size in sizes])
def test_a_model_of_torch_mimicrys_draws_and_judges_the_same(family: str, size: int, tmp_path: Path) -> None:
    package = _FAMILIES[family][0]
    nets = module(f"{package}.{package}_{size}")
    torch.manual_seed(size)
    classes = _CLASSES if family == "CGANPD" else 0
    options = {"num_classes": classes} if classes else {}
    label = [torch.arange(5) % classes] if classes else []
    drawing = getattr(nets, f"{family}Generator{size}")(nz=_LATENT, ngf=32, **options)
    judging = getattr(nets, f"{family}Discriminator{size}")(ndf=32, **options)
    trained(drawing, torch.randn(5, _LATENT), *label)
    trained(judging, torch.randn(5, 3, size, size), *label)
    optimizer = torch.optim.Adam(drawing.parameters())
    drawing.save_checkpoint(str(tmp_path / "netG"), 100, optimizer, "netG_100_steps.pth")
    judging.save_checkpoint(str(tmp_path / "netD"), 100, None, "netD_100_steps.pth")
    told = {} if family == "InfoMaxGAN" else {"discriminator": tmp_path / "netD" / "netD_100_steps.pth"}
    report = convert(tmp_path / "netG" / "netG_100_steps.pth", tmp_path / "model", **told)
    assert (report.image_size, report.num_classes, report.latent_dim) == (size, classes, _LATENT)
    model = load_model(tmp_path / "model")
    z, images = z_of(5, _LATENT), torch.rand(5, 3, size, size) * 2 - 1
    with torch.no_grad():
        wanted, drawn = drawing(z, *label), model.generator(z, *label)
        assert wanted.std() > 0.05
        assert float((wanted - drawn).abs().max()) <= 1e-5
        if model.discriminator is not None and family != "WGANGP":  # which has the mean where others have the sum
            judged = judging(images.clone(), *label)
            logits = (judged[0] if isinstance(judged, tuple) else judged).flatten()
            torch.testing.assert_close(model.discriminator(images, *label), logits, rtol=1e-5, atol=1e-5)
    assert (model.discriminator is None) == (family == "InfoMaxGAN")


def test_self_attention_is_refused(tmp_path: Path) -> None:
    drawing = module("sagan.sagan_32").SAGANGenerator32(num_classes=3, nz=_LATENT, ngf=32)
    drawing.save_checkpoint(str(tmp_path), 1, None, "netG.pth")
    with pytest.raises(WeightsError, match="is self-attention, which ganzoo's residual family has not"):
        convert(tmp_path / "netG.pth", tmp_path / "model")
