"""Registries: names of networks, objectives, penalties, regularizers, augmentations, sources … and what they stand for.

A registry holds three kinds of entries, looked up in this order:

1. what was registered in this process with a decorator,
2. ganzoo's own, kept as "module:attribute" so that listing the names imports nothing,
3. third parties' packages, found through entry points and loaded when their name is asked for.

`GANZOO_PLUGINS=0` turns the third kind off. A package that fails to load is reported with its name when one of its
entries is asked for, and breaks nothing else.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import importlib.metadata
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ganzoo.errors import PluginError, UnknownNameError, UsageError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Entry:
    """One name of a registry, and whose it is: "ganzoo", a package's name, or "registered" (in this process)."""

    name: str
    origin: str


@functools.cache
def _entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def plugins_enabled() -> bool:
    """Return whether third parties' entry points are looked at (`GANZOO_PLUGINS`, default 1)."""
    return os.environ.get("GANZOO_PLUGINS", "1") != "0"


def natural_key(name: str) -> list[int | str]:
    """Return a sort key that puts "dcgan-9" before "dcgan-64"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


class Registry(Generic[T]):
    """Names and what they stand for.

    Args:
        kind: what an entry is, in the singular, for messages: "generator".
        group: the entry-point group of third parties' packages.
        builtin: ganzoo's own entries, name → "module:attribute".
    """

    def __init__(self, kind: str, *, group: str, builtin: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin or {})
        self._registered: dict[str, T] = {}

    def register(self, name: str, entry: R) -> R:
        """Register an entry under a name and return it.

        A name that is taken is an error, except for the same class or function defined again (a notebook cell run
        twice), and for a package that registers what its entry point of that name stands for.

        Raises:
            UsageError: the name is taken by something else.
        """
        if name in self._registered:
            if not _same_definition(self._registered[name], entry):
                raise UsageError(
                    f"A {self.kind} named {name!r} is registered already: {_where(self._registered[name])}.",
                    "Choose another name.",
                )
        elif name in self._builtin:
            raise UsageError(
                f"{name!r} is the name of one of ganzoo's own: {self._builtin[name]}.", "Choose another name."
            )
        elif foreign := [
            point for point in self._plugin_points() if point.name == name and not _of_one_package(point, entry)
        ]:
            raise UsageError(
                f"A {self.kind} named {name!r} is offered by the package {_package(foreign[0])!r}.",
                "Choose another name.",
            )
        self._registered[name] = entry  # type: ignore[assignment]
        return entry

    def decorator(self, name: str) -> Callable[[R], R]:
        """Return the decorator that registers a class or function under `name`."""
        return lambda entry: self.register(name, entry)

    def entries(self) -> list[Entry]:
        """Return all names with their origin, in natural order; nothing is imported."""
        found = dict.fromkeys(self._builtin, "ganzoo")
        for point in self._plugin_points():
            found.setdefault(point.name, _package(point))
        for name in self._registered:
            found[name] = "registered"
        return [Entry(name, found[name]) for name in sorted(found, key=natural_key)]

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell pattern, in natural order; nothing is imported."""
        return [entry.name for entry in self.entries() if fnmatch.fnmatchcase(entry.name, pattern)]

    def __contains__(self, name: object) -> bool:
        return any(entry.name == name for entry in self.entries())

    def get(self, name: str) -> T:
        """Return what a name stands for; a built-in or third party's entry is imported now.

        Raises:
            UnknownNameError: no such name; the nearest is offered.
            PluginError: the package that holds the entry cannot be loaded.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            entry: T = getattr(importlib.import_module(module), attribute)
            return entry
        points = [point for point in self._plugin_points() if point.name == name]
        if len(points) > 1:
            packages = " and ".join(sorted(_package(point) for point in points))
            raise PluginError(
                f"The {self.kind} {name!r} is offered by several packages: {packages}.",
                "Uninstall all but one of them.",
            )
        if points:
            return self._load(points[0])
        raise UnknownNameError(self.kind, name, self.names())

    def name_of(self, entry: object) -> str | None:
        """Return the name under which a registered class or function goes, or None."""
        return next((name for name, known in self._registered.items() if known is entry), None)

    def _plugin_points(self) -> list[importlib.metadata.EntryPoint]:
        if not plugins_enabled():
            return []
        taken = set(self._builtin)
        return [point for point in _entry_points(self.group) if point.name not in taken]

    def _load(self, point: importlib.metadata.EntryPoint) -> T:
        try:
            loaded: T = point.load()
        except (Exception, SystemExit) as error:  # a third party's module may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
            raise PluginError(
                f"The {self.kind} {point.name!r} of the package {_package(point)!r} cannot be loaded: {reason}.",
                "Update or uninstall that package; GANZOO_PLUGINS=0 turns all plug-ins off.",
            ) from error
        return loaded


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value.partition(":")[0]


def _of_one_package(point: importlib.metadata.EntryPoint, entry: object) -> bool:
    return point.value.partition(":")[0].partition(".")[0] == str(getattr(entry, "__module__", "")).partition(".")[0]


def _same_definition(old: Any, new: Any) -> bool:
    def identity(entry: Any) -> tuple[Any, Any]:
        return getattr(entry, "__module__", None), getattr(entry, "__qualname__", entry)

    return old is new or identity(old) == identity(new)


def _where(entry: Any) -> str:
    return f"{getattr(entry, '__module__', '?')}.{getattr(entry, '__qualname__', entry)}"


generators: Registry[Any] = Registry(
    "generator",
    group="ganzoo.generators",
    builtin={
        "dcgan": "ganzoo.architectures.dcgan:DCGANGenerator",
        "r3gan": "ganzoo.architectures.r3gan:R3GANGenerator",
        "resnet": "ganzoo.architectures.resnet:ResNetGenerator",
    },
)
discriminators: Registry[Any] = Registry(
    "discriminator",
    group="ganzoo.discriminators",
    builtin={
        "dcgan": "ganzoo.architectures.dcgan:DCGANDiscriminator",
        "r3gan": "ganzoo.architectures.r3gan:R3GANDiscriminator",
        "resnet": "ganzoo.architectures.resnet:ResNetDiscriminator",
    },
)
objectives: Registry[Any] = Registry(
    "objective",
    group="ganzoo.objectives",
    builtin={
        "non_saturating": "ganzoo.objectives.adversarial:NonSaturating",
        "minimax": "ganzoo.objectives.adversarial:Minimax",
        "least_squares": "ganzoo.objectives.adversarial:LeastSquares",
        "wasserstein": "ganzoo.objectives.adversarial:Wasserstein",
        "hinge": "ganzoo.objectives.adversarial:Hinge",
        "margin": "ganzoo.objectives.adversarial:EnergyMargin",
        "relativistic": "ganzoo.objectives.adversarial:RelativisticPaired",
        "relativistic_average": "ganzoo.objectives.adversarial:RelativisticAverage",
    },
)
penalties: Registry[Any] = Registry(
    "penalty", group="ganzoo.penalties", builtin={"gradient": "ganzoo.objectives.penalties:GradientPenalty"}
)
regularizers: Registry[Any] = Registry(
    "regularizer",
    group="ganzoo.regularizers",
    builtin={
        "auxiliary_classifier": "ganzoo.objectives.regularizers.auxiliary_classifier:AuxiliaryClassifier",
        "consistency": "ganzoo.objectives.regularizers.consistency:Consistency",
        "infogan": "ganzoo.objectives.regularizers.infogan:InfoGAN",
        "latent_consistency": "ganzoo.objectives.regularizers.consistency:LatentConsistency",
        "lecam": "ganzoo.objectives.regularizers.lecam:LeCam",
        "top_k": "ganzoo.objectives.regularizers.top_k:TopK",
        "weight_clipping": "ganzoo.objectives.regularizers.weight_clipping:WeightClipping",
    },
)
augmentations: Registry[Any] = Registry(
    "augmentation",
    group="ganzoo.augmentations",
    builtin={
        "ada": "ganzoo.augmentation.ada:ADA",
        "diffaugment": "ganzoo.augmentation.diff_augment:DiffAugment",
        "flip": "ganzoo.augmentation.flip:Flip",
    },
)
sources: Registry[Any] = Registry(
    "source",
    group="ganzoo.sources",
    builtin={
        "cats": "ganzoo.data.sources.downloads:open_cats",
        "cifar10": "ganzoo.data.sources.downloads:open_cifar10",
        "digits": "ganzoo.data.sources.builtin:open_digits",
        "faces": "ganzoo.data.sources.downloads:open_faces",
        "ffhq": "ganzoo.data.sources.downloads:open_ffhq",
        "flowers": "ganzoo.data.sources.downloads:open_flowers",
        "hf": "ganzoo.data.sources.hub:open_hf",
        "imagenet32": "ganzoo.data.sources.downloads:open_imagenet32",
        "lsun": "ganzoo.data.sources.lsun:open_lsun",
        "mnist": "ganzoo.data.sources.downloads:open_mnist",
        "rooms": "ganzoo.data.sources.rooms:open_rooms",
        "stackedmnist": "ganzoo.data.sources.stacked_mnist:open_stacked_mnist",
        "torchvision": "ganzoo.data.sources.torchvision:open_torchvision",
    },
)
samplers: Registry[Any] = Registry(
    "sampler",
    group="ganzoo.samplers",
    builtin={
        "torch": "ganzoo.sampling:TorchSampler",
        "onnx": "ganzoo.export.runtime.sampler:OnnxSampler",
        "openvino": "ganzoo.export.runtime.openvino:OpenVINOSampler",
    },
)
feature_extractors: Registry[Any] = Registry(
    "feature extractor",
    group="ganzoo.features",
    builtin={
        "cifar-convnet": "ganzoo.features.packaged:cifar_convnet",
        "inception": "ganzoo.features.inception:Inception",
        "mnist-convnet": "ganzoo.features.packaged:mnist_convnet",
        "pixels": "ganzoo.features.pixels:Pixels",
    },
)
metrics: Registry[Any] = Registry(
    "metric",
    group="ganzoo.metrics",
    builtin={
        "dc": "ganzoo.evaluation.metrics.manifold:DensityCoverage",
        "fd": "ganzoo.evaluation.metrics.frechet:FrechetDistance",
        "fid": "ganzoo.evaluation.metrics.frechet:FrechetInceptionDistance",
        "is": "ganzoo.evaluation.metrics.inception_score:InceptionScore",
        "kd": "ganzoo.evaluation.metrics.kernel:KernelDistance",
        "kid": "ganzoo.evaluation.metrics.kernel:KernelInceptionDistance",
        "memorisation": "ganzoo.evaluation.metrics.memorisation:Memorisation",
        "modes": "ganzoo.evaluation.metrics.modes:Modes",
        "ms_ssim": "ganzoo.evaluation.metrics.structural:MultiScaleSimilarity",
        "one_nn": "ganzoo.evaluation.metrics.one_nn:OneNN",
        "pr": "ganzoo.evaluation.metrics.manifold:PrecisionRecall",
        "probe": "ganzoo.evaluation.metrics.probe:Probe",
    },
)
recipes: Registry[Any] = Registry("recipe", group="ganzoo.recipes")

register_generator = generators.decorator
register_discriminator = discriminators.decorator
register_objective = objectives.decorator
register_penalty = penalties.decorator
register_regularizer = regularizers.decorator
register_augmentation = augmentations.decorator
register_source = sources.decorator
register_feature_extractor = feature_extractors.decorator
register_metric = metrics.decorator
