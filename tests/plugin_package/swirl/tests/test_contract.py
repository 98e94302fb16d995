"""What this package registers keeps ganzoo's contract."""

import pytest

import ganzoo
from ganzoo import registry
from ganzoo.testing import check_discriminator, check_generator, check_objective, check_penalty


@pytest.mark.parametrize(("image_size", "channels"), [(9, 1), (16, 3)])
def test_the_networks_keep_the_contract(image_size: int, channels: int) -> None:
    check_generator(
        registry.generators.get("swirl"), image_size=image_size, channels=channels, options={"width": 8, "depth": 1}
    )
    check_discriminator(
        registry.discriminators.get("swirl"), image_size=image_size, channels=channels, options={"widths": [4, 6]}
    )


def test_the_losses_keep_the_contract() -> None:
    check_objective(registry.objectives.get("swirl_margin"), options={"margin": 0.0})
    check_penalty(registry.penalties.get("swirl_spread"))


def test_the_recipe_can_be_trained() -> None:
    recipe = ganzoo.load_recipe("swirl-rings")
    assert recipe.generator.options == {"width": 16, "depth": 2}
    assert recipe.objective.options == {"margin": 0.5}
