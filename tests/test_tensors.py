"""Tensors on disk: the same bytes for the same tensors, damage answered in one line, loading strict."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ganzoo.errors import WeightsError
from ganzoo.tensors import load_strictly, read_tensors, save_tensors

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "a.b": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.float64),
    "count": torch.tensor(7),
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else bits(tensor[None])


def test_tensors_come_back_bit_by_bit_with_their_metadata(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", TENSORS, {"schema_version": 1, "name": "ä"})
    tensors, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"schema_version": 1, "name": "ä"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(tensors[name]) == bits(tensor)


def test_the_same_tensors_are_the_same_bytes_in_any_order_layout_and_number_of_keys(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    one = {"x": image, "y": torch.ones(2)}
    other = {"y": torch.ones(4)[::2], "x": image.contiguous(memory_format=torch.channels_last).requires_grad_()}
    contents = set()
    for index, tensors in enumerate((one, other, one)):
        path = tmp_path / f"{index}.safetensors"
        save_tensors(path, tensors, {"b": 1, "a": 2} if index else {"a": 2, "b": 1})
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", TENSORS, {})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["weight"], TENSORS["weight"])


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_file_has_the_permissions_that_the_umask_says(mask: int, tmp_path: Path) -> None:
    was = os.umask(mask)
    try:
        save_tensors(tmp_path / "x.safetensors", TENSORS, {})
    finally:
        os.umask(was)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o666 & ~mask


def test_tied_weights_are_written_under_both_names(tmp_path: Path) -> None:
    network = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    network["second"].weight = network["first"].weight
    save_tensors(tmp_path / "x.safetensors", network.state_dict(), {})
    tensors, _ = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(tensors["first.weight"], tensors["second.weight"])
    load_strictly(network, tensors, "x")


def test_an_unwritable_place_is_an_error_of_the_operating_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        save_tensors(tmp_path / "missing" / "x.safetensors", TENSORS, {})


def damaged(content: bytes, kind: str) -> bytes:
    size = int.from_bytes(content[:8], "little")
    return {
        "empty": b"",
        "truncated": content[:-1],
        "half": content[: len(content) // 2],
        "header cut": content[:20],
        "huge header": (2**62).to_bytes(8, "little") + content[8:],
        "header no JSON": content[:8] + b"x" * size + content[8 + size :],
        "a pickle": b"\x80\x04\x95" + content,
        "more at the end": content + b"\0",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["empty", "truncated", "half", "header cut", "huge header", "header no JSON", "a pickle", "more at the end"],
)
def test_a_damaged_file_is_answered_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {})
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(WeightsError, match=r"x\.safetensors cannot be read as safetensors: \S") as error:
        read_tensors(path)
    assert "\n" not in str(error.value)
    assert error.value.remedy == "Copy or download it again."


def test_what_is_not_there_and_what_is_a_folder_are_answered(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*x\.safetensors"):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        read_tensors(tmp_path)


def test_files_of_others_are_read_and_odd_metadata_answered(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors", {"format": "pt", "more": "y"})
    assert read_tensors(tmp_path / "foreign.safetensors")[1] == {}
    for content, message in (("[1]", "has metadata that are not ganzoo's"), ("{", "cannot be read as safetensors")):
        save_file({"x": torch.ones(1)}, tmp_path / "odd.safetensors", {"ganzoo": content})
        with pytest.raises(WeightsError, match=message):
            read_tensors(tmp_path / "odd.safetensors")


# ---------------------------------------------------------------------------------------------------- loading


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))
        self.norm = nn.BatchNorm1d(2)


def test_loading_takes_every_tensor_and_converts_floats() -> None:
    source, target = Net(), Net()
    load_strictly(
        target,
        {name: value.double() if value.is_floating_point() else value for name, value in source.state_dict().items()},
        "x",
    )
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    assert {value.dtype for value in target.state_dict().values()} == {torch.float32, torch.int64}


def test_what_does_not_fit_is_listed_all_at_once_and_nothing_is_loaded() -> None:
    network = Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tensors = {name: torch.full_like(value, 9) for name, value in network.state_dict().items()}
    del tensors["layers.0.weight"]
    tensors["layers.9.weight"] = torch.zeros(2, 2)
    tensors["layers.1.weight"] = torch.zeros(3, 2)
    tensors["layers.2.bias"] = torch.zeros(1)  # would broadcast
    tensors["norm.num_batches_tracked"] = torch.tensor(1.5)
    with pytest.raises(WeightsError) as error:
        load_strictly(network, tensors, "model/generator.safetensors")
    assert error.value.message == (
        "model/generator.safetensors does not fit the network: missing: layers.0.weight; unexpected: layers.9.weight; "
        "of another shape: layers.1.weight (3, 2) instead of (2, 2), layers.2.bias (1,) instead of (2,); "
        "of another type: norm.num_batches_tracked torch.float32 instead of torch.int64."
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_long_list_is_cut_short() -> None:
    with pytest.raises(WeightsError, match=r"missing: layers\.0\.bias, .* and 16 more\.") as error:
        load_strictly(Net(), {}, "x")
    assert error.value.message.count(",") == 4


def test_metadata_are_json_in_one_key(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"x": torch.ones(1)}, {"b": [1, 2], "a": None})
    content = (tmp_path / "x.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"ganzoo": '{"a": null, "b": [1, 2]}'}
