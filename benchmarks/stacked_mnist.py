"""How many of StackedMNIST's 1,000 modes recipes cover after the same number of real images.

    python benchmarks/stacked_mnist.py dcgan-mnist dcgan-mnist-modern --kimg 64 --data stackedmnist:MNIST_FOLDER

PacGAN's protocol (Lin et al., arXiv 1712.04086, section 4.1): images of three random digits, one a colour; 26,000
samples; a classifier of MNIST's digits, trained here, reads each colour; counted are the triples that occur, and the
Kullback-Leibler divergence of their frequencies from the uniform distribution. The same figures for 26,000 real triples
stand beside them: what a perfect generator would get. Each recipe is trained as it is, but with three channels, on the
CPU or GPU at hand. Runs and the classifier are kept under --out, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import ganzoo
from ganzoo.data import open_source
from ganzoo.pictures import to_uint8

MODES, SAMPLES = 1000, 26_000
Pixels = npt.NDArray[np.uint8]


def classifier() -> nn.Sequential:
    """Return a small convolutional net: (n, 1, 28, 28) → (n, 10)."""
    layers: list[nn.Module] = []
    for into, out, pool in ((1, 32, True), (32, 64, True), (64, 64, False)):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 10))


def digits(pixels: Pixels) -> torch.Tensor:
    """Return uint8 images (n, 28, 28) as (n, 1, 28, 28) in [-1, 1]."""
    return torch.from_numpy(pixels)[:, None].float() / 127.5 - 1.0


def singles(source: str) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return all images (n, 28, 28) and labels of a source of MNIST's kind."""
    with open_source(source) as opened:
        samples = [opened.read(index) for index in range(len(opened))]
    return np.stack([np.asarray(one.image).reshape(28, 28) for one in samples]), np.array(
        [one.label for one in samples]
    )


def train_classifier(source: str, epochs: int = 4) -> tuple[nn.Sequential, float]:
    """Return a classifier of single digits and its accuracy on every sixth image, which it was not trained on."""
    pixels, labels = singles(source)
    held = np.arange(len(pixels)) % 6 == 0
    torch.manual_seed(0)
    network, x, y = classifier(), digits(pixels[~held]), torch.from_numpy(labels[~held])
    steps = len(x) // 128
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x))[: steps * 128].view(steps, 128):
            shift = tuple(int(one) for one in torch.randint(-2, 3, (2,)))
            loss = F.cross_entropy(network(torch.roll(x[chosen], shift, (2, 3))), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return network, float((read(network, pixels[held, :, :, None])[:, 0] == labels[held]).mean())


@torch.no_grad()
def read(network: nn.Module, pixels: Pixels) -> npt.NDArray[np.int64]:
    """Return the digit of each colour of images (n, 28, 28, C): (n, C)."""
    flat = pixels.transpose(0, 3, 1, 2).reshape(-1, 28, 28)
    parts = [network(digits(flat[first : first + 1000])).argmax(1) for first in range(0, len(flat), 1000)]
    return torch.cat(parts).view(len(pixels), -1).numpy()


def modes(network: nn.Module, pixels: Pixels) -> tuple[int, float]:
    """Return how many modes images (n, 28, 28, 3) show, and their frequencies' divergence from uniform, in nats."""
    counts = np.bincount(read(network, pixels) @ np.array([100, 10, 1]), minlength=MODES)
    shares = counts[counts > 0] / counts.sum()
    return int((counts > 0).sum()), float((shares * np.log(shares * MODES)).sum())


def real(source: str) -> Pixels:
    """Return real triples, taken evenly over the source."""
    with open_source(source) as opened:
        chosen = np.linspace(0, len(opened) - 1, SAMPLES).astype(int)
        return np.stack([np.asarray(opened.read(int(index)).image) for index in chosen])


def generated(model: ganzoo.Model) -> Pixels:
    """Return the images of seeds 0 to 25,999."""
    parts = [to_uint8(model.sample(2000, seed=first)) for first in range(0, SAMPLES, 2000)]
    return np.concatenate(parts)


def main() -> None:
    """Train, count, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("recipes", nargs="+", help="names or TOML files of 28×28 recipes")
    parser.add_argument("--kimg", type=float, default=64.0, help="length of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings; one run for each")
    parser.add_argument("--data", default="stackedmnist", help="stackedmnist, or stackedmnist:PATH")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="changes for all recipes")
    parser.add_argument("--out", type=Path, default=Path("stacked-mnist"), help="folder of runs and results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    weights = asked.out / "classifier.safetensors"
    _, colon, path = asked.data.partition(":")
    if not weights.exists():
        network, accuracy = train_classifier(path if colon else "mnist")
        save_file(network.state_dict(), weights)
        print(f"the classifier is right on {accuracy:.2%} of the digits that it was not trained on")
    network = classifier().eval()
    network.load_state_dict(load_file(weights))
    rows = [("real triples", "", *modes(network, real(asked.data)))]
    changes = ["data.channels=3", *asked.overrides]
    for recipe in asked.recipes:
        for seed in asked.seeds:
            name = re.sub(r"\W+", "-", f"{Path(recipe).stem}-{asked.kimg:g}-{seed}")
            result = ganzoo.train(
                recipe, data=asked.data, kimg=asked.kimg, seed=seed, overrides=changes, out=asked.out / name
            )
            model = ganzoo.load_pretrained(str(result.model))
            rows.append((Path(recipe).stem, str(seed), *modes(network, generated(model))))
            print(*rows[-1], flush=True)
    (asked.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"\n{'recipe':<28}{'seed':>5}{'modes':>7}{'KL':>8}   after {asked.kimg:g} kimg")
    for label, seed, found, divergence in rows:
        print(f"{label:<28}{seed:>5}{found:>7}{divergence:>8.3f}")


if __name__ == "__main__":
    main()
