"""Forward passes of a step: what the generator draws and what the discriminator says of it, everything random given.

Dropout masks and augmentations come from the samples' own draws; autocast is applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ganzoo.architectures.layers import dropout_draws
from ganzoo.augmentation.contract import Augmentation
from ganzoo.augmentation.probability import ProbabilityControl
from ganzoo.devices import Precision, autocast
from ganzoo.randomness import Draws, Stream
from ganzoo.training.fast_convolutions import fast_convolutions


@dataclass(frozen=True)
class Judgement:
    """What the discriminator said of a batch.

    Args:
        logits: (batch,), in the step's dtype.
        features: name → activations of the same pass, where they were asked for.
    """

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Judgement:
        """Return what was said of some of the images."""
        return Judgement(self.logits[start:stop], {name: values[start:stop] for name, values in self.features.items()})


class Forward:
    """Runs the two networks.

    Args:
        generator: z (and label) → image.
        discriminator: image (and label) → logit.
        precision: "fp32" leaves the networks' own dtype; "bf16" runs them under autocast.
        labelled: whether the discriminator is told labels.
        augmentation: of what the discriminator is shown, or None.
        probability: how likely the augmentation is to act.
        features: names of the discriminator's features to keep from each pass, which are paths of its submodules.
        fast: whether convolutions on a CPU may be computed in their fastest form rather than in torch's.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        precision: Precision,
        *,
        labelled: bool,
        augmentation: Augmentation | None = None,
        probability: ProbabilityControl | None = None,
        features: Sequence[str] = (),
        fast: bool = False,
    ) -> None:
        first = next(generator.parameters())
        self.device, self.dtype = first.device, first.dtype
        self._generator, self._discriminator, self._precision = generator, discriminator, precision
        self._labelled, self._features = labelled, tuple(features)
        self._augmentation, self._probability = augmentation, probability
        self._fast = fast and self.device.type == "cpu"

    def generate(self, z: torch.Tensor, label: torch.Tensor | None, draws: Draws) -> torch.Tensor:
        """Return fakes: (batch, C, H, W) in the step's dtype.

        Args:
            z: (batch, latent_dim).
            label: (batch,) or None.
            draws: of the samples of z.
        """
        with dropout_draws(self._generator, draws, Stream.DROPOUT_GENERATOR), self._computing():
            fake: torch.Tensor = _call(self._generator, z, label)
        return fake.to(self.dtype)

    def augment(self, image: torch.Tensor, draws: Draws, stream: Stream) -> torch.Tensor:
        """Return images as the discriminator shall see them: (batch, C, H, W).

        Args:
            image: (batch, C, H, W).
            draws: of their samples.
            stream: of the augmentation's numbers.
        """
        if self._augmentation is None or self._probability is None:
            return image
        numbers = draws.uniform(self._augmentation.numbers, stream=stream)
        return self._augmentation(image, numbers, self._probability.value.to(image.dtype))

    def judge(
        self, image: torch.Tensor, label: torch.Tensor | None, draws: Draws, stream: Stream, *, record: bool = False
    ) -> Judgement:
        """Return what the discriminator says of images as they are.

        Args:
            image: (batch, C, H, W), augmented already where they shall be.
            label: (batch,) or None; the discriminator is told it only where real images have labels.
            draws: of their samples, for dropout masks.
            stream: of the first dropout layer.
            record: whether to keep the features.
        """
        with (
            _recorded(self._discriminator, self._features if record else ()) as features,
            dropout_draws(self._discriminator, draws, stream),
            self._computing(),
        ):
            logits: torch.Tensor = _call(self._discriminator, image, label if self._labelled else None)
        return Judgement(logits.to(self.dtype), features)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Within it, networks compute in the step's precision."""
        with ExitStack() as stack:
            stack.enter_context(autocast(self._precision, self.device))
            if self._fast:
                stack.enter_context(fast_convolutions())
            yield


def _call(network: nn.Module, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = network(x) if label is None else network(x, label)
    return out


@contextmanager
def _recorded(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Within it, outputs of the submodules of these paths are kept in the dictionary that it gives."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            found[name] = output

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [keep(name) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within it, no gradient is kept for the network's parameters."""
    was = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for parameter, _ in was:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, needed in was:
            parameter.requires_grad_(needed)
