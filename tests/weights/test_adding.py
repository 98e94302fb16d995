"""The maintainers' tool: what it publishes is what was checked, and it breaks nothing when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from weights_server import Server

from ganzoo import weights
from ganzoo.errors import UsageError, WeightsError
from ganzoo.models import load_model, save_model
from ganzoo.pictures import to_uint8
from ganzoo.tensors import read_tensors
from ganzoo.weights import __main__ as tool
from ganzoo.weights import published_models, verify
from ganzoo.weights.adding import leading_comment
from ganzoo.weights.checking import check_picture, tiles


def add(weights_folder: Path, model: Path, *more: str, name: str = "tiny") -> int:
    common = ["--name", name, "--licence", "Apache-2.0", "--torch", "2.15.0"]
    return tool.main(["--weights", str(weights_folder), "add", str(model), *common, *more])


def run(weights_folder: Path, *arguments: str) -> int:
    return tool.main(["--weights", str(weights_folder), *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_model_is_packaged_with_its_entry(
    own_weights: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metric = "FID=12.5: 10,000 images: InceptionV3 = torchvision's"
    more = ("--metric", metric, "--data", "digits of somewhere", "--url", "https://example.org/x")
    assert add(own_weights, model_folder, *more) == 0
    assert "by up to 0 of 256 levels" in capsys.readouterr().out
    model = published_models()["tiny"]
    verify(own_weights / "tiny", model)
    assert (model.recipe, model.licence, model.data) == ("tiny", "Apache-2.0", "digits of somewhere")
    assert (model.torch, model.urls, model.packaged) == ("2.15.0", ("https://example.org/x",), True)
    measured = {"name": "FID", "value": 12.5, "protocol": "10,000 images: InceptionV3 = torchvision's"}
    assert model.metrics == (measured,)
    loaded, given = load_model(own_weights / "tiny"), load_model(model_folder)
    assert loaded.config.licence == "Apache-2.0"
    assert loaded.config.data["description"] == "digits of somewhere"
    assert loaded.metrics["metrics"] == [measured]
    assert "12.5" in loaded.card
    assert "tiny" in loaded.card
    assert torch.equal(loaded.sample(3), given.sample(3))
    assert loaded.discriminator is not None
    comment = (own_weights / "manifest.toml").read_text(encoding="utf-8").splitlines()[:3]
    assert comment == ["# A comment.", "", "schema_version = 1"]


def test_adding_twice_gives_the_same_bytes_and_the_order_does_not_matter(
    own_weights: Path, model_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.toml").write_bytes((own_weights / "manifest.toml").read_bytes())
    for name in ("b", "b", "a"):
        assert add(own_weights, model_folder, name=name) == 0
    for name in ("a", "b"):
        assert add(other, model_folder, name=name) == 0
    assert contents(own_weights) == contents(other)
    assert list(published_models()) == ["a", "b"]


@pytest.mark.parametrize(("dtype", "kind"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_the_bytes_load_into_float32_and_draw_what_the_picture_shows(
    own_weights: Path, model_folder: Path, dtype: str, kind: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    large = load_model(model_folder)
    for parameter in large.generator.parameters():
        parameter.data.mul_(10)  # so that rounding shows in the images
    large.save(model_folder)
    assert add(own_weights, model_folder, "--dtype", dtype, "--no-discriminator") == 0
    folder = own_weights / "tiny"
    tensors, metadata = read_tensors(folder / "generator.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {kind}
    assert metadata["config"]["licence"] == "Apache-2.0"
    model = load_model(folder)
    assert {tensor.dtype for tensor in model.generator.parameters()} == {torch.float32}
    assert model.discriminator is None
    assert "discriminator.safetensors" not in published_models()["tiny"].files
    given = load_model(model_folder).generator.state_dict()
    for name, tensor in model.generator.state_dict().items():
        assert torch.equal(
            tensor, given[name].to(kind).to(given[name].dtype) if given[name].is_floating_point() else tensor
        )
    seeds = np.arange(64)
    levels = [to_uint8(one.sample(seeds=seeds)).astype(int) for one in (large, model)]
    shown = tiles(folder / "samples.png", 8, 1)
    assert np.array_equal(shown, levels[1])  # drawn from the weights as they are published
    differ = int(np.abs(levels[0] - levels[1]).max())
    assert differ > 0
    assert f"by up to {differ} of 256 levels" in capsys.readouterr().out


def test_numbers_that_do_not_fit_into_the_type_are_refused(own_weights: Path, model_folder: Path) -> None:
    model = load_model(model_folder)
    next(model.generator.parameters()).data.fill_(1e6)
    model.save(model_folder)
    assert add(own_weights, model_folder, "--dtype", "bf16") == 0
    before = contents(own_weights)
    assert add(own_weights, model_folder, "--dtype", "fp16") == 1
    assert contents(own_weights) == before


def test_classes_are_shown_in_turn(own_weights: Path, conditional_folder: Path) -> None:
    assert add(own_weights, conditional_folder) == 0
    model = load_model(own_weights / "tiny")
    shown = tiles(own_weights / "tiny" / "samples.png", 8, 1)
    assert np.array_equal(shown[[4]], to_uint8(model.sample(seeds=[4], labels=[1])))
    assert check_picture(own_weights / "tiny") == 0


def test_a_run_tells_which_torch_trained_it_and_a_folder_elsewhere_does_not(
    own_weights: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", str(own_weights), "add", str(model_folder), "--name", "tiny", "--licence", "MIT"]
    assert tool.main(arguments) == 2
    assert "--torch" in capsys.readouterr().err
    from ganzoo.weights import adding

    class Opened:
        class facts:
            versions = {"torch": "2.11.0"}  # noqa: RUF012 - stands for a run

    monkeypatch.setattr(adding, "is_run", lambda folder: folder == model_folder.parent)
    monkeypatch.setattr(adding, "open_run", lambda folder: Opened)
    assert tool.main(arguments) == 0
    assert published_models()["tiny"].torch == "2.11.0"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--metric", "FID"),
        ("--metric", "FID=12"),
        ("--metric", "FID=x: y"),
        ("--metric", "FID=nan: 10,000 images"),
        ("--metric", "=1: x"),
        ("--url", "ftp://example.org"),
        ("--licence", " "),
        ("--data", "two\nlines"),
        ("--name", "../evil"),
        ("--name", "Upper"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_changes_nothing(
    own_weights: Path, model_folder: Path, wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(own_weights.parent)
    assert add(own_weights, model_folder, *wrong) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert contents(own_weights.parent) == before


def test_a_folder_that_is_no_model_is_neither_published_nor_replaced(
    own_weights: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(own_weights, tmp_path / "none") == 1
    (own_weights / "tiny").mkdir()
    (own_weights / "tiny" / "work.txt").write_text("somebody's")
    assert add(own_weights, model_folder) == 2
    assert (own_weights / "tiny" / "work.txt").read_text() == "somebody's"
    assert all(line.startswith("ganzoo.weights: error: ") for line in capsys.readouterr().err.splitlines())


def test_what_would_make_the_wheel_too_large_is_refused(
    own_weights: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ganzoo.weights import adding

    assert add(own_weights, model_folder, name="a") == 0
    before = contents(own_weights)
    monkeypatch.setattr(adding, "LARGEST_PACKAGE", published_models()["a"].bytes * 3 // 2)
    assert add(own_weights, model_folder, name="b") == 1
    assert "--dtype fp16" in capsys.readouterr().err
    assert contents(own_weights) == before
    assert add(own_weights, model_folder, name="a") == 0  # it replaces itself


def test_a_disk_that_fills_changes_nothing(
    own_weights: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    from ganzoo.weights import adding

    before = contents(own_weights)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adding, "save_companions", full)
    assert add(own_weights, model_folder) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert contents(own_weights) == before
    assert [path.name for path in own_weights.iterdir()] == ["manifest.toml"]


# ------------------------------------------------------------------ verify and download


def test_verify_finds_what_is_wrong(own_weights: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own_weights, "verify") == 0
    for name in ("a", "b"):
        add(own_weights, model_folder, name=name)
    assert run(own_weights, "verify") == 0
    assert "2 checked, 0 failed." in capsys.readouterr().out
    file = own_weights / "b" / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert run(own_weights, "verify") == 1
    said = capsys.readouterr().out
    assert "b: FAILED" in said
    assert "generator.safetensors has another sha256" in said
    manifest = (own_weights / "manifest.toml").read_text(encoding="utf-8")
    (own_weights / "manifest.toml").write_text(manifest[: manifest.index("[models.b]")], encoding="utf-8")
    assert run(own_weights, "verify") == 1
    assert "b: is here, but the manifest does not say" in capsys.readouterr().out


def test_a_picture_of_other_weights_is_found(own_weights: Path, model_folder: Path) -> None:
    add(own_weights, model_folder)
    folder = own_weights / "tiny"
    with Image.open(folder / "samples.png") as file:
        picture = np.asarray(file).copy()
    picture[2, 2] ^= 0x40
    Image.fromarray(picture).save(folder / "samples.png")
    with pytest.raises(WeightsError, match=r"draws other images .* they differ by up to 64"):
        check_picture(folder)
    Image.fromarray(picture[:-1]).save(folder / "samples.png")
    with pytest.raises(WeightsError, match="no grid of 64 images"):
        check_picture(folder)
    (folder / "samples.png").write_bytes(b"no picture")
    with pytest.raises(WeightsError, match="cannot be read"):
        check_picture(folder)


def test_a_model_that_draws_one_colour_is_found(model_folder: Path) -> None:
    model = load_model(model_folder)
    for parameter in model.generator.parameters():
        parameter.data.zero_()
    model.save(model_folder)
    with pytest.raises(WeightsError, match="single colour"):
        check_picture(model_folder)


def test_download_fetches_from_every_address_and_checks(
    own_weights: Path, model_folder: Path, tmp_path: Path, web: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    add(own_weights, model_folder, "--url", web.url, "--url", f"{web.url}/none")
    (own_weights / "tiny").rename(tmp_path / "served")
    assert run(own_weights, "download", "--timeout", "5") == 1
    said = capsys.readouterr().out
    assert f"tiny from {web.url}: {len(published_models()['tiny'].files)} files" in said
    assert f"tiny from {web.url}/none: FAILED" in said
    assert "2 checked, 1 failed." in said
    (tmp_path / "served" / "none").mkdir()
    for file in (tmp_path / "served").glob("*.*"):
        (tmp_path / "served" / "none" / file.name).write_bytes(file.read_bytes())
    assert run(own_weights, "download") == 0


def test_the_comment_is_what_stands_above_the_first_entry() -> None:
    assert leading_comment("# a\n\n# b\nx = 1\n# c\n") == "# a\n\n# b\n"
    assert leading_comment("x = 1\n") == ""
    assert leading_comment("# only\n") == "# only\n"


def test_outside_a_checkout_nothing_is_written(
    own_weights: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["add", str(model_folder), "--name", "tiny", "--licence", "MIT", "--torch", "2.15.0"]) == 2
    assert "no source checkout" in capsys.readouterr().err
    assert published_models() == {}


def test_metrics_of_the_folder_are_kept_where_none_are_given(own_weights: Path, model_folder: Path) -> None:
    measured = [{"name": "KID", "value": 0.5, "protocol": "1,000 images"}]
    (model_folder / "metrics.json").write_text(json.dumps({"schema_version": 1, "metrics": measured}))
    assert add(own_weights, model_folder) == 0
    assert list(published_models()["tiny"].metrics) == measured


@pytest.mark.parametrize("wrong", ['{"metrics": ["FID"]}', '{"metrics": {"FID": 1}}', '{"metrics": [{"name": "FID"}]}'])
def test_metrics_of_another_form_are_refused(own_weights: Path, model_folder: Path, wrong: str) -> None:
    (model_folder / "metrics.json").write_text(wrong)
    assert add(own_weights, model_folder) == 1
    assert published_models() == {}


def test_a_model_that_draws_nan_is_refused(
    own_weights: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(model_folder)
    next(model.generator.parameters()).data.fill_(3e38)  # finite, and every sum of it is not
    save_model(model_folder, model.config, model.generator, None)
    assert add(own_weights, model_folder) == 1
    assert "draws images that hold NaN" in capsys.readouterr().err


def test_a_type_that_does_not_exist_is_refused(own_weights: Path, model_folder: Path) -> None:
    from ganzoo.weights.adding import add_model

    with pytest.raises(UsageError, match="fp8"):
        add_model(model_folder, own_weights, name="tiny", licence="MIT", dtype="fp8", trained_with="2.15.0")
    assert weights.published_models() == {}
