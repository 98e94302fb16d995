"""The schema of recipes: what is refused and how that is said, `--set`, schedules, and writing and reading again."""

from __future__ import annotations

import datetime
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from ganzoo import registry
from ganzoo.building import load_recipe
from ganzoo.errors import GanzooError, PluginError, RecipeError, UnknownNameError
from ganzoo.recipes import (
    OptimizerSection,
    Recipe,
    Schedule,
    apply_overrides,
    describe_recipe,
    list_recipes,
    options_model,
    parse_recipe,
    value_at,
)


def table(**changes: Any) -> dict[str, Any]:
    """Return a small recipe's table, whole sections replaced."""
    return {
        "schema_version": 1,
        "name": "small",
        "data": {"source": "digits", "image_size": 16, "channels": 1},
        "generator": {"name": "dcgan", "latent_dim": 8, "widths": [8, 4]},
        "discriminator": {"name": "dcgan", "widths": [4, 8], "norm": "none"},
        "objective": {"name": "non_saturating"},
        "optimizer": {"lr": 2e-4},
        "train": {"batch_size": 4, "kimg": 1},
        **changes,
    }


def refused(*overrides: str, **changes: Any) -> str:
    """Return what is said of a recipe with such changes."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(table(**changes), overrides)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert caught.value.message.endswith((".", "?"))
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trian=1", "small: trian is not a key (did you mean 'train'?)."),
        ("train.kmig=3", "small: train.kmig is not a key (did you mean 'kimg'?)."),
        ("data.imag_size=3", "data.imag_size is not a key (did you mean 'image_size'?)"),
        ("ema.half_life=3", "ema.half_life is not a key (did you mean 'half_life_kimg'?)"),
        ("optimizer.beta=[0.5, 0.9]", "optimizer.beta is not a key (did you mean 'betas'?)"),
        ("optimizer.generator.lrr=1", "optimizer.generator.lrr is not a key (did you mean 'lr'?)"),
        ("optimizer.lr={schedule='linear', start=1, end=0, kimg=2, begin=1}", "optimizer.lr.begin is not a key"),
        (
            "optimizer.discriminator.betas=[0.5, {schedule='linear', start=0.9, end=0.99, kmg=2}]",
            "optimizer.discriminator.betas.1.kimg is missing; "
            "optimizer.discriminator.betas.1.kmg is not a key (did you mean 'kimg'?)",
        ),
        ("generator.widhts=[8]", "generator.widhts is not a key (did you mean 'widths'?)"),
        ("generator.latent_dims=8", "generator.latent_dims is not a key (did you mean 'latent_dim'?)"),
        ("discriminator.drop_out=0.3", "discriminator.drop_out is not a key (did you mean 'dropout'?)"),
        ("objective.label_smoothin=0.1", "objective.label_smoothin is not a key (did you mean 'label_smoothing'?)"),
        ("penalty=[{weight=1}, {weight=1, wher='real'}]", "penalty.1.wher is not a key (did you mean 'where'?)"),
        ("penalty=[{weight=1, evry=2}]", "penalty.0.evry is not a key (did you mean 'every'?)"),
        ("generator.image_size=64", "generator.image_size is not a key: it is taken from data.image_size"),
        ("a[b=1", "a[b is not a key"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_at_every_level(override: str, said: str) -> None:
    assert said in refused(override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.batch_size='4'", 'train.batch_size = "4" should be a whole number'),
        ("train.batch_size=4.0", "train.batch_size = 4.0 should be a whole number"),
        ("train.kimg=true", "train.kimg = true should be a number"),
        ("data.mirror=1", "data.mirror = 1 should be true or false"),
        ("data.source=3", "data.source = 3 should be text"),
        ("train=1", "train = 1 should be a table"),
        ("generator=dcgan", 'generator = "dcgan" should be a table'),
        ("generator.widths=8", "generator.widths = 8 should be a list"),
        ("generator.widths=[8, 'four']", 'generator.widths.1 = "four" should be a whole number'),
        ("optimizer.lr=fast", 'optimizer.lr = "fast" should be a number or a table'),
        ("optimizer.betas=[0.5]", "optimizer.betas.1 is missing"),
        ("optimizer.betas=[0.5, 0.9, 0.9]", "optimizer.betas = [0.5, 0.9, 0.9] should be a list of at most 2 entries"),
        ("generator.widths=[]", "generator.widths = [] should be a list of at least 1 entry"),
        ("penalty={weight=1}", "penalty should be a list, not a table: write [[penalty]]"),
        ("penalty=[1]", "penalty.0 = 1 should be a table"),
        ("schema_version='1'", 'schema_version = "1" should be 1'),
    ],
)
def test_a_wrong_type_is_told_with_the_value(override: str, said: str) -> None:
    assert said in refused(override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.batch_size=1", "train.batch_size = 1 should be at least 2"),
        ("train.kimg=0", "train.kimg = 0 should be greater than 0"),
        ("train.kimg=nan", "train.kimg = NaN should be a finite number"),
        ("train.kimg=inf", "train.kimg = Infinity should be a finite number"),
        ("train.seed=-1", "train.seed = -1 should be at least 0"),
        ("train.seed=9223372036854775808", "should be less than 9223372036854775808"),
        ("train.checkpoint_every=0", "train.checkpoint_every = 0 should be at least 1"),
        ("train.keep=99999999999", "train.keep = 99999999999 should be less than 2147483648"),
        ("data.channels=2", "data.channels = 2 should be 1 or 3"),
        ("data.image_size=5000", "data.image_size = 5000 should be at most 4096"),
        ("data.crop=left", "data.crop = \"left\" should be 'none', 'center', 'lsun' or 'celeba'"),
        ("optimizer.name=adma", "optimizer.name = \"adma\" should be 'adam' or 'rmsprop'"),
        ("optimizer.lr=-1e-4", "optimizer.lr = -0.0001 should be at least 0"),
        ("optimizer.generator.lr=-1", "optimizer.generator.lr = -1 should be at least 0"),
        ("optimizer.betas=[0.5, 1]", "optimizer.betas.1 = 1 should be less than 1"),
        (
            "optimizer.betas=[0.5, {schedule='linear', start=0.9, end=1.0, kimg=1}]",
            "optimizer.betas: the second beta (from 0.9 to 1) must stay below 1",
        ),
        ("optimizer.lr={schedule='cosin', start=1, end=0, kimg=1}", 'optimizer.lr.schedule = "cosin" should be'),
        ("optimizer.lr={schedule='cosine', start=1, end=0}", "small: optimizer.lr.kimg is missing."),
        (
            "optimizer.lr={schedule='cosine', start=1, end=0, kimg=10, begin_kimg=20}",
            "optimizer.lr: kimg (=10) must be greater than begin_kimg (=20)",
        ),
        ("generator.widths=[8, 0]", "generator.widths.1 = 0 should be at least 1"),
        ("generator.kernel_size=7", "generator.kernel_size = 7 should be 3, 4 or 5"),
        ("generator.kernel_size=[3, 7]", "small: generator.kernel_size.1 = 7 should be 3, 4 or 5."),
        ("discriminator.dropout=1.0", "discriminator.dropout = 1.0 should be less than 1"),
        ("objective.label_smoothing=2", "objective.label_smoothing = 2 should be less than 1"),
        ("penalty=[{weight=1, every=0}]", "penalty.0.every = 0 should be at least 1"),
        ("penalty=[{weight=1, where='rael'}]", "penalty.0.where = \"rael\" should be 'real', 'fake', 'line'"),
        ("name=A b", "name: 'A b' should be made of a-z"),
        ("name=''", "name: '' should be made of a-z"),
        ("name=../../etc", "name: '../../etc' should be made of a-z"),
    ],
)
def test_a_value_out_of_range_is_told_with_the_range(override: str, said: str) -> None:
    assert said in refused(override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.accumulate=3"], "batch_size (=4) must be divisible by accumulate (=3)"),
        (["train.accumulate=4"], "accumulate (=4) leaves less than 2 images of batch_size (=4)"),
        (
            ["train.discriminator_steps=2", "train.update=simultaneous"],
            'discriminator_steps (=2) needs update = "sequential"',
        ),
        (
            ["train.generator_batch_size=8", "train.update=alternate_minibatches"],
            'generator_batch_size (=8) needs update = "sequential"',
        ),
        (
            ["train.generator_batch_size=8", "train.generator_reals=reuse"],
            "needs generator_batch_size to be batch_size",
        ),
        (
            ["train.generator_batch_size=9", "train.accumulate=2"],
            "generator_batch_size (=9) must be divisible by accumulate (=2)",
        ),
        (["train.reuse_fakes=true", "train.accumulate=2"], "reuse_fakes needs"),
        (["generator.strides=[2]"], "generator: strides (=[2]) must have one entry for each of the 2 layers"),
        (
            ["data.image_size=17", "generator.kernel_size=4"],
            "generator: image_size (=17) cannot be reached: kernel_size 4 cannot be centred on an odd side (=17)",
        ),
        (["objective.name=least_squares", "objective.a=1"], "objective: a and b are both 1"),
        (
            ["generator.widths=[9999999999, 9999999999]"],
            "the networks cannot be built: Storage size calculation overflowed",
        ),
        (
            ["objective.name=wasserstein"],
            "'wasserstein' has no minimum while nothing bounds the discriminator's slope. Add a [[penalty]]",
        ),
        (
            ["discriminator.norm=batch", "penalty=[{weight=1}]"],
            "penalty.0 needs a discriminator that judges each image by itself, and with these settings 'dcgan' looks "
            'at the whole batch, as batch norm does. Set discriminator.norm = "none" or "spectral".',
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(overrides: list[str], said: str) -> None:
    assert said in refused(*overrides)


def test_what_bounds_the_slope_lets_wasserstein_train() -> None:
    load_recipe(table(), ["objective.name=wasserstein", "discriminator.norm=spectral"])
    load_recipe(table(), ["objective.name=wasserstein", "penalty=[{where='line', rule='one_centered', weight=10}]"])


def test_all_mistakes_are_told_at_once() -> None:
    said = refused("trian=1", "train.batch_size=0", "data.channels=2")
    assert "trian is not a key" in said
    assert "train.batch_size = 0" in said
    assert "data.channels = 2" in said


def test_everything_that_is_missing_is_told_in_one_phrase() -> None:
    with pytest.raises(RecipeError, match=r"recipe: schema_version, name, data, .* train are missing\."):
        load_recipe({})
    assert "small: generator.latent_dim is missing." in refused(generator={"name": "dcgan"})


def test_a_newer_schema_asks_for_a_newer_ganzoo() -> None:
    assert refused("schema_version=2") == (
        "small: schema_version = 2 is newer than this ganzoo knows (1). Update ganzoo."
    )


@pytest.mark.parametrize(
    ("section", "kind"),
    [("generator", "generator"), ("discriminator", "discriminator"), ("objective", "objective")],
)
def test_an_unknown_component_is_answered_with_the_nearest(section: str, kind: str) -> None:
    wrong = f"{table()[section]['name'][:-1]}x"
    with pytest.raises(UnknownNameError, match=f"There is no {kind} named '{wrong}'. Did you mean"):
        load_recipe(table(), [f"{section}.name={wrong}"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime.date(2020, 1, 1), "small: data.source is a date. A recipe holds text"),
        (b"digits", "data.source is a bytes"),
        ({1: 2}, "data.source has the key 1, which is not text"),
        ("\ud800", "data.source = '\\ud800' is not Unicode text"),
        ([object()], "data.source.0 is a object"),
    ],
)
def test_what_no_recipe_can_hold_is_refused(value: Any, said: str) -> None:
    assert said in refused(data={"source": value, "image_size": 16})


def test_endless_nesting_is_refused() -> None:
    deep: dict[str, Any] = table()
    deep["data"]["source"] = deep
    assert "nested too deep" in refused(data={"source": deep, "image_size": 16})


# ---------------------------------------------------------------------------------------------------- plug-ins' options


class Toy:
    """What a plug-in's constructor may look like."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        growth: Annotated[int, Field(ge=1)] = 8,
        mode: Literal["fast", "good"] = "good",
        sizes: tuple[int, ...] | None = None,
        copy: bool = False,
        model_depth: int = 2,
    ) -> None:
        pass


def toy_options(**options: Any) -> dict[str, Any]:
    return {"name": "toy", "latent_dim": 8, **options}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.generators._registered, "toy", Toy)


@pytest.mark.usefixtures("toy")
def test_a_plugins_options_are_checked_and_their_defaults_filled_in() -> None:
    recipe = parse_recipe(table(generator=toy_options(growth=4, sizes=[1, 2])))
    assert recipe.generator.options == {
        "growth": 4,
        "mode": "good",
        "sizes": (1, 2),
        "copy": False,
        "model_depth": 2,
    }
    assert parse_recipe(recipe.to_dict()) == recipe


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grwoth": 4}, "generator.grwoth is not a key (did you mean 'growth'?)"),
        ({"growth": 0}, "generator.growth = 0 should be at least 1"),
        ({"mode": "god"}, "generator.mode = \"god\" should be 'fast' or 'good'"),
        ({"sizes": [1, "2"]}, 'generator.sizes.1 = "2" should be a whole number'),
        ({"copy": 1}, "generator.copy = 1 should be true or false"),
    ],
)
def test_a_plugins_wrong_options_are_told_like_ganzoos_own(options: dict[str, Any], said: str) -> None:
    assert said in refused(generator=toy_options(**options))


def positional(image_size: int, /) -> None: ...
def star(*sizes: int) -> None: ...
def double_star(**options: int) -> None: ...
def unreadable(size: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def private(_size: int = 3) -> None: ...
def arbitrary(size: slice = slice(3)) -> None: ...


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (positional, "takes image_size: "),
        (star, r"takes \*sizes: "),
        (double_star, r"takes \*\*options: "),
        (unreadable, "annotation that cannot be read: name 'NoSuchType' is not defined"),
        (private, "has an argument '_size' that no recipe can hold"),
        (arbitrary, "has an argument 'size' that no recipe can hold: .*slice"),
        (3, "is no class or function"),
    ],
)
def test_a_signature_that_gives_no_schema_is_the_plugins_mistake(factory: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said) as caught:
        options_model(factory, (), "generator")
    assert "\n" not in str(caught.value)


class NoPerSample:
    """A discriminator that does not say whether it judges each image by itself."""

    def __init__(self, *, image_size: int, channels: int) -> None:
        pass


def test_a_discriminator_without_per_sample_is_the_plugins_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.discriminators._registered, "mute", NoPerSample)
    with pytest.raises(PluginError, match="per_sample is None"):
        load_recipe(table(discriminator={"name": "mute"}))


def test_a_network_that_knows_no_classes_is_refused_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.discriminators._registered, "mute", NoPerSample)
    assert "the discriminator 'mute' knows no classes, but data.num_classes is 3" in refused(
        "data.num_classes=3", discriminator={"name": "mute"}
    )


# ---------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.batch_size=8", "train.batch_size", 8),
        ("train.batch_size = 8", "train.batch_size", 8),
        ("train.kimg=15_000", "train.kimg", 15000),
        ("optimizer.lr=1e-4", "optimizer.lr", 1e-4),
        ("data.mirror=true", "data.mirror", True),
        ("data.source=lsun:bedroom_train", "data.source", "lsun:bedroom_train"),
        ("data.source='a = b'", "data.source", "a = b"),
        ("data.source=a=b", "data.source", "a=b"),
        ("data.source=C:\\images", "data.source", "C:\\images"),
        ("data.source=", "data.source", ""),
        ("data.source=1\nname='other'", "data.source", "1\nname='other'"),
        ("generator.widths=[16, 8]", "generator.widths", [16, 8]),
        ("optimizer.betas=[0.5, 0.999]", "optimizer.betas", [0.5, 0.999]),
        ("ema.half_life_kimg=10", "ema.half_life_kimg", 10),
        ("optimizer.generator.lr=1", "optimizer.generator.lr", 1),
        ("penalty=[{weight=1}]", "penalty", [{"weight": 1}]),
        (
            "optimizer.lr={schedule='linear', start=1, end=0, kimg=2}",
            "optimizer.lr",
            {"schedule": "linear", "start": 1, "end": 0, "kimg": 2},
        ),
    ],
)
def test_set_reads_every_type(override: str, path: str, value: Any) -> None:
    at: Any = apply_overrides(table(), [override])
    for part in path.split("."):
        at = at[part]
    assert at == value
    assert type(at) is type(value)


def test_set_reaches_into_lists_and_later_ones_win() -> None:
    original = table(penalty=[{"weight": 1}, {"weight": 2}])
    changed = apply_overrides(original, ["penalty.1.weight=3", "penalty.1.weight=4", "penalty.0={weight=9}"])
    assert changed["penalty"] == [{"weight": 9}, {"weight": 4}]
    assert original == table(penalty=[{"weight": 1}, {"weight": 2}])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.kimg", "--set 'train.kimg' is not KEY=VALUE. For example: --set optimizer.lr=1e-4"),
        ("=1", "--set '=1' is not KEY=VALUE"),
        ("train.kimg.x=1", "--set train.kimg.x: 'kimg' is a value, not a table"),
        ("penalty.2.weight=1", "--set penalty.2.weight: '2' is none of the 1 entries, which are numbered from 0"),
        ("penalty.x=1", "'x' is none of the 1 entries"),
        ("penalty.-1=1", "'-1' is none of the 1 entries"),
        ("optimizer.3.lr=1", "--set optimizer.3.lr: there is no entry 3 yet"),
    ],
)
def test_a_wrong_set_is_told(override: str, said: str) -> None:
    assert said in refused(override, penalty=[{"weight": 1}])


# ---------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("begin", [0.0, 40.0])
def test_a_schedule_follows_its_formula_from_end_to_end(begin: float) -> None:
    for kind, middle, quarter in (
        ("linear", 0.6, 0.8),
        ("cosine", 0.6, 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4))),
    ):
        schedule = Schedule(schedule=kind, start=1.0, end=0.2, kimg=begin + 100.0, begin_kimg=begin)  # type: ignore[arg-type]
        assert schedule.at(0.0) == schedule.at(begin) == 1.0
        assert schedule.at(begin + 25.0) == pytest.approx(quarter, abs=1e-12)
        assert schedule.at(begin + 50.0) == pytest.approx(middle, abs=1e-12)
        assert schedule.at(begin + 100.0) == pytest.approx(0.2, abs=1e-12)
        assert schedule.at(1e9) == pytest.approx(0.2, abs=1e-12)
        assert value_at(schedule, begin + 50.0) == schedule.at(begin + 50.0)
    assert value_at(0.3, 7.0) == 0.3


def test_an_optimizers_override_changes_single_entries() -> None:
    recipe = load_recipe(table(), ["optimizer.generator.lr=1e-3", "optimizer.discriminator.betas=[0.1, 0.2]"])
    generator, discriminator = recipe.optimizer.of("generator"), recipe.optimizer.of("discriminator")
    assert (generator.lr, generator.betas) == (1e-3, (0.9, 0.999))
    assert (discriminator.lr, discriminator.betas) == (2e-4, (0.1, 0.2))
    assert isinstance(generator, OptimizerSection)


# -------------------------------------------------------------------------------------------- writing and reading


def _elaborate() -> Recipe:
    return load_recipe(
        table(
            penalty=[
                {"weight": {"schedule": "linear", "start": 1.0, "end": 0.0, "kimg": 1}},
                {"weight": 2, "every": 4},
            ]
        ),
        [
            "optimizer.lr={schedule='cosine', start=2e-4, end=0, kimg=20}",
            "optimizer.betas=[0.0, {schedule='cosine', start=0.9, end=0.99, kimg=20, begin_kimg=1}]",
            "optimizer.generator={lr=1e-3}",
            "ema.half_life_kimg=0.5",
            'data.source=C:\\a "quoted" ünïcode path',
            "data.max_images=100",
            "generator.strides=[2, 2]",
            "train.generator_batch_size=8",
        ],
    )


@pytest.mark.parametrize("name", ["small", "elaborate", *list_recipes()])
def test_what_is_written_is_read_back_the_same(name: str) -> None:
    recipe = {"small": lambda: load_recipe(table()), "elaborate": _elaborate}.get(name, lambda: load_recipe(name))()
    written = recipe.to_toml()
    again = parse_recipe(tomllib.loads(written))
    assert again == recipe
    assert again.to_toml() == written
    assert load_recipe(recipe) == recipe


def test_none_means_not_given() -> None:
    data = {"source": "digits", "image_size": 16, "channels": 1, "max_images": None}
    assert load_recipe(table(data=data)) == load_recipe(table())


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_of_the_zoo_can_be_trained_and_says_what_it_is(name: str) -> None:
    """The file is called like the recipe, and its first comment is a sentence."""
    assert load_recipe(name).name == name
    assert describe_recipe(name).endswith(".")


# ---------------------------------------------------------------------------------------------------- files


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(content)
    return path


def test_a_file_is_read_by_path_and_by_text(tmp_path: Path) -> None:
    path = _file(tmp_path, b"# A recipe of mine.\n" + load_recipe(table()).to_toml().encode())
    assert load_recipe(path) == load_recipe(str(path)) == load_recipe(table())


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load_recipe(_file(tmp_path, b"\xef\xbb\xbf" + load_recipe(table()).to_toml().encode())).name == "small"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "is not TOML: Invalid value (at end of document)."),
        (b"\xff\xfe\x00", "is not TOML: it is not UTF-8 text."),
        (b"\x89PNG\r\n\x1a\n\x00", "is not TOML"),
        (b"a = " + b"[" * 20_000, "is not TOML"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value"),
        (b"#" * (1 << 21), "is larger than 1 MiB: it is no recipe."),
        (b"", "schema_version, name"),
    ],
    ids=["cut", "utf16", "picture", "nested", "digits", "twice", "huge", "empty"],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert said in caught.value.message
    assert caught.value.message.startswith(str(path))


@pytest.mark.parametrize("reference", ["no/such.toml", "such.toml", "a\0b.toml", "x" * 5000 + ".toml", "./"])
def test_a_file_that_is_not_there_is_told(reference: str) -> None:
    with pytest.raises(RecipeError, match="There is no recipe file"):
        load_recipe(reference)


def test_a_folder_is_no_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe file"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("name", ["dcgan-digit", "", "x" * 5000, "..", "dcgan-digits\0"])
def test_an_unknown_recipe_is_answered_with_names(name: str) -> None:
    with pytest.raises(UnknownNameError, match="There is no recipe named"):
        load_recipe(name)


def test_recipes_are_listed_by_pattern_in_natural_order() -> None:
    assert "dcgan-digits" in list_recipes()
    assert list_recipes("dcgan-mnist*") == sorted(list_recipes("dcgan-mnist*"), key=registry.natural_key)
    assert list_recipes("nothing-*") == []


# ---------------------------------------------------------------------------------------------------- fuzzing

_WORDS = st.sampled_from(
    [
        *("schema_version", "name", "data", "source", "image_size", "generator", "latent_dim", "widths", "kernel_size"),
        *("strides", "discriminator", "norm", "objective", "label_smoothing", "optimizer", "lr", "betas", "schedule"),
        *("start", "end", "kimg", "train", "batch_size", "penalty", "weight", "where", "every", "0", "1", "float"),
    ]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["dcgan", "spectral", "cosine", "real", "non_saturating", "digits", "batch", "none"])
    | st.dates()
    | st.binary(max_size=3)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inside, max_size=4),
    max_leaves=12,
)
_FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@_FUZZ
@given(st.dictionaries(_WORDS | st.text(max_size=4), _VALUES, max_size=5))
def test_any_table_is_read_or_refused(changes: dict[str, Any]) -> None:
    _read_or_refuse(changes, [])
    _read_or_refuse(table(**changes), [])


@_FUZZ
@given(st.sampled_from(sorted(table())), st.dictionaries(_WORDS | st.text(max_size=4), _VALUES, max_size=3))
def test_any_change_inside_a_section_is_read_or_refused(section: str, changes: dict[str, Any]) -> None:
    before = table()[section]
    _read_or_refuse(table(**{section: {**before, **changes} if isinstance(before, dict) else changes}), [])


@_FUZZ
@given(st.lists(st.builds("{}={}".format, st.lists(_WORDS, max_size=3).map(".".join), st.text(max_size=8)), max_size=3))
def test_any_set_is_read_or_refused(overrides: list[str]) -> None:
    _read_or_refuse(table(), overrides)


def _read_or_refuse(changed: dict[str, Any], overrides: list[str]) -> None:
    try:
        recipe = load_recipe(changed, overrides)
    except GanzooError:
        return
    assert parse_recipe(tomllib.loads(recipe.to_toml())) == recipe
