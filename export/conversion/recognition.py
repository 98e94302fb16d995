"""Which networks a checkpoint holds, told by the names and shapes of its tensors alone.

Every subtree of names is tried, from the outermost inwards, so that dictionaries around a network ("state_dict",
"generator", "g_ema" …) and prefixes of its names ("module.", "_orig_mod.", "netG." …) need no list: what a network of a
known family stands under is its place. Whose net it is is told by how its layers are called; what names
and shapes cannot tell is taken by that net's convention, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ganzoo.errors import WeightsError
from ganzoo.export.conversion.chains import Chain, read_discriminator, read_generator
from ganzoo.export.conversion.foreign import Checkpoint, Names
from ganzoo.export.conversion.layers import Layer, NotRecognised, common_prefix, orders, read_layers, with_norms
from ganzoo.export.conversion.networks import Reading, ReadNetwork, Role
from ganzoo.export.conversion.norms import normed
from ganzoo.export.conversion.residual import is_residual, read_residual

EMA_NAME = re.compile(r"(?i:(^|_)(ema|avg|average|averaged|shadow|swa|running)($|_)|^ema)|[a-zDG]E(MA|ma)$")
"""How an average of weights over training is called."""

_OF_DISCRIMINATOR = re.compile(r"(^|_)(net)?(d|dis|disc|discriminator|critic)(_|$)", re.IGNORECASE)
_OF_GENERATOR = re.compile(r"(^|_)(net)?(g|gs|gen|generator)(_|$)", re.IGNORECASE)
_LISTED = 6
_MOST_SUBTREES = 20_000
_DEEPEST = 32


@dataclass(frozen=True)
class Architecture:
    """A published family of nets, and what its weights do not tell.

    Args:
        title: what it is called.
        generator, discriminator: activations between the layers.
        last: what follows the discriminator's last layer there.
    """

    title: str
    generator: str
    discriminator: str
    last: str


TUTORIAL = Architecture("the PyTorch tutorial's DCGAN", "relu", "leaky_relu_0.2", "sigmoid")
TORCHGAN = Architecture("torchgan's DCGAN", "leaky_relu_0.2", "leaky_relu_0.2", "leaky ReLU")
OWN = Architecture("ganzoo's DCGAN", "relu", "leaky_relu_0.2", "")
MIMICRY = Architecture("torch-mimicry's ResNets", "relu", "relu", "")
PLAIN = Architecture("a DCGAN of unknown make", "relu", "leaky_relu_0.2", "sigmoid")

_OWN_PARTS = {TUTORIAL.title: ("main",), TORCHGAN.title: ("model",)}  # of their nets: names, not places
_OWN_NAME = re.compile(
    r"hidden\.[0-9]{1,3}\.(linear|norm)|project|project_norm|layers\.[0-9]{1,3}\.(conv|norm)|output|embedding"
)
_OWN_ORDER = ("hidden", "project", "project_norm", "layers")


@dataclass(frozen=True)
class Found:
    """A network in a checkpoint.

    Args:
        network: its layers, read.
        architecture: whose net it is.
        place: where it lies in the file.
        prefix: of its names there, which was stripped.
        ema: whether it is an average of the weights over training.
        dtypes: the kinds of floating point in it.
    """

    network: ReadNetwork
    architecture: Architecture
    place: Names
    prefix: Names
    ema: bool
    dtypes: tuple[str, ...]

    @property
    def role(self) -> Role:
        """Which side it is."""
        return self.network.role

    @property
    def where(self) -> str:
        """Where it lies, for people: "state_dict → generator.module"."""
        return shown_place(self.place, self.prefix)


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint is taken for.

    Args:
        generator: the network that draws.
        discriminator: the one that judges, where there is one.
        reading, discriminator_reading: their image sizes and strides.
        notes: what was chosen, left out or taken by convention, in sentences.
    """

    generator: Found
    discriminator: Found | None
    reading: Reading
    discriminator_reading: Reading | None
    notes: tuple[str, ...] = field(default=())


def shown_place(place: Names, prefix: Names) -> str:
    """Return where in a file something lies, for people.

    Args:
        place: the dictionaries around it.
        prefix: of its names there.
    """
    return " → ".join((*place, *([".".join(prefix)] if prefix else []))) or "the file itself"


def find_networks(checkpoint: Checkpoint) -> tuple[list[Found], list[str]]:
    """Return all networks of the family in a checkpoint, and why other subtrees with convolutions are none.

    Args:
        checkpoint: as `read_checkpoint` gives it.
    """
    search = _Search(checkpoint)
    search.visit((), checkpoint.tensors)
    return search.found, search.reasons


class _Search:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.found: list[Found] = []
        self.reasons: list[str] = []
        self._visits = 0

    def visit(self, at: Names, tensors: Mapping[Names, torch.Tensor]) -> None:
        """Look for networks in a subtree; `tensors` are named in full."""
        self._visits += 1
        if (
            self._visits > _MOST_SUBTREES
            or len(at) > _DEEPEST
            or sum(tensor.dim() >= 2 for tensor in tensors.values()) < 2
        ):
            return
        branches: dict[str, dict[Names, torch.Tensor]] = {}
        for names, tensor in tensors.items():
            if len(names) > len(at):
                branches.setdefault(names[len(at)], {})[names] = tensor
        if len(branches) == 1:  # nothing but a prefix
            ((part, inside),) = branches.items()
            self.visit((*at, part), inside)
            return
        try:
            self.found.append(_network(self.checkpoint, at, tensors))
            return
        except NotRecognised as reason:
            if any(tensor.dim() == 4 for tensor in tensors.values()):
                self.reasons.append(f"{'.'.join(at) or 'the whole'}: {reason}")
        for part, inside in branches.items():
            self.visit((*at, part), inside)


def _network(checkpoint: Checkpoint, at: Names, tensors: Mapping[Names, torch.Tensor]) -> Found:
    """Return the network that a subtree is.

    Raises:
        NotRecognised: none.
    """
    relative = {names[len(at) :]: tensor for names, tensor in tensors.items()}
    if is_residual(relative):
        return _found(checkpoint, at, read_residual(relative), MIMICRY, tensors)
    parts = read_layers(relative)
    dotted = {".".join(part.name) for part in parts}
    own = all(_OWN_NAME.fullmatch(name) for name in dotted) and {"output"} < dotted
    embedding: Layer | None = None
    if own:
        layers = [part for part in parts if isinstance(part, Layer)]
        embedding = next((layer for layer in layers if layer.name == ("embedding",)), None)
        parts = sorted((part for part in parts if part.name != ("embedding",)), key=_own_key("project" in dotted))
    failures: list[str] = []
    for order in [parts] if own else orders(parts):
        for role in _likely_roles(at):
            try:
                if role == "generator":
                    chain = normed(read_generator(with_norms(order, "output"), own))
                else:
                    chain = normed(read_discriminator(with_norms(order, "ends"), embedding, own))
            except NotRecognised as reason:
                failures.append(f"as a {role}, {reason}")
                continue
            architecture = OWN if own else _architecture(at, chain)
            own_part = _OWN_PARTS.get(architecture.title, ())
            if own_part and at[-1:] == own_part and at not in checkpoint.containers:
                at = at[:-1]
            return _found(checkpoint, at, chain, architecture, tensors)
    raise NotRecognised("; ".join(dict.fromkeys(failures[:2])))


def _own_key(generator: bool) -> Any:
    order = _OWN_ORDER if generator else ("layers", "hidden")

    def key(part: Any) -> tuple[int, int, int]:
        first = part.name[0]
        rank = order.index(first) if first in order else len(order)
        number = int(part.name[1]) if len(part.name) > 1 else 0
        return rank, number, int(part.name[-1] == "norm")

    return key


def _likely_roles(at: Names) -> tuple[Role, Role]:
    """The two sides, the one that the place is called after first; it decides where shapes fit both."""
    judges = [bool(_OF_DISCRIMINATOR.search(part)) for part in at]
    draws = [bool(_OF_GENERATOR.search(part)) for part in at]
    return ("discriminator", "generator") if any(judges) and not any(draws) else ("generator", "discriminator")


def _found(
    checkpoint: Checkpoint,
    at: Names,
    network: ReadNetwork,
    architecture: Architecture,
    tensors: Mapping[Names, torch.Tensor],
) -> Found:
    place, prefix = checkpoint.place(at)
    dtypes = {str(one.dtype).removeprefix("torch.") for one in tensors.values() if one.is_floating_point()}
    ema = any(EMA_NAME.search(part) for part in at)
    return Found(network, architecture, place, prefix, ema, tuple(sorted(dtypes)))


def _architecture(at: Names, chain: Chain) -> Architecture:
    """Return whose net it is: of the tutorial's layers each is called by a number, of torchgan's by two."""
    names = [layer.name for layer in chain.layers]
    shared = len(common_prefix(names))
    rest = [name[shared:] for name in names]
    if all(len(name) == 1 and name[0].isdecimal() for name in rest) and "main" in (*at, *names[0][:shared]):
        return TUTORIAL
    fours = set(chain.kernels) <= {4} and not chain.ends_dense
    generators = all(len(name) == 2 and all(part.isdecimal() for part in name) for name in rest)
    if fours and chain.role == "generator" and generators and "model" in (*at, *names[0][:shared]):
        return TORCHGAN
    if fours and {name[:1] for name in names} == {("model",), ("disc",)}:
        return TORCHGAN
    return PLAIN


def recognise(checkpoint: Checkpoint, judges: Sequence[Found] | None = None) -> Recognised:
    """Return what a checkpoint is taken for.

    Args:
        checkpoint: as `read_checkpoint` gives it.
        judges: discriminators of another file, to choose from instead of this one's.

    Raises:
        WeightsError: no generator of a known kind in it, or several; the message lists what is in it.
    """
    found, reasons = find_networks(checkpoint)
    notes: list[str] = []
    generator = _chosen(checkpoint, found, "generator", notes)
    if generator is None:
        raise not_recognised(checkpoint, found, reasons)
    discriminator = _chosen(checkpoint, found if judges is None else judges, "discriminator", notes)
    if not generator.ema and (averages := _unknown_averages(checkpoint)):
        notes.append(
            f"Left out: {', '.join(averages)}, by the name an average of weights, but no network that is known."
        )
    reading, judged = _readings(generator, discriminator, notes)
    if judged is None:
        discriminator = None
    return Recognised(generator, discriminator, reading, judged, tuple(notes))


def _unknown_averages(checkpoint: Checkpoint) -> list[str]:
    """Return the places in a checkpoint that are called averages, the outermost of each."""
    places = [names[:-1] for names in checkpoint.tensors] + list(checkpoint.unnamed)
    found: dict[str, None] = {}
    for names in places:
        for index, part in enumerate(names):
            if EMA_NAME.search(part):
                found[".".join(names[: index + 1])] = None
                break
    return list(found)[:_LISTED]


def _chosen(checkpoint: Checkpoint, found: Iterable[Found], role: Role, notes: list[str]) -> Found | None:
    """Return the one network of a role to convert: of generators the average, of discriminators the trained one.

    Raises:
        WeightsError: several are left.
    """
    wanted_ema = role == "generator"
    candidates = [one for one in found if one.role == role]
    preferred = [one for one in candidates if one.ema == wanted_ema] or candidates
    if len(preferred) > 1:
        places = ", ".join(f"{one.where}" for one in preferred[:_LISTED])
        raise WeightsError(
            f"{checkpoint.path} holds {len(preferred)} {role}s: {places}.",
            "Save the one that is wanted in a file of its own.",
        )
    if preferred and len(candidates) > 1:
        (one,) = preferred
        left = ", ".join(other.where for other in candidates if other is not one)
        what = "the exponential moving average" if wanted_ema else "the trained discriminator"
        notes.append(f"Taken: {what} ({one.where}), not {left}.")
    return preferred[0] if preferred else None


def _readings(generator: Found, discriminator: Found | None, notes: list[str]) -> tuple[Reading, Reading | None]:
    """Return the likeliest image size, of those at which both sides agree where there are two."""
    first = generator.network.readings[0]
    if discriminator is not None:
        for reading in generator.network.readings:
            for judged in discriminator.network.readings:
                fits = judged.image_size == reading.image_size
                if fits and discriminator.network.channels == generator.network.channels:
                    same = discriminator.network.num_classes == generator.network.num_classes
                    if same:
                        return reading, judged
        judge = discriminator.network
        notes.append(
            f"Left out: the discriminator ({discriminator.where}), which judges images of {judge.channels} "
            f"channel(s) and {judge.readings[0].image_size} pixels, not the generator's {generator.network.channels} "
            f"and {first.image_size}."
        )
    others = sorted(one.image_size for one in generator.network.readings[1:] if one.usual)
    if others:
        notes.append(
            f"By convention: images of {first.image_size} pixels; the shapes would also fit "
            f"{', '.join(map(str, others))} (--recipe says otherwise)."
        )
    return first, None


def not_recognised(checkpoint: Checkpoint, found: Iterable[Found], reasons: list[str]) -> WeightsError:
    """Return the error that tells what is in a checkpoint that holds no generator of a known kind."""
    tensors = checkpoint.tensors
    if not tensors:
        more = (
            f", but a list of tensors without names ({'.'.join(checkpoint.unnamed[0])})" if checkpoint.unnamed else ""
        )
        return WeightsError(f"{checkpoint.path} holds no named tensors{more}.", "A state dict is what is needed.")
    if any(one.role == "discriminator" for one in found):
        return WeightsError(
            f"{checkpoint.path} holds a discriminator and no generator; a model draws images.",
            "Convert the generator's file; --discriminator takes this one along.",
        )
    shown = ", ".join(
        f"{_short('.'.join(names))} {tuple(tensor.shape)}" for names, tensor in list(tensors.items())[:_LISTED]
    )
    more = f" and {len(tensors) - _LISTED} more" if len(tensors) > _LISTED else ""
    why = f" Nearest: {_short(reasons[0], 200)}." if reasons else ""
    return WeightsError(
        f"{checkpoint.path} holds no generator that is known. Its tensors: {shown}{more}. Looked for: the PyTorch "
        f"tutorial's DCGAN (main.0.weight …), torchgan's (model.0.0.weight …), ganzoo's own (project.weight, "
        f"layers.0.conv.weight …), torch-mimicry's ResNets (block2.c1.weight …), and other chains of transposed "
        f"convolutions with kernels of 3 to 5.{why}",
        "If a recipe describes it, name it: --recipe NAME|FILE.",
    )


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
