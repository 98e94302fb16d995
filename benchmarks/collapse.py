"""What a discriminator that is too strong does to a generator, what says so, and what cures it.

    python benchmarks/collapse.py --data stackedmnist:MNIST_FOLDER

The recipe dcgan-mnist on StackedMNIST, five times for the same number of images: as it is; with a discriminator that
learns ten times as fast and a generator without batch norm; and this one again with one thing changed: batch norm in
the generator, the discriminator's old learning rate, or a relativistic objective with zero-centred penalties on the
discriminator's gradient. Reported are the alarms that fired and when, and how many of the 1,000 modes are there
(PacGAN's protocol). Runs are kept under --out; a second call goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ganzoo
from ganzoo.pictures import grid, save_png, to_uint8
from ganzoo.training.reporters import read_metrics

SAMPLES = 26_000
ROW = 16  # images of each setting in the picture
FAST = "optimizer.discriminator.lr=2e-3"
BARE = 'generator.norm="none"'
SETTINGS: dict[str, list[str]] = {
    "as it is": [],
    "too strong": [FAST, BARE],
    "batch norm again": [FAST],
    "old learning rate": [BARE],
    "penalties": [
        FAST,
        BARE,
        'objective.name="relativistic"',
        'discriminator.norm="none"',
        'penalty=[{where="real", rule="zero_centered", weight=1.0}, {where="fake", rule="zero_centered", weight=1.0}]',
    ],
}


def alarms(run: Path) -> list[str]:
    """Return the alarms of a run, each with its step."""
    rows = read_metrics(run / "metrics.jsonl")
    return [f"{row['name']} at step {row['step']:,}" for row in rows if row["event"] == "alarm"]


def measure(run: Path, data: str) -> dict[str, Any]:
    """Return what became of a run: modes, their divergence from uniform in nats, MS-SSIM, alarms, diversity."""
    found = ganzoo.evaluate(str(run), data, metrics=["modes", "ms_ssim"], count=SAMPLES)
    modes, divergence, similarity = (
        next(value for value in found.values if value.name.startswith(stem)) for stem in ("modes", "kl", "ms-ssim")
    )
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["event"] == "samples"]
    return {
        "modes": modes.value,
        "kl": divergence.value,
        "ms_ssim": similarity.value,
        "diversity": rows[-1]["diversity"],
        "alarms": alarms(run),
        "real": {"modes": modes.reference, "kl": divergence.reference, "ms_ssim": similarity.reference},
    }


def main() -> None:
    """Train, measure, print a table; write it as JSON, with a picture of all settings."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--kimg", type=float, default=64.0, help="length of each training")
    parser.add_argument("--data", default="stackedmnist", help="stackedmnist, or stackedmnist:PATH")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--out", type=Path, default=Path("collapse"), help="folder of runs and results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows, pictures = {}, []
    for name, changes in SETTINGS.items():
        run = ganzoo.train(
            "dcgan-mnist",
            data=asked.data,
            kimg=asked.kimg,
            seed=asked.seed,
            overrides=["data.channels=3", "train.sample_every=100", *changes],
            out=asked.out / f"{name.replace(' ', '-')}-{asked.kimg:g}-{asked.seed}",
        )
        rows[name] = measure(run.run, asked.data)
        pictures.append(to_uint8(ganzoo.load_pretrained(str(run.model)).sample(ROW, seed=0)))
        print(name, rows[name], flush=True)
    (asked.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sheet = grid(np.concatenate(pictures), columns=ROW)
    save_png(sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST), asked.out / "collapse.png")
    print(f"\n{'setting':<22}{'modes':>7}{'KL':>8}{'MS-SSIM':>9}  alarms      after {asked.kimg:g} kimg")
    for name, one in rows.items():
        said = "; ".join(one["alarms"]) or "none"
        print(f"{name:<22}{one['modes']:>7.0f}{one['kl']:>8.3f}{one['ms_ssim']:>9.3f}  {said}")
    real = rows["as it is"]["real"]
    print(f"{'real triples':<22}{real['modes']:>7.0f}{real['kl']:>8.3f}{real['ms_ssim']:>9.3f}")


if __name__ == "__main__":
    main()
