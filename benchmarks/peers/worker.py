"""The process in which a peer trains: it answers the commands that `ganzoo.benchmarking.training` answers.

{"open": {"peer": …, "recipe": table, "device": …, "threads": …, "folder": …}}
    → {"images_per_step": …, "seconds_per_step": …, "threads": …, "parameters": {…}, "version": …}
{"train": steps} → {"seconds": …, "parts": {}}
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ganzoo.benchmarking.serving import serve_standard_input
from peers.contract import Peer
from peers.networks import count

# Name → module, class, and the package that it is, where it is one.
PEERS = {
    "tutorial": ("peers.tutorial", "Tutorial", None),
    "torchgan": ("peers.torchgan", "TorchGAN", "torchgan"),
    "mimicry": ("peers.mimicry", "Mimicry", None),
}


def main() -> None:
    """Answer the commands on standard input."""
    peer: Peer | None = None

    def answer(command: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal peer
        if "open" in command:
            asked = command["open"]
            if asked["threads"] is not None:
                torch.set_num_threads(asked["threads"])
            module, name, package = PEERS[asked["peer"]]
            recipe, device = asked["recipe"], torch.device(asked["device"])
            batch_size = recipe["train"]["batch_size"]
            peer = getattr(importlib.import_module(module), name)(recipe, batch_size, device, Path(asked["folder"]))
            peer.train(1)
            return {
                "images_per_step": batch_size,
                "seconds_per_step": peer.train(1),
                "threads": torch.get_num_threads(),
                "parameters": {"generator": count(peer.generator), "discriminator": count(peer.discriminator)},
                "version": None if package is None else importlib.metadata.version(package),
            }
        assert peer is not None
        return {"seconds": peer.train(command["train"]), "parts": {}}

    serve_standard_input(answer)


if __name__ == "__main__":
    main()
