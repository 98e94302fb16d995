"""The card of a model: what README.md in a model folder says."""

from __future__ import annotations

from collections.abc import Mapping

from ganzoo.models import ModelConfig


def model_card(config: ModelConfig, statistics: Mapping[str, float]) -> str:
    """Return the card's Markdown text; the same for the same model.

    Args:
        config: what the model is.
        statistics: the last ones of training, name → value.
    """
    recipe, data = config.recipe, config.data
    weights = (
        "an exponential moving average of the generator" if config.weights == "ema" else "the trained generator itself"
    )
    lines = [
        f"# {recipe.name}",
        "",
        "![images of seeds 0 to 63](samples.png)",
        "",
        f"A GAN trained with ganzoo: {recipe.data.image_size}×{recipe.data.image_size}, {recipe.data.channels} "
        f"channel{'s' if recipe.data.channels > 1 else ''}"
        + (f", {recipe.data.num_classes} classes" if recipe.data.num_classes else "")
        + ".",
        "",
        "| | |",
        "|---|---|",
        f"| generator | {recipe.generator.name}, z of {recipe.generator.latent_dim}, {recipe.generator.prior} |",
        f"| weights | {weights} |",
        f"| objective | {recipe.objective.name} |",
        f"| data | {data.get('description', 'not recorded')}, {data.get('images', '?')} images |",
        f"| trained for | {config.kimg:,.1f} kimg, {config.step:,} steps |",
        "",
        "Images are floats in [-1, 1]. Use it:",
        "",
        "```",
        "ganzoo sample PATH-OF-THIS-FOLDER --seeds 0-63",
        "```",
        "",
        "Not evaluated: no metric of image quality was measured.",
    ]
    if statistics:
        lines += ["", "Last statistics of training:", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in sorted(statistics.items())]
    return "\n".join(lines) + "\n"
