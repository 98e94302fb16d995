"""The schema of a recipe: `Recipe` and its tables, by pydantic, with strict types.

A number that may change during training is a `Schedule`: a plain number, or

    lr = { schedule = "cosine", start = 2e-4, end = 5e-5, kimg = 20_000 }
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

NETWORK_ARGUMENTS = ("image_size", "channels", "num_classes")
"""What every network's constructor is given from `[data]`, beside its own keys."""

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=1 << 31)]


class Section(BaseModel):
    """One table of a recipe. Unknown keys are refused, types are strict."""

    model_config = STRICT


class Schedule(Section):
    """A number that goes from `start` to `end` while training goes from `begin_kimg` to `kimg`, and stays there.

    "cosine" is end + (start - end) (1 + cos(pi t)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, equation 5, one
    cycle); t runs from 0 to 1.
    """

    schedule: Literal["cosine", "linear"]
    start: NonNegative
    end: NonNegative
    kimg: Positive
    begin_kimg: NonNegative = 0.0

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Schedule:
        if self.kimg <= self.begin_kimg:
            raise ValueError(f"kimg (={self.kimg:g}) must be greater than begin_kimg (={self.begin_kimg:g})")
        return self

    def at(self, kimg: float) -> float:
        """Return the value after so many thousands of images."""
        t = min(max((kimg - self.begin_kimg) / (self.kimg - self.begin_kimg), 0.0), 1.0)
        share = 0.5 * (1.0 + math.cos(math.pi * t)) if self.schedule == "cosine" else 1.0 - t
        return self.end + (self.start - self.end) * share


Scheduled = NonNegative | Schedule


def value_at(value: float | Schedule, kimg: float) -> float:
    """Return a scheduled number's value after so many thousands of images."""
    return value.at(kimg) if isinstance(value, Schedule) else value


class DataSection(Section):
    """`[data]`: what the networks see."""

    source: str = Field(description="what `--data` replaces")
    image_size: Annotated[int, Field(ge=4, le=4096)]  # pixels on a side
    channels: Literal[1, 3] = 3
    crop: Literal["none", "center", "lsun", "celeba"] = "center"
    resize: Literal["lanczos", "box"] = "lanczos"
    mirror: bool = False
    num_classes: Annotated[int, Field(ge=0, le=1 << 20)] = Field(
        0, description="0: unconditional; else the labels are used"
    )
    labels: Literal["data", "random"] = Field(
        "data",
        description='"random": the generator\'s classes are drawn evenly, and neither the data nor the discriminator '
        "know them",
    )
    max_images: Count | None = None

    @model_validator(mode="after")
    def _random_labels_have_classes(self) -> DataSection:
        if self.labels == "random" and not self.num_classes:
            raise ValueError('labels = "random" needs num_classes')
        return self

    @property
    def labelled(self) -> bool:
        """Whether the data's labels are used."""
        return self.num_classes > 0 and self.labels == "data"


class Component(BaseModel):
    """A table that names a registered class; its other keys are arguments of that class's constructor."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(self.model_extra or {})


class GeneratorSection(Component):
    """`[generator]`."""

    latent_dim: Count
    prior: Literal["uniform", "normal"] = Field("normal", description="of z: uniform on (-1, 1), or standard normal")


class DiscriminatorSection(Component):
    """`[discriminator]`."""


class ObjectiveSection(Component):
    """`[objective]`."""


class PenaltySection(Component):
    """`[[penalty]]`: `weight` times the mean over the batch, taken every so many steps (and then weighted `every` times
    as much)."""

    name: str = "gradient"
    weight: Scheduled
    every: Count = 1


class RegularizerSection(Component):
    """`[[regularizer]]`: `weight` multiplies what it adds to either loss, where it adds something."""

    weight: Scheduled | None = None


Probability = Annotated[float, Field(ge=0, le=1)]


class ProbabilitySchedule(Schedule):
    """A schedule of a probability."""

    start: Probability
    end: Probability


class AdaptiveProbability(Section):
    """A probability that follows the discriminator (ADA; Karras et al., arXiv 2006.06676, section 3).

    r = E sign(D(real) - the objective's boundary) tells how far the discriminator has learnt its data by heart: 0 not
    at all, 1 wholly. Every `every` steps the probability moves towards more augmentation where r is above `target`,
    else towards less, at a speed that takes it from 0 to 1 in `kimg`.
    """

    target: Annotated[float, Field(gt=-1, lt=1)] = 0.6
    kimg: Positive = 500.0
    every: Count = 4
    start: Probability = 0.0


class AugmentationSection(Component):
    """`[augmentation]`: what the discriminator is shown, real and generated, and how likely each change is."""

    probability: Probability | ProbabilitySchedule | AdaptiveProbability = 1.0


def _below_one(betas: tuple[float, float | Schedule] | None) -> tuple[float, float | Schedule] | None:
    if betas is not None and isinstance(beta := betas[1], Schedule) and max(beta.start, beta.end) >= 1.0:
        raise ValueError(f"the second beta (from {beta.start:g} to {beta.end:g}) must stay below 1")
    return betas


Betas = Annotated[tuple[Share, Share | Schedule], AfterValidator(_below_one)]


class OptimizerOverride(Section):
    """`[optimizer.generator]`, `[optimizer.discriminator]`: entries that differ for one network."""

    lr: Scheduled | None = None
    betas: Betas | None = None
    alpha: Share | None = None
    eps: Positive | None = None
    l2: NonNegative | None = None


class OptimizerSection(Section):
    """`[optimizer]`: `l2` adds l2 times the parameter to each gradient, for all parameters."""

    name: Literal["adam", "rmsprop"] = "adam"
    lr: Scheduled
    betas: Betas = (0.9, 0.999)
    alpha: Share = Field(0.99, description="RMSprop's decay of the squared gradient")
    eps: Positive = 1e-8
    l2: NonNegative = 0.0
    generator: OptimizerOverride = OptimizerOverride()
    discriminator: OptimizerOverride = OptimizerOverride()

    def of(self, network: Literal["generator", "discriminator"]) -> OptimizerSection:
        """Return the settings of one network, the overrides applied."""
        override: OptimizerOverride = getattr(self, network)
        changes = {key: value for key in type(override).model_fields if (value := getattr(override, key)) is not None}
        return self.model_copy(update=changes)


class EMASection(Section):
    """`[ema]`: the published generator is an average of the trained one's past; `half_life_kimg = 0` turns it off.

    With `ramp` > 0 the half-life is at most `ramp` times the images drawn so far, so that the average forgets the
    start.
    """

    half_life_kimg: Scheduled = 0.0
    ramp: NonNegative = 0.0

    @property
    def enabled(self) -> bool:
        """Whether there is an average at all."""
        return isinstance(self.half_life_kimg, Schedule) or self.half_life_kimg > 0


class TrainSection(Section):
    """`[train]`: the order of updates, sizes, lengths and intervals. Intervals are in steps (rounds of updates)."""

    batch_size: Annotated[int, Field(ge=2, le=1 << 20)]
    kimg: Positive
    update: Literal["sequential", "simultaneous", "alternate_minibatches"] = "sequential"
    discriminator_steps: Count = 1
    generator_batch_size: Annotated[int, Field(ge=2, le=1 << 20)] | None = None
    generator_reals: Literal["fresh", "reuse"] = Field("fresh", description="where G's loss needs real images")
    reuse_fakes: bool = Field(False, description="G's update goes back through D's last fakes")
    real_fake_batches: Literal["separate", "joined"] = "separate"
    accumulate: Count = Field(1, description="parts that a batch is split into to save memory")
    sync_batch_norm: bool = Field(False, description="several processes normalise their batch together; CUDA only")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "eager", "graph"] = Field(
        "auto",
        description='"eager": the plain reference, operation by operation; "auto": the fastest forms of all parts, in '
        'one CUDA graph where that can be; "graph": so, or not at all',
    )
    deterministic: bool = Field(False, description="bitwise repeatable on a GPU, too; slower there")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    log_every: Count = 50
    sample_every: Count = 500
    checkpoint_every: Count = 1000
    keep: Count = Field(3, description="checkpoints")

    @model_validator(mode="after")
    def _order_of_updates_is_possible(self) -> TrainSection:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size (={self.batch_size}) must be divisible by accumulate (={self.accumulate})")
        if self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"accumulate (={self.accumulate}) leaves less than 2 images of batch_size (={self.batch_size})"
            )
        if self.discriminator_steps > 1 and self.update != "sequential":
            raise ValueError(f'discriminator_steps (={self.discriminator_steps}) needs update = "sequential"')
        other_size = self.generator_batch_size not in (None, self.batch_size)
        if other_size and self.update != "sequential":
            raise ValueError(f'generator_batch_size (={self.generator_batch_size}) needs update = "sequential"')
        if other_size and self.generator_reals == "reuse":
            raise ValueError('generator_reals = "reuse" needs generator_batch_size to be batch_size')
        if self.generator_batch_size is not None and self.generator_batch_size % self.accumulate:
            raise ValueError(
                f"generator_batch_size (={self.generator_batch_size}) must be divisible by "
                f"accumulate (={self.accumulate})"
            )
        if self.reuse_fakes and (self.update != "sequential" or other_size or self.accumulate > 1):
            raise ValueError(
                'reuse_fakes needs update = "sequential", equal batch sizes and accumulate = 1: '
                "G goes back through the very fakes that D was shown"
            )
        return self


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]!r} is there twice")
    return names


class EvaluateSection(Section):
    """`[evaluate]`: what is measured of the generator while it is trained, beside images of the training. It changes
    nothing of the training."""

    every: Annotated[int, Field(ge=0, lt=1 << 31)] = Field(description="in steps, and after the last one; 0: never")
    metrics: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)] = ("fd",)
    features: str = Field("auto", description='"auto": a small net that needs no download, for grey images or colours')
    images: Annotated[int, Field(ge=2, lt=1 << 31)] = Field(10_000, description="generated each time, of fixed seeds")
    reference: Annotated[int, Field(ge=2, lt=1 << 31)] | None = Field(
        None, description="images of the training to compare with; all if left out"
    )


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ValueError(f"{name!r} should be made of a-z, 0-9, '.', '_' and '-', since folders are called by it")
    return name


class Recipe(Section):
    """Everything needed to train one model. Read it with `ganzoo.load_recipe`."""

    schema_version: Literal[1]
    name: Annotated[str, Field(max_length=64), AfterValidator(_file_name)]
    data: DataSection
    generator: GeneratorSection
    discriminator: DiscriminatorSection
    objective: ObjectiveSection
    penalty: tuple[PenaltySection, ...] = ()
    regularizer: tuple[RegularizerSection, ...] = ()
    augmentation: AugmentationSection | None = None
    optimizer: OptimizerSection
    ema: EMASection = EMASection()
    train: TrainSection
    evaluate: EvaluateSection | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as nested dictionaries that JSON and TOML can hold; what is None is left out."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        if not plain["regularizer"]:
            del plain["regularizer"]
        for network in ("generator", "discriminator"):
            if not plain["optimizer"][network]:
                del plain["optimizer"][network]
        return plain

    def to_toml(self) -> str:
        """Return the recipe as TOML."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())
