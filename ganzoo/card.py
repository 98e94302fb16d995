"""The card of a model: what `README.md` in a model folder says, with the header by which the Hugging Face Hub files it.

A card says what is known and that the rest is not: it is made of the model's config and of numbers that were measured,
of nothing else, so that the same model always has the same card. What others wrote (descriptions of data, names of
classes, licences) is escaped: it can neither break the header nor the tables, nor put markup into the page.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from ganzoo.card_header import card_header, printable
from ganzoo.errors import WeightsError
from ganzoo.model_config import CARD, CONFIG, DISCRIMINATOR, GENERATOR, METRICS, SAMPLES

if TYPE_CHECKING:
    from ganzoo.model_config import ModelConfig
    from ganzoo.recipes import AugmentationSection, OptimizerSection, PenaltySection, Recipe, RegularizerSection
    from ganzoo.recipes.schema import Component, Schedule, TrainSection

PLACEHOLDER = "PATH-OF-THIS-FOLDER"
"""How a card calls its own model where nobody has published it yet."""

_SHOWN_CLASSES = 20
_LINE = 200  # characters of others' text that a table shows
_PROTOCOL = 600  # of a protocol: half of one would be worth nothing
_DRAWN = ("modes", "coverage", "recall")  # stems of metrics that tell what a model leaves out
_COPIED = ("memorisation",)


class Metric(TypedDict):
    """A measured number with what it takes to compare it."""

    name: str
    value: float
    protocol: str


def model_card(
    config: ModelConfig,
    statistics: Mapping[str, float],
    *,
    metrics: Iterable[Metric] = (),
    reference: str = PLACEHOLDER,
) -> str:
    """Return the card's text, Markdown under a YAML header; the same for the same model.

    Args:
        config: what the model is.
        statistics: the last ones of training, name → value.
        metrics: measured numbers of image quality, each with its protocol.
        reference: what the commands in it call the model: a zoo name, `hf-hub:org/name`, a path.
    """
    metrics = list(metrics)
    parts = [
        card_header(config, metrics),
        _introduction(config.recipe),
        _usage(config.recipe, reference),
        _data(config),
        _training(config),
        evaluation_section(metrics, statistics),
        _limits(config.recipe, metrics),
        _files(),
    ]
    return "\n".join(parts)


def card_numbers(fields: Mapping[str, Any]) -> tuple[dict[str, float], list[Metric]]:
    """Return the numbers of a model's `metrics.json` for its card: statistics of training, and metrics of quality.

    Args:
        fields: what the file holds: "training", name → value, and "metrics", a list of `Metric`; either may be missing.

    Raises:
        WeightsError: they are not such.
    """
    try:
        statistics = {str(name): float(value) for name, value in fields.get("training", {}).items()}
        metrics = [
            Metric(name=str(one["name"]), value=float(one["value"]), protocol=str(one["protocol"]))
            for one in fields.get("metrics", [])
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{METRICS} does not hold metrics as it should: {type(error).__name__}: {error}.") from error
    return statistics, metrics


def _introduction(recipe: Recipe) -> str:
    data = recipe.data
    kind = f"of {data.num_classes} classes, by label" if data.num_classes else "without labels"
    labels = f" (with the label seed modulo {data.num_classes})" if data.num_classes else ""
    colour = "grey" if data.channels == 1 else "RGB"
    return f"""# {recipe.name}

![images of seeds 0 to 63]({SAMPLES})

The generator of a generative adversarial network (GAN) that draws {data.image_size}×{data.image_size} {colour} images,
{kind}. The picture shows what the seeds 0 to 63 draw{labels}; none was picked.
"""


def _usage(recipe: Recipe, reference: str) -> str:
    data, named = recipe.data, shlex.quote(reference)
    extra = ", with its extra for the Hub (`pip install 'ganzoo[hub]'`)" if reference.startswith("hf-hub:") else ""
    label = ", labels=0" if data.num_classes else ""
    shape = f"(16, {data.channels}, {data.image_size}, {data.image_size})"
    prior = "drawn from a normal prior" if recipe.generator.prior == "normal" else "uniform on (-1, 1)"
    return f"""## How to use it

It needs ganzoo{extra}.

```python
import ganzoo

model = ganzoo.load_pretrained({json.dumps(reference, ensure_ascii=False)})
images = model.sample(16, seed=0{label})  # {shape}, float32 in [-1, 1]
images.save("grid.png")
```

```
ganzoo sample {named} --seeds 0-63 --out grid.png
ganzoo export {named} --onnx --out model.onnx
```

A seed names one image, the same whatever is drawn beside it, on a CPU, on a GPU and in ONNX Runtime. Its z has
{recipe.generator.latent_dim} numbers, {prior}.
"""


def _data(config: ModelConfig) -> str:
    data, classes = config.data, config.data.get("classes")
    rows = [("trained on", _text(data.get("description") or "not recorded"))]
    if notice := data.get("notice"):
        rows.append(("licence or origin of the data", _text(notice)))
    if isinstance(images := data.get("images"), int):
        rows.append(("images", f"{images:,}"))
    if digest := data.get("content_sha256"):
        rows.append(("SHA-256 of the data", _code(digest)))
    if config.recipe.data.num_classes and isinstance(classes, list) and classes:
        named = ", ".join(f"{label} {_text(name)}" for label, name in enumerate(classes[:_SHOWN_CLASSES]))
        more = f" and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
        rows.append(("labels", named + more))
    licence = (config.licence or "").strip()
    rows.append(("licence of the weights", _text(licence) if licence else "not stated"))
    return "## Data and licence\n\n" + _table(rows)


def _training(config: ModelConfig) -> str:
    recipe = config.recipe
    own = "an exponential moving average of the trained generator"
    weights = own if config.weights == "ema" else "the trained generator itself"
    head = [("recipe", _code(recipe.name)), ("generator", _code(recipe.generator.name)), ("weights", weights)]
    if not config.step:  # random, or converted: a recipe then says what the networks are, and no more
        text = "No training is recorded: these weights come from elsewhere, or are random.\n"
        return "## Training\n\n" + text + "\n" + _table(head[:2])
    train = recipe.train
    rows = [
        *head,
        ("discriminator", _code(recipe.discriminator.name)),
        ("objective", _component(recipe.objective)),
        *[("penalty", _penalty(penalty)) for penalty in recipe.penalty],
        *[("regularizer", _regularizer(regularizer)) for regularizer in recipe.regularizer],
        *([("augmentation", _augmentation(recipe.augmentation))] if recipe.augmentation is not None else []),
        *_optimizers(recipe.optimizer),
        *([("average's half-life", _average(recipe))] if config.weights == "ema" else []),
        ("update", _update(train)),
        ("trained for", f"{config.kimg:,.1f} kimg (thousands of real images drawn), {config.step:,} steps"),
    ]
    return "## Training\n\n" + _table(rows) + f"\nEvery setting is in `{CONFIG}`, under `recipe`.\n"


def evaluation_section(metrics: Sequence[Metric], statistics: Mapping[str, float]) -> str:
    """Return the part of a card that tells what was measured, from its heading on.

    Args:
        metrics: measured numbers of image quality, each with its protocol.
        statistics: the last ones of training, name → value.
    """
    text = "## Evaluation\n\n"
    if metrics:
        measured = [(_text(one["name"]), f"{one['value']:.4g}", _text(one["protocol"], _PROTOCOL)) for one in metrics]
        text += _table(measured, ("metric", "value", "protocol"))
    else:
        text += "Not evaluated: no metric of image quality was measured.\n"
    if statistics:
        rows = [(_code(name), f"{value:.4g}") for name, value in sorted(statistics.items())]
        text += "\nThe last statistics of training, which say little about quality:\n\n" + _table(rows)
    return text


def _limits(recipe: Recipe, metrics: Sequence[Metric]) -> str:
    size = f"{recipe.data.image_size}×{recipe.data.image_size}"
    unknown = [
        *([] if _is_measured(_DRAWN, metrics) else ["which of the kinds of images in the data it never draws"]),
        *([] if _is_measured(_COPIED, metrics) else ["whether images are near copies of training images"]),
        "whether it is fit for anything but research",
    ]
    last = unknown.pop()
    listed = f"{', '.join(unknown)}{',' if len(unknown) > 1 else ''} and {last}" if unknown else last
    text = f"It draws what its data hold, with their gaps and biases, at {size} and at no other size."
    return "## Limits\n\n" + textwrap.fill(f"{text} Not examined: {listed}.", 120) + "\n"


def _is_measured(stems: Sequence[str], metrics: Sequence[Metric]) -> bool:
    return any(one["name"].partition("-")[0] in stems for one in metrics)


def _files() -> str:
    rows = [
        (f"`{CONFIG}`", "the recipe, what was trained on, for how long"),
        (f"`{GENERATOR}`", "the generator's weights; also a model on its own"),
        (f"`{DISCRIMINATOR}`", "the discriminator's, where it was published"),
        (f"`{SAMPLES}`", "the images of seeds 0 to 63"),
        (f"`{METRICS}`", "the numbers above"),
        (f"`{CARD}`", "this card"),
    ]
    return "## Files\n\n" + _table(rows) + "\nNo pickle: safetensors, JSON, Markdown and a picture.\n"


# ------------------------------------------------------------------------------------------------ parts of a recipe


def _component(component: Component) -> str:
    options = ", ".join(_code(f"{key} = {value}") for key, value in component.options.items())
    return _code(component.name) + (f" with {options}" if options else "")


def _penalty(penalty: PenaltySection) -> str:
    every = "" if penalty.every == 1 else f", taken every {penalty.every} steps"
    return f"{_component(penalty)}, weight {_number(penalty.weight)}{every}"


def _regularizer(regularizer: RegularizerSection) -> str:
    weight = "" if regularizer.weight is None else f", weight {_number(regularizer.weight)}"
    return _component(regularizer) + weight


def _augmentation(augmentation: AugmentationSection) -> str:
    from ganzoo.recipes import AdaptiveProbability

    probability = augmentation.probability
    if isinstance(probability, AdaptiveProbability):
        return f"{_component(augmentation)}, adaptive probability (target {probability.target:g})"
    return f"{_component(augmentation)}, probability {_number(probability)}"


def _optimizers(optimizer: OptimizerSection) -> list[tuple[str, str]]:
    generator, discriminator = optimizer.of("generator"), optimizer.of("discriminator")
    if _optimizer(generator) == _optimizer(discriminator):
        return [("optimiser", _optimizer(generator))]
    return [("G's optimiser", _optimizer(generator)), ("D's optimiser", _optimizer(discriminator))]


def _optimizer(optimizer: OptimizerSection) -> str:
    of_kind = (
        f"betas {_number(optimizer.betas[0])} and {_number(optimizer.betas[1])}"
        if optimizer.name == "adam"
        else f"alpha {_number(optimizer.alpha)}"
    )
    l2 = f", L2 {_number(optimizer.l2)}" if optimizer.l2 else ""
    return f"{_code(optimizer.name)}, learning rate {_number(optimizer.lr)}, {of_kind}{l2}"


def _update(train: TrainSection) -> str:
    several = f", {train.discriminator_steps} updates of D for one of G" if train.discriminator_steps > 1 else ""
    return f"{_code(train.update)}, batches of {train.batch_size}{several}"


def _average(recipe: Recipe) -> str:
    ramp = recipe.ema.ramp
    at_most = f", at most {_number(ramp)} of the images drawn so far" if ramp else ""
    return f"{_number(recipe.ema.half_life_kimg)} kimg{at_most}"


def _number(value: float | Schedule) -> str:
    if isinstance(value, int | float):
        return f"{value:g}"
    begins = f" from {value.begin_kimg:g}" if value.begin_kimg else ""
    return f"{value.start:g} to {value.end:g} ({value.schedule}{begins} to {value.kimg:g} kimg)"


# ------------------------------------------------------------------------------------------------------ plain text


def _table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _text(value: Any, longest: int = _LINE) -> str:
    """Return others' text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&!$])", r"\\\1", _one_line(value, longest))


def _code(value: Any) -> str:
    """Return others' text as a code span; what would end it, or its table's cell, is replaced."""
    return f"`{_one_line(value).replace('`', chr(39)).replace('|', '/') or ' '}`"


def _one_line(value: Any, longest: int = _LINE) -> str:
    text = printable(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"
