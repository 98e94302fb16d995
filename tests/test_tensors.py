"""Tensors on disk: the same bytes for the same tensors, damage answered in one line, loading strict."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ganzoo.errors import WeightsError
from ganzoo.tensor_headers import ITEM_BYTES, read_header, read_metadata
from ganzoo.tensors import (
    DTYPES,
    check_finite,
    content_sha256,
    load_network,
    load_strictly,
    read_tensors,
    save_tensors,
)

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


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A file's header and what follows it."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def whole(header: object, data: bytes) -> bytes:
    """The file of a header, or of its text, and of what follows it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 4])


TWO = bytes(8)  # two float32
FILE = whole({"x": entry()}, TWO)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "truncated": (FILE[:-1], "it is cut short: 7 of its tensors' 8 bytes are there"),
    "header cut": (FILE[:20], "it is cut short: its header ends at byte 69, the file at 20"),
    "a few bytes": (b"\x01\x00\x00\x00\x00", "it has 5 bytes"),
    "huge header": (
        (1 << 60).to_bytes(8, "little") + FILE[8:],
        "it claims a header of 1,152,921,504,606,846,976 bytes",
    ),
    "header over the bound": (whole(b"{" + b" " * (8 << 20), b""), "it claims a header of 8,388,609 bytes"),
    "header no JSON": (whole(b"{" + b"x" * 50, TWO), "it is not JSON (line 1, column 2: "),
    "header no object": (whole(b"\x01\x02\x03", TWO), "it has no header"),
    "header not UTF-8": (whole(b'{"\xff": 1}', TWO), "it is not UTF-8 text (byte 2)"),
    "header without end": (whole(b'{"x":' + b"[" * 99_999, TWO), "it is nested too deep"),
    "header nested": (whole(b'{"x":' + b"[" * 99 + b"]" * 99 + b"}", TWO), "it is nested too deep"),
    "a name twice": (
        whole(b'{"x":' + json.dumps(entry()).encode() + b',"x":' + json.dumps(entry()).encode() + b"}", TWO),
        "it holds the key 'x' twice",
    ),
    "half a surrogate pair": (whole(b'{"\\ud800": 1}', TWO), "is not Unicode text"),
    "more at the end": (FILE + b"\0", "1 bytes follow its last tensor"),
    "no entry": (whole({"x": 1}, TWO), "its tensor 'x' lacks dtype, shape or data_offsets"),
    "an entry without a shape": (whole({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, TWO), "'x' lacks dtype, shape"),
    "an unknown dtype": (whole({"x": entry("F4")}, TWO), "its tensor 'x' holds numbers of the unknown kind 'F4'"),
    "a dtype that is none": (whole({"x": entry(["F32"])}, TWO), "unknown kind"),  # type: ignore[arg-type]
    "a shape that is none": (
        whole({"x": entry(shape="2")}, TWO),
        "its tensor 'x' has a shape or offsets that cannot be",
    ),
    "a truth as a side": (whole({"x": entry(shape=[True, 2])}, TWO), "has a shape or offsets that cannot be"),
    "a broken side": (whole({"x": entry(shape=[2.0])}, TWO), "has a shape or offsets that cannot be"),
    "a negative side": (whole({"x": entry(shape=[-2])}, TWO), "has a shape or offsets that cannot be"),
    "a side of NaN": (whole(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', TWO), "it holds NaN"),
    "a side of 10^99": (whole({"x": entry(shape=[10**99])}, TWO), "is too large"),
    "a product beyond 64 bits": (whole({"x": entry(shape=[1 << 32, 1 << 32, 2])}, TWO), "is larger than any can be"),
    "a product that wraps to the size": (
        whole({"x": entry(shape=[1 << 33, (1 << 31) + 1], offsets=[0, 8])}, TWO),
        "is larger than any can be",
    ),
    "a huge side beside 0": (whole({"x": entry(shape=[0, 1 << 63], offsets=[0, 0])}, b""), "is larger than any can be"),
    "a thousand sides": (whole({"x": entry(shape=[1] * 1000, offsets=[0, 4])}, TWO[:4]), "is larger than any can be"),
    "a shape of another size": (whole({"x": entry(shape=[3])}, TWO), "of shape (3,) does not have the bytes of F32"),
    "offsets beyond the end": (
        whole({"x": entry(shape=[9], offsets=[0, 36])}, TWO),
        "it is cut short: 8 of its tensors'",
    ),
    "enormous offsets": (
        whole({"x": entry(shape=[1 << 50], offsets=[0, 1 << 52])}, TWO),
        "it is cut short: 8 of its tensors' 4,503,599,627,370,496 bytes are there",
    ),
    "negative offsets": (whole({"x": entry(offsets=[-8, 0])}, TWO), "has a shape or offsets that cannot be"),
    "offsets backwards": (whole({"x": entry(offsets=[8, 0])}, TWO), "has a shape or offsets that cannot be"),
    "one offset": (whole({"x": entry(offsets=[8])}, TWO), "has a shape or offsets that cannot be"),
    "overlapping": (whole({"x": entry(), "y": entry(offsets=[4, 12])}, TWO + TWO), "its tensor 'y' overlaps another"),
    "the same place": (whole({"x": entry(), "y": entry()}, TWO), "its tensor 'y' overlaps another"),
    "a hole": (whole({"x": entry(), "y": entry(offsets=[12, 20])}, bytes(20)), "its tensor 'y' has a hole before it"),
    "a hole at the beginning": (whole({"x": entry(offsets=[4, 12])}, bytes(12)), "its tensor 'x' has a hole before it"),
    "metadata no object": (whole({"__metadata__": [1], "x": entry()}, TWO), "its metadata are not texts"),
    "metadata no texts": (whole({"__metadata__": {"a": 1}, "x": entry()}, TWO), "its metadata are not texts"),
    "our metadata cut": (
        whole({"__metadata__": {"ganzoo": '{"a'}, "x": entry()}, TWO),
        "its metadata are damaged: it is not JSON",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_answered_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    content, reason = DAMAGED[kind]
    path.write_bytes(content)
    for read in (read_tensors, read_header, read_metadata):
        with pytest.raises(WeightsError) as error:
            read(path)
        assert error.value.message.startswith(f"{path} cannot be read as safetensors: ")
        assert reason in error.value.message
        assert len(error.value.message) < len(str(path)) + 250
        assert "\n" not in str(error.value)
        assert error.value.remedy == "Copy or download it again."


def test_the_file_that_is_damaged_above_is_read_as_long_as_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(FILE)
    assert torch.equal(read_tensors(tmp_path / "x.safetensors")[0]["x"], torch.zeros(2))


def test_a_bit_that_flips_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    written = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor(3)}
    save_tensors(path, written, {"name": "x"})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            tensors, metadata = read_tensors(path)
            # Where the name of the digest, or of ganzoo's metadata, is hit, the tensors are as good as those of others.
            assert metadata in ({}, {"name": "x", **metadata})
            assert metadata != {"name": "x"}
            assert tensors.keys() == written.keys()
            assert all(torch.equal(tensors[name], written[name]) for name in written)


def test_flipped_weights_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {})
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(WeightsError, match="is damaged: its tensors are not those that were written"):
        read_tensors(path)


SOMETHING_ELSE: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "empty", "Copy or download it again."),
    "zeros": (bytes(5000), "nothing but zeros at its beginning", "Copy or download it again."),
    "a pickle": (pickle.dumps({"x": 1}), "a pickle", "`ganzoo convert PATH MODEL` reads such files."),
    "a web page": (
        b"\n<!DOCTYPE html>\n<html><head>",
        "a web page (HTML)",
        'Download the file itself: its address often holds "raw" or "resolve".',
    ),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer: only the address of the file",
        "`git lfs pull` fetches it.",
    ),
    "an index of shards": (
        b'{"metadata": {"total_size": 9}, "weight_map": {"x": "model-00001-of-00002.safetensors"}}',
        "an index of several files (sharded weights)",
        "Merge the files into one .safetensors first.",
    ),
    "a server's error": (b'{"error":"Repository not found"}', "JSON text", "Download the file itself."),
    "a server's word": (b"Entry not found", "text ('Entry not found')", "Download the file itself."),
    "a config": (b'{\n  "schema_version": 1\n}', "JSON text", None),
    "a long word that is cut in a sign": ("ä".encode() * 2000, "text ('äää", "Download the file itself."),
    "an array": (b"\x93NUMPY\x01\x00", "a NumPy array", None),
}


@pytest.mark.parametrize("kind", SOMETHING_ELSE)
def test_what_is_something_else_is_called_by_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    content, name, remedy = SOMETHING_ELSE[kind]
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        read_tensors(path)
    assert error.value.message.startswith(f"{path} is no safetensors file: it is {name}")
    assert error.value.remedy == (remedy.replace("PATH", str(path)) if remedy else None)


@pytest.mark.parametrize("new", [True, False])
def test_what_torch_saved_is_named_with_the_command_that_reads_it(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(WeightsError, match=r"it is a (zip archive, as|pickle of) torch\.save") as error:
        read_tensors(path)
    assert error.value.remedy == f"`ganzoo convert {path} MODEL` reads such files."


def test_no_header_is_taken_for_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for length in (0x80, 0x0280, 0x0380, 0x4B50):  # whose first bytes are a pickle's, or a zip's
        text = json.dumps({"x": entry()}).encode()
        path.write_bytes(whole(text + b" " * (length - len(text)), TWO))
        assert read_tensors(path)[0].keys() == {"x"}


def test_what_is_no_ordinary_file_is_answered_at_once(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*x\.safetensors"):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"cannot be read as safetensors: it is a folder, no ordinary file\.$"):
        read_tensors(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read as safetensors: File name too long"):
        read_tensors(tmp_path / ("x" * 999))
    with pytest.raises(WeightsError, match="cannot be read as safetensors: embedded null byte"):
        read_tensors(tmp_path / "x\0")


@pytest.mark.skipif(os.name == "nt", reason="there are none")
def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="it is a named pipe, no ordinary file"):
        read_tensors(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="it is a device, no ordinary file"):
        read_tensors(Path("/dev/zero"))
    (tmp_path / "itself").symlink_to("itself")
    with pytest.raises(WeightsError, match="Too many levels of symbolic links"):
        read_tensors(tmp_path / "itself")


def test_a_file_that_may_not_be_read_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(FILE)

    def refuse(self: Path, *_: Any) -> None:  # root may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"cannot be read as safetensors: Permission denied\.$"):
        read_tensors(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is bounded as Linux does it")
def test_a_small_hostile_file_takes_no_memory(tmp_path: Path) -> None:
    hostile = {
        "claims": (1 << 60).to_bytes(8, "little") + b'{"x":1}',
        "offsets": whole({"x": entry(shape=[1 << 50], offsets=[0, 1 << 52])}, TWO),
        "lists": whole(b'{"x":[' + b"[]," * 100_000 + b"[]]}", TWO),
    }
    paths = [tmp_path / f"{name}.safetensors" for name in hostile]
    for path, content in zip(paths, hostile.values(), strict=True):
        path.write_bytes(content)
    tracemalloc.start()
    try:
        for path in paths:
            with pytest.raises(WeightsError):
                read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_files_of_others_are_read_and_odd_metadata_answered(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors", {"format": "pt", "more": "y"})
    assert read_tensors(tmp_path / "foreign.safetensors")[1] == {}
    for content in ("[1]", '{"content_sha256": 1}'):
        save_file({"x": torch.ones(1)}, tmp_path / "odd.safetensors", {"ganzoo": content})
        with pytest.raises(WeightsError, match="has metadata that are not ganzoo's"):
            read_tensors(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number_is_read_and_has_its_bytes(dtype: str, tmp_path: Path) -> None:
    assert ITEM_BYTES.keys() == DTYPES.keys()
    assert ITEM_BYTES[dtype] == DTYPES[dtype].itemsize
    tensor = torch.tensor([0, 1]).to(DTYPES[dtype])
    save_tensors(tmp_path / "x.safetensors", {"x": tensor}, {})
    assert read_header(tmp_path / "x.safetensors").tensors["x"].dtype == dtype
    assert bits(read_tensors(tmp_path / "x.safetensors")[0]["x"]) == bits(tensor)


def test_the_header_says_what_is_in_the_file_without_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "x.safetensors", TENSORS, {"name": "x"})
    monkeypatch.delattr("ganzoo.tensors.safe_open")
    assert read_metadata(tmp_path / "x.safetensors") == {"name": "x"}
    header = read_header(tmp_path / "x.safetensors")
    assert {name: entry.shape for name, entry in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in TENSORS.items()
    }


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


def test_weights_of_half_the_precision_become_the_networks_own(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64):
        source, target = Net(), Net()
        half = {
            name: value.to(dtype) if value.is_floating_point() else value for name, value in source.state_dict().items()
        }
        save_tensors(tmp_path / "x.safetensors", half, {})
        load_strictly(target, read_tensors(tmp_path / "x.safetensors")[0], "x")
        assert {value.dtype for value in target.state_dict().values()} == {torch.float32, torch.int64}
        assert torch.equal(target.state_dict()["layers.0.weight"], half["layers.0.weight"].float())


@pytest.mark.parametrize("wrong", [torch.bool, torch.complex64, torch.float32])
def test_a_count_is_a_whole_number(wrong: torch.dtype) -> None:
    network = Net()
    tensors = network.state_dict() | {"norm.num_batches_tracked": torch.tensor(1).to(wrong)}
    with pytest.raises(WeightsError, match=r"of another type: norm\.num_batches_tracked"):
        load_strictly(network, tensors, "x")


def test_every_kind_of_whole_number_is_a_count() -> None:
    for dtype in (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64):
        network = Net()
        load_strictly(network, network.state_dict() | {"norm.num_batches_tracked": torch.tensor(7).to(dtype)}, "x")
        assert network.state_dict()["norm.num_batches_tracked"].item() == 7


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_the_tensor_named(value: float, tmp_path: Path) -> None:
    network = Net()
    check_finite(network.state_dict(), "x")
    with torch.no_grad():
        network.state_dict()["layers.3.bias"][1] = value
    with pytest.raises(WeightsError, match=r"^x: layers\.3\.bias holds NaN or Inf \(1 of its 2 numbers\)"):
        check_finite(network.state_dict(), "x")
    save_tensors(tmp_path / "x.safetensors", network.state_dict(), {})
    with pytest.raises(WeightsError, match=r"layers\.3\.bias holds NaN or Inf"):
        load_network(Net, tmp_path / "x.safetensors")


def test_numbers_too_large_for_the_network_are_refused(tmp_path: Path) -> None:
    tensors = Net().state_dict() | {"layers.0.bias": torch.tensor([1e300, 0.0], dtype=torch.float64)}
    save_tensors(tmp_path / "x.safetensors", tensors, {})
    with pytest.raises(WeightsError, match=r"layers\.0\.bias holds NaN or Inf"):
        load_network(Net, tmp_path / "x.safetensors")


def test_a_network_comes_with_the_weights_of_its_file(tmp_path: Path) -> None:
    source = Net()
    save_tensors(tmp_path / "x.safetensors", source.state_dict(), {})
    loaded = load_network(Net, tmp_path / "x.safetensors")
    assert loaded.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in source.state_dict().items())


def test_a_network_that_no_memory_could_hold_is_refused_before_it_is_built(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"weight": torch.zeros(2, 2)}, {})
    built = []

    def build(side: int = 10**6) -> nn.Module:
        built.append(nn.Linear(side, side, bias=False))  # 4 TB
        return built[-1]

    with pytest.raises(WeightsError, match=r"weight \(2, 2\) instead of \(1000000, 1000000\)"):
        load_network(build, tmp_path / "x.safetensors")
    assert [str(one.weight.device) for one in built] == ["meta"]
    with pytest.raises(WeightsError, match="its network cannot be built: "):
        load_network(lambda: build(10**30), tmp_path / "x.safetensors")


def test_reading_a_header_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(FILE)
    program = (
        "import sys; from ganzoo.tensor_headers import read_header; "
        f"print(len(read_header({str(tmp_path / 'x.safetensors')!r}).tensors), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"


def test_metadata_are_json_in_one_key(tmp_path: Path) -> None:
    tensors = {"x": torch.ones(1)}
    given = {"b": [1, 2], "a": None}
    for digest in (False, True):
        save_tensors(tmp_path / "x.safetensors", tensors, given, digest=digest)
        said = parts((tmp_path / "x.safetensors").read_bytes())[0]["__metadata__"]
        assert said.keys() == {"ganzoo"}
        more = {"content_sha256": content_sha256(tensors, given)} if digest else {}
        assert said["ganzoo"] == json.dumps(given | more, sort_keys=True)
        assert read_tensors(tmp_path / "x.safetensors")[1] == read_metadata(tmp_path / "x.safetensors") == given


def test_the_digest_is_of_names_kinds_shapes_values_and_metadata() -> None:
    zeros = torch.zeros(4)
    digest = content_sha256({"x": zeros, "y": zeros}, {})
    assert digest == content_sha256({"y": zeros.clone(), "x": zeros}, {})
    others = [
        content_sha256({"x": zeros, "z": zeros}, {}),
        content_sha256({"x": zeros, "y": zeros.int()}, {}),
        content_sha256({"x": zeros, "y": zeros.view(2, 2)}, {}),
        content_sha256({"x": zeros, "y": -zeros}, {}),
        content_sha256({"x": zeros}, {}),
        content_sha256({"x": zeros, "y": zeros}, {"a": 1}),
    ]
    assert len({digest, *others}) == 7
