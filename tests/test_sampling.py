"""Sampling: seeds from text, z from seeds by a formula that is repeated here, and images that are a seed's own."""

from __future__ import annotations

import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_runs import recipe

from ganzoo import registry
from ganzoo.errors import PluginError, UsageError, WeightsError
from ganzoo.files import sha256_of
from ganzoo.models import Model, ModelConfig
from ganzoo.pictures import to_uint8
from ganzoo.randomness import Stream
from ganzoo.references import ModelLocation
from ganzoo.sampling import BaseSampler, TorchSampler, labels_of, latents, open_sampler, parse_seeds
from ganzoo.training.networks import build_networks

# ---------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("7", [7]),
        ("3,7,10-12", [3, 7, 10, 11, 12]),
        (" 5 , 1 - 2 ", [5, 1, 2]),
        ("4,4", [4, 4]),
        ("18446744073709551614-18446744073709551615", [2**64 - 2, 2**64 - 1]),
    ],
)
def test_seeds_are_read_in_their_order(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text).tolist() == seeds
    assert parse_seeds(text).dtype == np.uint64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a number nor a range"),
        ("a", "neither a number nor a range"),
        ("1,,2", "neither a number nor a range"),
        ("-3", "neither a number nor a range"),
        ("1.5", "neither a number nor a range"),
        ("1 2", "neither a number nor a range"),
        ("1-2-3", "neither a number nor a range"),
        ("5-3", "goes backwards"),
        ("18446744073709551616", "seeds are below 2^64"),
        ("9" * 5000, "seeds are below 2^64"),
        ("0-100000000", "names over 100,000,000 seeds"),
    ],
)
def test_what_is_no_list_of_seeds_is_answered(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_seeds(text)
    assert message in str(error.value)
    assert len(str(error.value)) < 400


# ---------------------------------------------------------------------------------------------------- z


def philox(seed: int, block: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al. 2011) with the seed as key and (block, 0, 0, 0) as counter, in whole numbers."""
    a, b, c, d = block, 0, 0, 0
    low, high = seed % 2**32, seed // 2**32
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = right // 2**32 ^ b ^ low, right % 2**32, left // 2**32 ^ d ^ high, left % 2**32
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return a, b, c, d


def z_of(seed: int, length: int, prior: str) -> list[float]:
    """The z of a seed, element by element."""

    def uniform(index: int) -> float:
        return (philox(seed, index // 4)[index % 4] + 0.5) / 2**32

    if prior == "uniform":
        return [2.0 * uniform(index) - 1.0 for index in range(length)]
    values = []
    for index in range(length):
        first, second = uniform(index - index % 2), uniform(index - index % 2 + 1)
        turn = math.cos if index % 2 == 0 else math.sin
        values.append(math.sqrt(-2.0 * math.log(first)) * turn(2.0 * math.pi * second))
    return values


# The first and last of 100 elements, as the functions above give them; what any other implementation must give.
VECTORS = {
    (0, "uniform"): [-0.20190706, 0.7610404, 0.47142557, 0.21096371, 0.9444824, 0.831188],
    (0, "normal"): [0.99113768, -0.92466259, -0.61760896, -0.48206859, -0.15363823, -0.55209641],
    (1, "uniform"): [0.78051835, 0.78936943, 0.1714519, 0.42253615, 0.34399654, 0.25099639],
    (1, "normal"): [0.38040073, -0.29627789, -0.24923342, -1.00383725, 0.62694785, -0.63546164],
    (2**40, "uniform"): [-0.84289872, 0.18953224, -0.03038309, 0.40926013, -0.6188792, 0.85365757],
    (2**40, "normal"): [-1.86747763, -1.26512878, -0.33840335, -1.15476664, 1.75298355, -0.61089645],
}


@pytest.mark.parametrize(("seed", "prior"), VECTORS)
def test_z_of_a_seed_is_what_is_written_down(seed: int, prior: str) -> None:
    drawn = latents([seed], 100, prior)
    assert (drawn.shape, drawn.dtype) == ((1, 100), np.float32)
    assert drawn[0, [0, 1, 2, 3, 4, 99]].tolist() == pytest.approx(VECTORS[seed, prior], abs=1e-6)
    assert drawn[0].tolist() == pytest.approx(z_of(seed, 100, prior), abs=1e-6)


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_a_seeds_z_does_not_hang_on_the_others_nor_on_its_length(prior: str) -> None:
    whole = latents([3, 2**40, 2**64 - 1, 0], 8, prior)
    assert np.array_equal(latents([2**64 - 1, 3], 8, prior), whole[[2, 0]])
    assert np.array_equal(latents([2**40], 5, prior)[0], whole[1, :5])
    assert len({row.tobytes() for row in whole}) == 4


@pytest.mark.parametrize("prior", ["uniform", "normal"])
@pytest.mark.parametrize("psi", [1.0, 0.7, 1e-3, np.float32(0.5)])
def test_truncation_multiplies_z_before_it_is_rounded(prior: str, psi: float) -> None:
    drawn = latents([3, 2**40], 5, prior, psi)
    expected = [[float(psi) * element for element in z_of(seed, 5, prior)] for seed in (3, 2**40)]
    assert drawn.dtype == np.float32
    assert np.abs(drawn - np.array(expected)).max() <= 1e-6 * float(psi)
    if psi == 1.0:
        assert np.array_equal(drawn, latents([3, 2**40], 5, prior))
        assert np.array_equal(drawn, latents([3, 2**40], 5, prior, None))


def test_seeds_come_in_any_whole_kind() -> None:
    expected = latents([0, 1, 2], 4, "normal")
    for seeds in (range(3), np.arange(3), np.arange(3, dtype=np.uint8), (0, 1, 2), parse_seeds("0-2")):
        assert np.array_equal(latents(seeds, 4, "normal"), expected)
    assert latents([], 4, "normal").shape == (0, 4)


@pytest.mark.parametrize("seeds", [[-1], [2**64], [1.5], [[1, 2]], 3, ["1"], [True, False], [-1, 2**63]])
def test_what_are_no_seeds_is_refused(seeds: Any) -> None:
    with pytest.raises(UsageError, match="Seeds are a list of whole numbers"):
        latents(seeds, 4, "normal")


def test_labels_of_seeds_are_uniform_and_their_own() -> None:
    labels = labels_of(np.arange(3000), 3)
    assert np.bincount(labels).tolist() == pytest.approx([1000] * 3, abs=120)
    assert np.array_equal(labels_of([5, 7], 3), labels[[5, 7]])
    assert Stream.LABEL != Stream.SAMPLE  # so that a label tells nothing of z


# ---------------------------------------------------------------------------------------------------- images


def sampler(**changes: Any) -> TorchSampler:
    asked = recipe(**changes)
    generator = build_networks(asked)[0].eval().requires_grad_(False)
    return TorchSampler(Model(ModelConfig(asked, "raw", 0, 0.0), generator, None), "cpu")


KINDS: list[dict[str, Any]] = [
    {},
    {"generator__prior": "uniform"},
    {"data__num_classes": 3},
    {"generator__norm": "none"},
    {"generator__hidden": [6]},
]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_an_image_is_its_seeds_own_whatever_the_batch(changes: dict[str, Any]) -> None:
    """Alone, in batches of other sizes and with other mates."""
    drawn = sampler(**changes)
    images = drawn.sample(range(10))
    assert (images.shape, images.dtype) == ((10, 1, 8, 8), np.float32)
    assert np.abs(images).max() <= 1.0
    for batch_size in (1, 3, 10, 1000):
        assert np.abs(drawn.sample(range(10), batch_size=batch_size) - images).max() <= 1e-6
    assert np.abs(drawn.sample([7, 2**50, 3])[[0, 2]] - images[[7, 3]]).max() <= 1e-6
    assert np.abs(drawn.sample([4]) - images[4]).max() <= 1e-6
    assert len({image.tobytes() for image in images}) == 10
    assert drawn.sample([]).shape == (0, 1, 8, 8)


def test_an_image_is_the_generators_of_the_seeds_z() -> None:
    drawn = sampler()
    generator = build_networks(recipe())[0].eval()
    with torch.no_grad():
        expected = generator(torch.from_numpy(latents(range(4), 4, "normal")))
    assert torch.allclose(torch.from_numpy(drawn.sample(range(4))), expected, atol=1e-6)


def test_the_sampler_tells_what_it_draws() -> None:
    drawn = sampler(data__num_classes=3)
    assert (drawn.image_size, drawn.channels, drawn.num_classes, drawn.latent_dim) == (8, 1, 3, 4)
    assert (drawn.prior, drawn.device) == ("normal", torch.device("cpu"))


def test_labels_are_those_given_or_the_seeds_own() -> None:
    drawn = sampler(data__num_classes=3)
    seeds = list(range(6))
    own = labels_of(seeds, 3)
    assert np.array_equal(drawn.sample(seeds), drawn.sample(seeds, labels=own))
    others = (own + 1) % 3
    assert all(
        np.abs(a - b).max() > 1e-6 for a, b in zip(drawn.sample(seeds), drawn.sample(seeds, others), strict=True)
    )
    assert np.abs(drawn.sample([3], [int(others[3])]) - drawn.sample(seeds, others)[3]).max() <= 1e-6


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"There are 3 seeds, but labels of shape \(2,\)"),
        ([[0, 1, 2]], r"labels of shape \(1, 3\)"),
        ([0, 1, 3], "knows the classes 0 to 2"),
        ([0, -1, 2], "knows the classes 0 to 2"),
        ([0.5, 1.0, 2.0], "knows the classes 0 to 2, as whole numbers"),
    ],
)
def test_labels_that_cannot_be_are_answered(labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sampler(data__num_classes=3).sample(range(3), labels)


def test_labels_for_a_model_without_classes_and_an_empty_batch_are_answered() -> None:
    with pytest.raises(UsageError, match="This model knows no classes"):
        sampler().sample(range(3), [0, 0, 0])
    with pytest.raises(UsageError, match=r"`batch_size` \(=0\) must be a whole number, at least 1"):
        sampler().sample(range(3), batch_size=0)


# ---------------------------------------------------------------------------------------------------- samplers


class Counting(BaseSampler):
    """Draws images of the first element of z, and counts batches."""

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__(image_size=4, channels=1, num_classes=num_classes, latent_dim=3, prior="normal")
        self.batches: list[tuple[int, Any]] = []

    def _draw(self, z: Any, label: Any) -> Any:
        self.batches.append((len(z), None if label is None else label.tolist()))
        return np.tanh(z[:, :1, None, None]) * np.ones((1, 1, 4, 4), np.float32)


def test_a_sampler_need_only_draw_a_batch() -> None:
    drawn = Counting()
    images = drawn.sample(range(5), batch_size=2, truncation=0.5)
    assert drawn.batches == [(2, None), (2, None), (1, None)]
    assert np.allclose(images[:, 0, 0, 0], np.tanh(0.5 * latents(range(5), 3, "normal")[:, 0]))
    pixels = drawn.pixels(range(5), truncation=0.5)
    assert (pixels.shape, pixels.dtype) == ((5, 4, 4, 1), np.uint8)
    assert np.array_equal(pixels, to_uint8(images))
    labelled = Counting(num_classes=3)
    labelled.sample(range(3), 2, batch_size=2)
    labelled.sample(range(3), batch_size=2)
    own = labels_of(range(3), 3).tolist()
    assert [label for _, label in labelled.batches] == [[2, 2], [2], own[:2], own[2:]]


@pytest.mark.parametrize(
    "arguments", [{"labels": [0]}, {"batch_size": -1}, {"truncation": 2.0}, {"seeds": [0, -1]}, {"seeds": [[1]]}]
)
def test_everything_is_checked_before_the_first_batch(arguments: dict[str, Any]) -> None:
    drawn = Counting()
    with pytest.raises(UsageError):
        drawn.sample(**({"seeds": range(3)} | arguments))
    assert drawn.batches == []


def test_a_sampler_that_cannot_draw_cannot_be_made() -> None:
    class Incomplete(BaseSampler):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?_draw"):
        Incomplete(image_size=4, channels=1, num_classes=0, latent_dim=3, prior="normal")  # type: ignore[abstract]


def test_the_samplers_are_registered_and_all_draw_with_the_same_base() -> None:
    assert registry.samplers.names() == ["onnx", "openvino", "torch"]
    for name in registry.samplers.names():
        assert issubclass(registry.samplers.get(name), BaseSampler)
        assert callable(registry.samplers.get(name).open)


def test_a_generator_is_drawn_with_where_it_is_and_in_its_precision() -> None:
    asked = recipe()
    generator = build_networks(asked)[0].eval().requires_grad_(False).to(torch.bfloat16)
    drawn = TorchSampler(Model(ModelConfig(asked, "raw", 0, 0.0), generator, None), device=None)
    assert drawn.device == torch.device("cpu")
    assert np.abs(drawn.sample(range(4)) - sampler().sample(range(4))).max() < 0.02
    assert drawn.sample(range(4)).dtype == np.float32


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the samplers are made with; nothing is read."""
    made: list[Any] = []

    def note(self: Any, source: Any, **options: Any) -> None:
        made.append((source, options))
        self.metadata = types.SimpleNamespace(weights_sha256=sha256_of(__file__), precision="fp32")

    for name in registry.samplers.names():
        monkeypatch.setattr(registry.samplers.get(name), "__init__", note)
    monkeypatch.setattr("ganzoo.models.load_model", lambda path: ("loaded", path))
    return made


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("folder", {}, (("loaded", Path("m")), {"device": "auto"})),
        ("folder", {"precision": "fp32"}, (("loaded", Path("m")), {"device": "auto"})),
        ("safetensors", {"runtime": "torch", "device": "cpu"}, (("loaded", Path("m")), {"device": "cpu"})),
        ("onnx", {}, (Path("m"), {"provider": "auto"})),
        ("onnx", {"precision": "fp32"}, (Path("m"), {"provider": "auto"})),
        ("onnx", {"runtime": "onnx", "device": "cpu"}, (Path("m"), {"provider": "cpu"})),
        ("onnx", {"provider": "cuda"}, (Path("m"), {"provider": "cuda"})),
        ("onnx", {"provider": "cuda", "device": "cuda"}, (Path("m"), {"provider": "cuda"})),
        ("onnx", {"runtime": "openvino", "device": "cpu"}, (Path("m"), {"precision": "fp32"})),
        ("onnx", {"runtime": "openvino", "precision": "bf16"}, (Path("m"), {"precision": "bf16"})),
    ],
)
def test_a_model_is_opened_with_the_runtime_that_draws_it(
    opened: list[Any], kind: Any, arguments: dict[str, str], expected: Any
) -> None:
    open_sampler(ModelLocation(Path("m"), kind), **arguments)
    assert opened == [expected]


def test_torch_draws_in_bf16_where_it_is_asked_to(tmp_path: Path) -> None:
    asked = recipe()
    Model(ModelConfig(asked, "raw", 0, 0.0), build_networks(asked)[0].eval(), None).save(tmp_path / "m")
    drawn: Any = open_sampler(ModelLocation(tmp_path / "m"), device="cpu", precision="bf16")
    assert {parameter.dtype for parameter in drawn._generator.parameters()} == {torch.bfloat16}
    exact = open_sampler(ModelLocation(tmp_path / "m"), device="cpu").sample(range(4))
    assert 0 < np.abs(drawn.sample(range(4)) - exact).max() < 0.05


class Halves(Counting):
    """A third party's: it draws half of what `Counting` draws."""

    opened: ClassVar[dict[str, Any]] = {}

    @classmethod
    def open(cls, location: ModelLocation, **options: str) -> Halves:
        cls.opened = {"location": location, **options}
        return cls()


def test_a_third_partys_runtime_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.samplers, "_registered", {})
    registry.samplers.register("halves", Halves)
    registry.samplers.register("closed", Counting)
    location = ModelLocation(Path("m"))
    assert isinstance(open_sampler(location, runtime="halves", device="cpu", precision="bf16"), Halves)
    assert Halves.opened == {"location": location, "device": "cpu", "provider": "auto", "precision": "bf16"}
    with pytest.raises(PluginError, match="The runtime 'closed' cannot be chosen: its sampler has no class method `op"):
        open_sampler(location, runtime="closed")


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("onnx", {"runtime": "torch"}, "m is an ONNX file, which torch cannot draw"),
        ("onnx", {"provider": "cuda", "device": "cpu"}, "The device cpu and the provider cuda are two places"),
        ("folder", {"provider": "cuda"}, r"A provider \(=cuda\) is of ONNX Runtime"),
        ("folder", {"runtime": "jax"}, "There is no runtime 'jax'"),
        ("folder", {"runtime": "onnx"}, r"There is no m\.onnx\. Export it first: ganzoo export m --onnx"),
        ("folder", {"runtime": "openvino"}, r"There is no m\.onnx\. Export it first: ganzoo export m --onnx"),
        ("folder", {"precision": "int8"}, r"torch does not draw in 'int8'\."),
        ("onnx", {"precision": "bf16"}, "m computes in fp32 in ONNX Runtime, not in bf16"),
        ("onnx", {"runtime": "openvino", "device": "cuda"}, "OpenVINO draws on the processor, not on cuda"),
        ("onnx", {"runtime": "openvino", "provider": "cpu"}, r"A provider \(=cpu\) is of ONNX Runtime"),
    ],
)
def test_a_runtime_that_cannot_draw_a_model_is_refused(kind: Any, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_sampler(ModelLocation(Path("m"), kind), **arguments)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_exported_file_draws_a_model_only_if_it_has_its_weights(
    tmp_path: Path, opened: list[Any], runtime: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "generator.safetensors").write_bytes(Path(__file__).read_bytes())
    open_sampler(ModelLocation(tmp_path), runtime=runtime)
    assert opened[0][0] == tmp_path / "model.onnx"
    (tmp_path / "generator.safetensors").write_bytes(b"trained on")
    with pytest.raises(WeightsError, match=r"model\.onnx was exported from other weights than .*Export again"):
        open_sampler(ModelLocation(tmp_path), runtime=runtime)


def test_importing_the_samplers_does_not_import_torch() -> None:
    code = "import sys, ganzoo.sampling, ganzoo.image_files; print([n for n in ('torch', 'onnx') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
