"""Evaluation as a call: what is judged, what it is compared with, which metrics, and what is refused in one line."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tiny_features import Brightness, Gap, Inception, Plain, Quarters, register_tiny
from tiny_runs import images as tiny_images
from tiny_runs import quick, recipe, table, train

import ganzoo
from ganzoo.errors import (
    CheckpointError,
    DataError,
    GanzooError,
    MissingDataError,
    ModelReferenceError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from ganzoo.evaluation import ArrayImages, Evaluation, PackImages, SampledImages, evaluate_images
from ganzoo.evaluation.choosing import DEFAULT_METRICS
from ganzoo.evaluation.evaluating import EvaluationRequest, Listeners, conduct
from ganzoo.evaluation.judged import Choice, Judged, is_model
from ganzoo.evaluation.real_images import open_training_data, wanted_for
from ganzoo.files import cache_home
from ganzoo.models import Model, ModelConfig, load_model, save_model
from ganzoo.sampling import TorchSampler
from ganzoo.tensors import load_strictly
from ganzoo.training.networks import build_networks

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder and with caches of its own, on the tiny features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    register_tiny(monkeypatch)
    quick(monkeypatch)


def noise(count: int, *, size: int = 8, channels: int = 1, low: int = 0, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(low, 256, (count, size, size, channels), dtype=np.uint8)


def features_of(images: Pixels) -> npt.NDArray[np.float32]:
    return Quarters().extract(torch.from_numpy(images)).features.numpy()


def gap(one: Pixels, other: Pixels) -> float:
    return float(np.abs(features_of(one).mean(axis=0) - features_of(other).mean(axis=0)).sum())


def nothing_left() -> bool:
    """Whether no working folder is left."""
    place = cache_home() / "evaluating"
    return not place.exists() or [one.name for one in place.iterdir()] == [".locks"]


# ------------------------------------------------------------------ the core


def test_values_are_those_of_the_metrics_in_the_order_asked_for() -> None:
    one, other = noise(20), noise(30, low=100)
    both = ArrayImages(one), ArrayImages(other)
    found = evaluate_images(*both, metrics=["gap", "brightness", "scores"], features="quarters")
    assert [value.name for value in found.values] == ["gap-quarters", "brightness", "scores"]
    assert found["gap-quarters"].value == pytest.approx(gap(one, other), rel=1e-5)
    assert found["brightness"].value == pytest.approx(one.mean())
    turned = evaluate_images(*both, metrics=["scores", "brightness", "gap"], features="quarters")
    assert [value.name for value in turned.values] == ["scores", "brightness", "gap-quarters"]


def test_features_of_a_side_are_computed_once_and_the_references_kept() -> None:
    one, other = ArrayImages(noise(20)), ArrayImages(noise(30, seed=1))
    evaluate_images(one, other, metrics=["gap", "scores", Gap()], features="quarters")
    assert len(Quarters.batches) == 2 + 2  # batches of 16: two of each side
    evaluate_images(one, other, metrics=["gap"], features="quarters")
    assert len(Quarters.batches) == 4 + 2


def test_a_models_images_are_drawn_once_whatever_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(ModelConfig(recipe(), "raw", 1, 0.0), *build_networks(recipe()))
    sampler = TorchSampler(model, device="cpu")
    drawn: list[int] = []
    pixels = sampler.pixels

    def counted(seeds: npt.ArrayLike, *rest: Any, **more: Any) -> Pixels:
        drawn.append(1)
        return pixels(seeds, *rest, **more)

    monkeypatch.setattr(sampler, "pixels", counted)
    images = SampledImages(sampler, range(150))
    evaluate_images(images, images, metrics=["gap", "inception_gap", "brightness"], features="quarters", device="cpu")
    drawn_by_generated = len(drawn) - 2 * 3  # as a reference they are drawn anew by each of two extractors
    assert drawn_by_generated == 3


def test_metrics_bound_to_features_run_on_them_beside_the_others() -> None:
    one, other = ArrayImages(noise(20)), ArrayImages(noise(30, seed=1))
    found = evaluate_images(one, other, metrics=["inception_gap", "gap"], features="quarters")
    assert [value.name for value in found.values] == ["gap-of-inception", "gap-quarters"]
    assert found["gap-of-inception"].protocol["features"] == "inception"
    assert found["gap-quarters"].protocol == {"features": "quarters", "norm": "l1"}
    assert set(found.protocol["features"]) == {"inception", "quarters"}
    same = evaluate_images(one, other, metrics=["gap", "inception_gap"], features="inception")
    assert [value.name for value in same.values] == ["gap-of-inception"]  # the same number twice stands once


def test_the_features_follow_the_channels_and_an_extractor_may_be_given_itself() -> None:
    for channels, name in ((1, "quarters"), (3, "plain")):  # what stands for mnist-convnet and cifar-convnet here
        images = ArrayImages(noise(20, channels=channels))
        assert list(evaluate_images(images, images, metrics="gap").protocol["features"]) == [name]
    own = Plain()
    assert evaluate_images(images, images, metrics="gap", features=own).values[0].name == "gap-plain"


def test_the_protocol_tells_all_that_a_number_rests_on() -> None:
    generated, reference = ArrayImages(noise(20)), ArrayImages(noise(30, seed=1), description="real")
    found = evaluate_images(generated, reference, metrics="gap", features="quarters", seed=7, device="cpu")
    protocol = found.protocol
    assert protocol["generated"] == generated.to_dict()
    assert protocol["reference"] == reference.to_dict()
    assert protocol["features"]["quarters"]["sha256"] == "ab" * 32
    assert (protocol["seed"], protocol["device"], "test" in protocol) == (7, "cpu", False)
    assert protocol["versions"]["ganzoo"] == ganzoo.__version__
    again = evaluate_images(generated, reference, metrics="gap", features="quarters", seed=7, device="cpu")
    assert found.to_json() == again.to_json()


def test_by_default_what_cannot_be_measured_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.evaluation.choosing.DEFAULT_METRICS", ("gap", "brightness", "scores"))
    found = evaluate_images(ArrayImages(noise(20)), features="quarters")
    assert [value.name for value in found.values] == ["brightness", "scores"]
    assert found.protocol["left_out"] == {"gap": "The metric gap needs real images to compare with."}


def test_all_is_every_metric_that_the_features_and_images_allow() -> None:
    images = ArrayImages(noise(20))
    found = evaluate_images(images, images, metrics="all", features="plain")
    names = [value.name for value in found.values]
    assert {"brightness", "gap-plain"} <= set(names)
    assert not {"gap-of-inception", "held", "looks", "scores"} & set(names)
    assert {"held", "looks", "scores"} <= set(found.protocol["left_out"])


@pytest.mark.parametrize(
    ("metric", "features", "message"),
    [
        ("gap", "quarters", "gap needs real images to compare with. Name them: --data"),
        ("held", "quarters", "held needs real images to compare with|held needs real images that were not trained on"),
        ("looks", "quarters", "looks needs a model with its discriminator"),
        ("scores", "plain", "scores needs features that name classes"),
    ],
)
def test_a_metric_that_was_named_and_lacks_something_is_refused(metric: str, features: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_images(ArrayImages(noise(20)), metrics=metric, features=features)


def test_a_test_set_is_handed_on() -> None:
    images, held = ArrayImages(noise(20)), ArrayImages(noise(9, seed=5))
    found = evaluate_images(images, images, test=held, metrics="held", features="quarters")
    assert found["held"].value == 9
    assert found.protocol["test"]["count"] == 9
    with pytest.raises(UsageError, match="not trained on"):
        evaluate_images(images, images, metrics="held", features="quarters")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    images = ArrayImages(noise(20))
    with pytest.raises(UnknownNameError, match=r"metric named 'gpa'.*'gap'"):
        evaluate_images(images, images, metrics=["gpa"])
    with pytest.raises(UnknownNameError, match=r"feature extractor named 'quartes'.*'quarters'"):
        evaluate_images(images, images, metrics=["gap"], features="quartes")
    with pytest.raises(UsageError, match="No metric is named"):
        evaluate_images(images, images, metrics=[])


def test_too_few_images_are_refused_with_the_metric_and_the_number_needed() -> None:
    few, enough = ArrayImages(noise(2)), ArrayImages(noise(20))
    with pytest.raises(UsageError, match="gap needs at least 3 generated images, and there are 2"):
        evaluate_images(few, enough, metrics="gap", features="quarters")
    with pytest.raises(UsageError, match="gap needs at least 3 real images, and there are 2"):
        evaluate_images(enough, few, metrics="gap", features="quarters")


def test_sides_of_other_sizes_or_channels_are_refused() -> None:
    for other in (noise(20, size=4), noise(20, channels=3)):
        with pytest.raises(UsageError, match=r"8×8×1.* data "):
            evaluate_images(ArrayImages(noise(20)), ArrayImages(other), metrics="gap", features="quarters")


def test_weights_go_to_inception_where_it_is_in_use_and_else_to_the_features() -> None:
    images = ArrayImages(noise(20))
    for metrics, expected in ((["gap", "inception_gap"], [None, Path("w")]), (["gap"], [Path("w")])):
        Quarters.weights.clear()
        evaluate_images(images, images, metrics=metrics, features="quarters", feature_weights=Path("w"))
        assert Quarters.weights == expected
    with pytest.raises(UsageError, match="None of the metrics rests on features"):
        evaluate_images(images, images, metrics="brightness", feature_weights=Path("w"))


# ------------------------------------------------------------------ class by class


def classed(count: int, classes: int = 3, **changes: Any) -> tuple[Pixels, npt.NDArray[np.int64]]:
    labels = np.arange(count) % classes
    images = noise(count, **changes)
    return np.minimum(images, (60 * (labels + 1)).astype(np.uint8)[:, None, None, None]), labels


def test_a_class_alone_has_the_number_that_its_images_alone_have() -> None:
    (one, labels), (other, real_labels) = classed(30), classed(45, low=50)
    found = evaluate_images(
        ArrayImages(one, labels),
        ArrayImages(other, real_labels, classes=("a", "b", "c")),
        metrics=["gap", "brightness"],
        features="quarters",
        by_class=True,
    )
    details = found["gap-quarters"].details
    for number, name in enumerate("abc"):
        expected = gap(one[labels == number], other[real_labels == number])
        assert details["by_class"][name] == pytest.approx(expected, rel=1e-4)
    assert details["mean_of_classes"] == pytest.approx(np.mean(list(details["by_class"].values())))
    assert details["images_of_classes"] == {"a": 10, "b": 10, "c": 10}
    assert found["gap-quarters"].value == pytest.approx(gap(one, other), rel=1e-4)
    assert found["brightness"].details["by_class"]["b"] == pytest.approx(one[labels == 1].mean())


@pytest.mark.parametrize(
    ("generated", "reference", "message"),
    [
        (ArrayImages(noise(30)), ArrayImages(*classed(30)), "The images that are judged have no classes"),
        (ArrayImages(*classed(30)), ArrayImages(noise(30)), "The data have no classes"),
        (ArrayImages(*classed(30)), ArrayImages(*classed(30, 2)), "have 3 classes, and the data 2"),
        (
            ArrayImages(*classed(30), classes=("cat", "dog", "owl")),
            ArrayImages(*classed(30), classes=("cat", "eel", "owl")),
            "'eel' stands where 'dog' does",
        ),
        (
            ArrayImages(noise(30), [0, 2] * 15),
            ArrayImages(*classed(30), classes=("cat", "dog", "owl")),
            "class 'dog' has 0 generated images, and the metric gap needs at least 3",
        ),
        (ArrayImages(*classed(30)), ArrayImages(*classed(8)), "class '2' has 2 real images"),
    ],
)
def test_classes_that_are_missing_empty_or_others_are_refused(
    generated: ArrayImages, reference: ArrayImages, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        evaluate_images(generated, reference, metrics="gap", features="quarters", by_class=True)
    assert "leave out --by-class" in str(caught.value)
    assert nothing_left()


def test_metrics_without_a_meaning_by_class_are_refused_there() -> None:
    images = ArrayImages(*classed(30))
    with pytest.raises(UsageError, match="class by class"):
        evaluate_images(images, images, metrics="scores", features="quarters", by_class=True)


# ------------------------------------------------------------------ MODEL or IMAGES


def published(folder: Path, **changes: Any) -> Path:
    """A model folder with random weights, trained on nobody knows what."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    data = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": ["x", "y", "z"]}
    generator, discriminator = build_networks(recipe(**changes))
    save_model(folder, ModelConfig(recipe(**changes), "raw", 6, 0.024, data), generator, discriminator)
    return folder


def write_images(folder: Path, images: Pixels, names: Sequence[str] | None = None) -> Path:
    for number, image in enumerate(images):
        path = folder / (names[number] if names else f"{number:03d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return folder


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("dcgan-mnist", True),
        ("hf-hub:org/name", True),
        ("model", True),
        ("./model", True),
        ("run", True),
        ("model/generator.safetensors", True),
        ("gone.onnx", True),
        ("old.pkl", True),
        ("digits", False),
        ("mnist:test", False),
        ("hf:org/name", False),
        ("pictures", False),
        ("pictures.zip", False),
        ("shards/{000..003}.tar", False),
        (Path("pictures"), False),
        (Path("model"), True),
        (np.zeros((2, 4, 4, 1), np.uint8), False),
        (None, True),
    ],
)
def test_a_model_is_told_from_images(what: Any, expected: bool, tmp_path: Path) -> None:
    published(tmp_path / "model")
    published(tmp_path / "run" / "model")
    write_images(tmp_path / "pictures", noise(3))
    (tmp_path / "pictures.zip").write_bytes(b"")
    assert is_model(what) is expected


def test_a_name_that_could_be_data_or_a_model_is_refused_with_both_ways_to_write_it(tmp_path: Path) -> None:
    published(tmp_path / "digits")
    with pytest.raises(ModelReferenceError, match=r"Write digits: for the data, \./digits for the model"):
        is_model("digits")
    assert is_model("./digits") is True
    assert is_model("digits:") is False


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("dcgan-mnits", "Did you mean 'dcgan-mnist'"),
        ("cifra10", "Did you mean 'cifar10'"),
        ("dcgan-lsun", "recipe 'dcgan-lsun' has no published weights. Train it"),
        ("org/name", "nothing at 'org/name'.*hf-hub:org/name for a model, hf:org/name for images"),
        ("./none", "nothing at './none'"),
        ("", "empty"),
        ("a\0b", "no path"),
        ("x" * 5000, "no path"),
    ],
)
def test_a_text_that_names_nothing_is_answered_in_one_line(what: str, message: str) -> None:
    with pytest.raises(ModelReferenceError, match=message) as caught:
        is_model(what)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ models


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six steps on ten images of a folder, with checkpoints of steps 4 and 6 and an average."""
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        place = tmp_path_factory.mktemp("trained")
        write_images(place / "ten", tiny_images())
        train(table(), place / "run", data=place / "ten")
    return place


@pytest.fixture
def run(_trained: Path, tmp_path: Path) -> Path:
    """The finished run, to be changed, in ./runs."""
    shutil.copytree(_trained / "run", tmp_path / "runs" / "00000-tiny")
    return tmp_path / "runs" / "00000-tiny"


def judged(what: Any, **options: Any) -> tuple[Evaluation, list[str]]:
    """An evaluation on the CPU, and the lines that were told."""
    choice = {name: options.pop(name) for name in list(options) if name in Choice.__dataclass_fields__}
    notes: list[str] = []
    options.setdefault("features", "quarters")
    request = EvaluationRequest(what, choice=Choice(device="cpu", **({"count": 40} | choice)), **options)
    return conduct(request, Listeners(note=notes.append)).evaluation, notes


def images_of(model: Model, count: int) -> Pixels:
    return SampledImages(TorchSampler(model, device="cpu"), range(count)).read(0, count).numpy()


def test_a_runs_published_model_is_judged_beside_its_training_images(run: Path) -> None:
    found, notes = judged(run, metrics=["gap", "brightness"])
    model = load_model(run / "model")
    assert found["gap-quarters"].value == pytest.approx(gap(images_of(model, 40), tiny_images()), rel=1e-5)
    assert (found.subject, notes) == ("00000-tiny", [])
    told = found.protocol["generated"]
    assert told["seeds"] == "0-39"
    assert (told["step"], told["weights"], told["checkpoint"]) == (6, "ema", "published")
    assert (told["recipe"], told["runtime"], told["precision"]) == ("tiny", "torch", "fp32")
    assert len(told["generator_sha256"]) == 64
    reference = found.protocol["reference"]
    assert (reference["count"], reference["description"]) == (10, "folder 'ten'")
    assert reference["is_training_data"] is True
    assert str(run.parent) not in found.to_json()
    assert nothing_left()


@pytest.mark.parametrize(("checkpoint", "weights", "network"), [("last", "raw", "generator"), (4, None, "ema")])
def test_a_checkpoint_is_judged_where_it_is_asked_for(
    run: Path, checkpoint: int | str, weights: Any, network: str
) -> None:
    from ganzoo.training.publishing import load_checkpoint_model

    found, _ = judged(run, checkpoint=checkpoint, weights=weights, metrics="brightness")
    step = None if checkpoint == "last" else int(checkpoint)
    model = load_checkpoint_model(run, step, weights)
    assert found["brightness"].value == pytest.approx(images_of(model, 40).mean())
    told = found.protocol["generated"]
    assert (told["checkpoint"], told["weights"]) == (f"step {step or 6}", "raw" if weights else "ema")
    assert len(told["generator_tensors_sha256"]) == 64
    published_one, _ = judged(run, metrics="brightness")
    assert published_one["brightness"].value != found["brightness"].value


def test_the_folder_of_a_runs_model_stands_for_the_run_where_one_of_its_checkpoints_is_asked_for(run: Path) -> None:
    found, _ = judged(run / "model", checkpoint=4, metrics="brightness")
    assert found.protocol["generated"]["step"] == 4
    with pytest.raises(UsageError, match="Only a run has checkpoints"):
        judged(run / "model" / "generator.safetensors", checkpoint=4, metrics="brightness")


def test_the_last_checkpoint_is_the_published_model(run: Path) -> None:
    for checkpoint in ("last", 6):
        found, _ = judged(run, checkpoint=checkpoint, metrics="brightness")
        assert found.protocol["generated"]["checkpoint"] == "published"


def test_an_unfinished_run_is_judged_by_its_newest_checkpoint_and_says_so(run: Path) -> None:
    shutil.rmtree(run / "model")
    found, notes = judged(run, metrics="brightness")
    assert found.protocol["generated"]["step"] == 6
    assert notes == ["The run 00000-tiny has no model yet: judging its checkpoint of step 6."]


def test_a_run_that_went_on_is_judged_by_its_newest_checkpoint_and_says_so(run: Path) -> None:
    config = json.loads((run / "model" / "config.json").read_text())
    save = {**config, "step": 4}
    (run / "model" / "config.json").write_text(json.dumps(save))
    found, notes = judged(run, metrics="brightness")
    assert found.protocol["generated"]["step"] == 6
    assert "went on after its model was published" in notes[0]


def test_without_a_model_the_newest_run_is_judged_and_named(run: Path) -> None:
    found, notes = judged(None, metrics="brightness")
    assert found.subject == "00000-tiny"
    assert notes[0].startswith("Using the newest run, ")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"checkpoint": 5}, CheckpointError, "no checkpoint of step 5"),
        ({"checkpoint": "best"}, UsageError, "'best' is no checkpoint"),
        ({"checkpoint": 4, "runtime": "onnx"}, UsageError, "drawn by torch"),
        ({"runtime": "tensorflow"}, UsageError, "no runtime 'tensorflow'"),
        ({"runtime": "onnx"}, UsageError, "Export it first"),
        ({"count": None, "seeds": [1.5]}, UsageError, "whole numbers"),
        ({"seeds": [1]}, UsageError, "Both a count and seeds"),
        ({"count": 0}, UsageError, "0 images cannot be drawn"),
        ({"image_size": 16}, UsageError, "image size 8, so that they cannot be judged at 16"),
        ({"channels": 3}, UsageError, "channels 1, so that they cannot be judged at 3"),
    ],
)
def test_a_choice_that_a_run_does_not_have_is_refused(
    run: Path, options: dict[str, Any], kind: type[GanzooError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        judged(run, metrics="brightness", **options)
    assert "\n" not in str(caught.value)
    assert nothing_left()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"checkpoint": "last"}, "Only a run has checkpoints"), ({"weights": "ema"}, "holds raw weights only")],
)
def test_what_only_a_run_has_is_refused_of_a_model_folder(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        judged(published(tmp_path / "model"), metrics="brightness", **options)


def test_models_samplers_and_sets_of_images_are_judged_as_they_are(tmp_path: Path) -> None:
    model = load_model(published(tmp_path / "model"))
    expected = images_of(model, 40)
    for what in (model, TorchSampler(model, device="cpu"), SampledImages(TorchSampler(model, "cpu"), range(40))):
        found, _ = judged(what, metrics="brightness")
        assert found["brightness"].value == pytest.approx(expected.mean())
    with pytest.raises(UsageError, match="holds 40"):
        judged(SampledImages(TorchSampler(model, "cpu"), range(40)), count=41)


def test_data_that_the_model_was_trained_on_are_not_here(tmp_path: Path) -> None:
    model = published(tmp_path / "model", data__source="./away")
    with pytest.raises(MissingDataError, match=r"model was trained on ten images.*nothing at.*--data SOURCE"):
        judged(model, metrics="gap")
    found, notes = judged(model, metrics="brightness")  # needs none
    assert "reference" not in found.protocol
    assert notes[0].startswith("No real images stand beside the numbers. model was trained on ten images")
    again, _ = judged(model, data=noise(30), metrics="gap")
    assert again.protocol["reference"]["is_training_data"] is False


def test_other_images_than_those_of_the_training_are_told_of(tmp_path: Path) -> None:
    write_images(tmp_path / "here", noise(9))
    found, notes = judged(published(tmp_path / "model", data__source="./here"), metrics="gap")
    assert found.protocol["reference"]["is_training_data"] is False
    assert notes == ["The images of folder 'here' are not those that model was trained on (checksum)."]


def test_an_exported_model_is_judged_like_the_one_that_it_was_exported_from(run: Path) -> None:
    from ganzoo.export import export_onnx

    export_onnx(load_model(run / "model"), run / "model" / "model.onnx")
    torch_one, _ = judged(run, metrics=["gap", "brightness"])
    for what, options in ((run, {"runtime": "onnx"}), (run / "model" / "model.onnx", {})):
        found, _ = judged(what, metrics=["gap", "brightness"], **options)
        assert found["brightness"].value == pytest.approx(torch_one["brightness"].value, abs=0.01)
        told = found.protocol["generated"]
        assert (told["runtime"], told["precision"], told["provider"], told["step"]) == ("onnx", "fp32", "cpu", 6)
        assert told["generator_sha256"] == torch_one.protocol["generated"]["generator_sha256"]


def test_a_conditional_models_classes_are_named_by_what_it_was_trained_on(tmp_path: Path) -> None:
    model = published(tmp_path / "model", data__num_classes=3)
    data = tiny_images(30), np.arange(30) % 3
    found, _ = judged(model, data=data, count=60, metrics="gap", by_class=True)
    assert list(found["gap-quarters"].details["by_class"]) == ["x", "y", "z"]
    assert sum(found["gap-quarters"].details["images_of_classes"].values()) == 60


def test_a_model_that_draws_nan_is_an_error_of_one_line(tmp_path: Path) -> None:
    model = load_model(published(tmp_path / "model"))
    state = {
        name: torch.full_like(one, float("nan")) if one.is_floating_point() else one
        for name, one in model.generator.state_dict().items()
    }
    load_strictly(model.generator, state, "here")
    with pytest.raises(WeightsError, match="NaN or Inf"):
        judged(model, metrics="brightness")
    assert nothing_left()


# ------------------------------------------------------------------ images of anybody


def test_images_keep_their_own_size_and_real_ones_are_brought_to_it(tmp_path: Path) -> None:
    mine, real = noise(20, size=6, channels=3), noise(25, size=12, channels=3, seed=3)
    folder = write_images(tmp_path / "mine", mine)
    found, notes = judged(folder, data=write_images(tmp_path / "real", real), count=None, metrics=["gap", "brightness"])
    assert found["brightness"].value == pytest.approx(mine.mean(), abs=0.01)
    assert (found.subject, notes) == ("folder 'mine'", [])
    assert found.protocol["generated"]["kind"] == "images"
    assert [found.protocol[one]["image_size"] for one in ("generated", "reference")] == [6, 6]
    assert [found.protocol[one]["count"] for one in ("generated", "reference")] == [20, 25]
    assert found.protocol["reference"]["resize"] == "lanczos"
    assert not (cache_home() / "packs" / found.protocol["generated"]["content_sha256"]).exists()
    assert len(list((cache_home() / "packs").glob("[0-9a-f]*"))) == 1  # the real ones; the judged ones are not kept


@pytest.mark.parametrize("kind", ["npz", "zip", "array", "pack"])
def test_images_of_every_kind_are_judged(tmp_path: Path, kind: str) -> None:
    from ganzoo.data import DataRequest, open_pack

    mine = noise(20, channels=3)
    folder = write_images(tmp_path / "mine", mine)
    np.savez(tmp_path / "mine.npz", images=mine)
    shutil.make_archive(str(tmp_path / "mine"), "zip", folder)
    pack = open_pack(folder, DataRequest(8), cache_dir=tmp_path / "packs")
    what = {"npz": "mine.npz", "zip": "mine.zip", "array": mine, "pack": pack.path}[kind]
    found, _ = judged(what, count=None, metrics="brightness")
    assert found["brightness"].value == pytest.approx(mine.mean(), abs=0.01)
    assert str(tmp_path) not in found.to_json()
    pack.close()


def test_some_images_are_taken_evenly(tmp_path: Path) -> None:
    mine = noise(20)
    found, _ = judged(mine, data=noise(30, seed=1), count=5, reference_count=6, metrics=["brightness", "gap"])
    assert found["brightness"].value == pytest.approx(mine[::4].mean())
    assert found.protocol["generated"]["chosen"] == "5 of 20, evenly"
    assert found.protocol["reference"]["chosen"] == "6 of 30, evenly"
    with pytest.raises(UsageError, match=r"21 images are asked for, and the array .* holds 20"):
        judged(mine, count=21, metrics="brightness")


def test_images_without_data_are_measured_as_far_as_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.evaluation.choosing.DEFAULT_METRICS", ("gap", "brightness"))
    found, notes = judged(noise(20), count=None)
    assert [value.name for value in found.values] == ["brightness"]
    assert notes == ["gap is left out. The metric gap needs real images to compare with."]


def broken(folder: Path) -> Path:
    write_images(folder, noise(6, channels=3))
    (folder / "002.png").write_bytes((folder / "002.png").read_bytes()[:60])
    (folder / "004.png").write_bytes(b"")
    return folder


def test_corrupt_files_are_left_out_counted_and_named(tmp_path: Path) -> None:
    found, notes = judged(broken(tmp_path / "mine"), data=noise(9, channels=3), count=None, metrics="gap")
    told = found.protocol["generated"]
    assert (told["count"], told["skipped"]) == (4, 2)
    assert [name for name, _ in told["skipped_examples"]] == ["002.png", "004.png"]
    assert len(notes) == 1
    assert notes[0].startswith("2 images are left out of the folder 'mine': '002.png' (")
    _, notes = judged(noise(9, channels=3), data=tmp_path / "mine", count=None, metrics="gap")
    assert "2 images are left out of the folder 'mine'" in notes[0]


def bad(kind: str, folder: Path) -> Any:
    """Images that cannot be judged as they are."""
    match kind:
        case "empty":
            folder.mkdir()
        case "unreadable":
            write_images(folder, noise(2))
            for path in folder.iterdir():
                path.write_bytes(b"broken")
        case "sizes":
            write_images(folder, noise(4))
            write_images(folder, noise(1, size=10), ["zz.png"])
        case "colours":
            write_images(folder, noise(4))
            write_images(folder, noise(1, channels=3), ["zz.png"])
        case "oblong":
            write_images(folder, noise(4)[:, :6])
        case "nan":
            np.save(folder.with_suffix(".npy"), np.full((4, 8, 8, 1), np.nan, np.float32))
            return folder.with_suffix(".npy")
        case "truncated":
            np.savez(folder.with_suffix(".npz"), images=noise(4))
            data = folder.with_suffix(".npz").read_bytes()
            folder.with_suffix(".npz").write_bytes(data[: len(data) // 2])
            return folder.with_suffix(".npz")
    return folder


@pytest.mark.parametrize(
    ("kind", "message", "remedy"),
    [
        ("empty", "folder 'mine' holds no images", ""),
        ("unreadable", "None of the 2 images of the folder 'mine' can be used", "000.png"),
        ("sizes", "000.png is 8×8 grey, zz.png is 10×10 grey", "--image-size N"),
        ("colours", "000.png is 8×8 grey, zz.png is 8×8 RGB", "--channels 3"),
        ("oblong", "not square: 000.png is 8×6 grey", "--image-size 6"),
        ("nan", "floats from nan to nan", "bytes"),
        ("truncated", "cannot be read", ""),
    ],
)
def test_images_that_cannot_be_judged_are_refused_in_one_line(
    tmp_path: Path, kind: str, message: str, remedy: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        judged(bad(kind, tmp_path / "mine"), data=noise(9), count=None, metrics="gap")
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert nothing_left()


def test_what_differs_is_judged_where_a_size_or_channels_are_asked_for(tmp_path: Path) -> None:
    sizes, colours = bad("sizes", tmp_path / "sizes"), bad("colours", tmp_path / "colours")
    found, _ = judged(sizes, data=noise(9, size=16), count=None, image_size=6, metrics="gap")
    assert [found.protocol[one]["image_size"] for one in ("generated", "reference")] == [6, 6]
    found, _ = judged(colours, data=noise(9), count=None, channels=3, metrics="gap")
    assert [found.protocol[one]["channels"] for one in ("generated", "reference")] == [3, 3]
    found, _ = judged(bad("oblong", tmp_path / "oblong"), data=noise(9), count=None, image_size=6, metrics="gap")
    assert found.protocol["generated"]["crop"] == "center"


def test_real_images_are_not_enlarged_nor_greyed_unless_it_is_asked_for() -> None:
    mine, small, coloured = noise(20, size=16), noise(20), noise(20, size=16, channels=3)
    with pytest.raises(DataError, match=r"would be enlarged: number 0 is 8×8 grey, and 16×16.*--image-size 16"):
        judged(mine, data=small, count=None, metrics="gap")
    with pytest.raises(DataError, match=r"in colours, and those that are judged are grey.*--channels 1"):
        judged(mine, data=coloured, count=None, metrics="gap")
    with pytest.raises(DataError, match=r"grey, and those that are judged are in colours.*--channels 3"):
        judged(coloured, data=mine, count=None, metrics="gap")
    assert judged(mine, data=small, count=None, image_size=16, metrics="gap")[0].values
    assert judged(mine, data=coloured, count=None, channels=1, metrics="gap")[0].values


def test_a_training_set_that_was_enlarged_for_the_training_is_no_surprise(run: Path, tmp_path: Path) -> None:
    from ganzoo.evaluation.judged import Judged
    from ganzoo.evaluation.real_images import open_real, wanted_for

    found, _ = judged(run, data=tiny_images(), metrics="gap")
    assert found.protocol["reference"]["is_training_data"] is True
    big = published(tmp_path / "big", data__image_size=16, generator__widths=[8, 4, 4], discriminator__widths=[4, 8, 8])
    with pytest.raises(DataError, match="would be enlarged"):
        judged(big, data=tiny_images(), metrics="gap")
    assert judged(big, data=tiny_images(), image_size=16, metrics="gap")[0].values
    config = json.loads((big / "config.json").read_text())
    from contextlib import ExitStack

    from ganzoo.evaluation.real_images import Wanted

    with ExitStack() as stack:  # what the training saw, by its checksum
        model = load_model(big)
        wanted = wanted_for(Judged(ArrayImages(noise(4, size=16)), "big", "big", model.config), Choice())
        asked = Wanted(wanted.request, image_size=True)
        sha = open_real(tiny_images(), asked, stack).to_dict()["content_sha256"]
    config["data"]["content_sha256"] = sha
    (big / "config.json").write_text(json.dumps(config))
    assert judged(big, data=tiny_images(), metrics="gap")[0].protocol["reference"]["is_training_data"] is True


@pytest.mark.parametrize("option", ["checkpoint", "weights", "seeds", "runtime"])
def test_what_is_of_models_is_refused_of_images(option: str) -> None:
    value: Any = {"checkpoint": 4, "weights": "raw", "seeds": [1], "runtime": "onnx"}[option]
    with pytest.raises(UsageError, match=f"--{option} is of models"):
        judged(noise(20), metrics="brightness", **{"count": None, option: value})


# ------------------------------------------------------------------ endings


def _fails(error: BaseException) -> Callable[..., Any]:
    def measure(*_: Any) -> Any:
        assert not nothing_left()
        raise error

    return measure


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
def test_nothing_is_left_however_it_ends(run: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(Brightness, "measure", _fails(error))
    with pytest.raises(type(error)):
        judged(run, metrics="brightness")
    assert nothing_left()


def test_a_full_disk_is_told_in_one_line_and_nothing_is_left(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ganzoo.evaluation.tables.TableWriter.add", full)
    with pytest.raises(DataError, match="No space left on device") as caught:
        judged(run, metrics="gap")
    assert "\n" not in str(caught.value)
    assert nothing_left()


def test_the_same_call_gives_the_same_bytes_wherever_it_is_made(run: Path, tmp_path: Path) -> None:
    first = judged(run, metrics=["gap", "brightness"])[0].to_json()
    shutil.rmtree(tmp_path / "home")
    moved = tmp_path / "elsewhere" / "00000-tiny"
    shutil.move(run, tmp_path / "elsewhere" / "00000-tiny")
    assert judged(moved, metrics=["gap", "brightness"])[0].to_json() == first


def test_ganzoo_evaluate_gives_the_numbers_and_writes_a_report_where_it_is_asked_for(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": ["gap"], "features": "quarters", "count": 40, "device": "cpu"}
    found = ganzoo.evaluate(run, **options)
    assert not (run / "evaluation").exists()
    again = ganzoo.evaluate(run, out=tmp_path / "report", **options)
    assert again.to_json() == found.to_json()
    assert (tmp_path / "report" / "metrics.json").read_text(encoding="utf-8") == found.to_json()
    assert {"report.html", "samples.png"} <= {path.name for path in (tmp_path / "report").iterdir()}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(UsageError, match=r"holds no report, but 'chapter\.tex'"):
        ganzoo.evaluate(run, out=tmp_path / "thesis", **options)


def test_the_usual_metrics_are_registered() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ganzoo.registry.metrics, "_registered", {})
        assert set(DEFAULT_METRICS) | {"fid", "kid"} <= set(ganzoo.registry.metrics.names())


def test_a_registered_metric_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ganzoo.registry.metrics._registered, "odd", dict)
    images = ArrayImages(noise(20))
    with pytest.raises(GanzooError, match="'odd' is a dict, no"):
        evaluate_images(images, images, metrics="odd")
    monkeypatch.setattr(Brightness, "measure", lambda self, subject: [1.0])
    with pytest.raises(GanzooError, match="gave no list of values"):
        evaluate_images(images, images, metrics="brightness")


def test_pack_images_in_training_are_judged_like_any_other(run: Path) -> None:
    """What the trainer hands over: a pack's images, and samples of networks that have no file."""
    from ganzoo.data import DataRequest, open_pack

    model = Model(ModelConfig(recipe(), "raw", 1, 0.0), *build_networks(recipe()))
    with open_pack(tiny_images(), DataRequest(8, channels=1)) as pack:
        sampled = SampledImages(TorchSampler(model, device="cpu"), range(20))
        found = evaluate_images(sampled, PackImages(pack), metrics="gap", features=Inception(), device="cpu")
    assert found["gap-of-inception"].value > 0


def _digits_from_a_path_that_is_gone(**data: Any) -> Judged:
    model = ganzoo.load_pretrained("dcgan-digits")
    config = replace(model.config, data={**model.config.data, **data})
    images = ArrayImages(np.zeros((2, 16, 16, 1), dtype=np.uint8))
    return Judged(images, "dcgan-digits", "dcgan-digits", config=config, source="./gone.zip")


def test_a_published_model_finds_its_training_images_where_its_recipe_has_them() -> None:
    judged = _digits_from_a_path_that_is_gone()
    with ExitStack() as stack:
        found = open_training_data(judged, wanted_for(judged, Choice()), stack)
        assert found.count == 1797
        assert found.to_dict()["is_training_data"] is True


def test_other_images_of_the_recipe_are_not_taken_for_those_of_the_training() -> None:
    judged = _digits_from_a_path_that_is_gone(content_sha256="0" * 64)
    with (
        ExitStack() as stack,
        pytest.raises(MissingDataError, match=r"nothing at 'gone.zip'. digits holds others. Name"),
    ):
        open_training_data(judged, wanted_for(judged, Choice()), stack)
