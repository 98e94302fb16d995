"""Sources: every kind of data, written here as its makers write it, is read with its pixels, labels and classes."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encode, noise, png, write_images
from PIL import Image

from ganzoo.data import DataRequest, Sample, Source, open_pack, open_source
from ganzoo.errors import (
    DataError,
    GanzooError,
    MissingDataError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from ganzoo.registry import sources

RGB8 = DataRequest(8)


def pixels_of(spec: Any, request: DataRequest = RGB8) -> np.ndarray[Any, Any]:
    with open_pack(spec, request) as pack:
        return pack.gather(np.arange(len(pack))).numpy()


def names_of(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


# ------------------------------------------------------------------ folders


def test_a_folder_is_read_in_natural_order_with_all_its_folders(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "10.png", "2.png", "1.png", "deep/er/3.png", "note.txt", ".hidden.png")
    source = open_source(folder)
    assert names_of(source) == ["1.png", "2.png", "10.png", "deep/er/3.png"]
    assert not source.labelled
    assert np.array_equal(pixels_of(str(folder))[0], noise(8, 8, 3, seed=2))


def test_first_folders_are_classes_where_every_image_lies_in_one(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "dog/1.png", "cat/1.png", "cat/more/2.png")
    with open_pack(folder, DataRequest(8, labels=True)) as pack:
        assert pack.classes == ("cat", "dog")
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 0, 1]
    write_images(folder, "loose.png")
    assert open_source(folder).labelled is False


def test_a_shared_first_folder_is_no_class(tmp_path: Path) -> None:
    source = open_source(write_images(tmp_path / "images", "train/10/a.png", "train/9/b.png"))
    assert source.classes == ("9", "10")
    assert open_source(write_images(tmp_path / "other", "all/a.png", "all/b.png")).labelled is False


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "a.png")
    write_images(tmp_path / "secret", "b.png")
    (folder / "out.png").symlink_to(tmp_path / "secret" / "b.png")
    (folder / "in.png").symlink_to(folder / "a.png")
    (folder / "away").symlink_to(tmp_path / "secret")
    (folder / "lost.png").symlink_to(folder / "nothing.png")
    source = open_source(folder)
    assert names_of(source) == ["a.png", "in.png"]
    assert sorted(name for name, _ in source.rejected) == ["away", "lost.png", "out.png"]
    assert dict(source.rejected)["out.png"] == "link that leads out of the folder"


def test_a_folder_without_images_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_source(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_named_like_an_image_does_not_hang(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "a.png")
    os.mkfifo(folder / "b.png")
    assert names_of(open_source(folder)) == ["a.png"]


# ------------------------------------------------------------------ zips


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def test_a_plain_zip_has_classes_from_its_folders(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"set/b/1.png": png(0), "set/a/2.png": png(1), "__MACOSX/set/a/._2.png": b"x"})
    source = open_source(path)
    assert (names_of(source), source.classes) == (["set/a/2.png", "set/b/1.png"], ("a", "b"))
    assert np.array_equal(pixels_of(path)[0], noise(8, 8, 3, seed=1))


def test_stylegans_zip_has_labels_from_dataset_json(tmp_path: Path) -> None:
    files = {"00000/img00000001.png": png(0), "00000/img00000000.png": png(1)}
    labels = {"labels": [["00000/img00000000.png", 3], ["00000/img00000001.png", 1]]}
    path = write_zip(tmp_path / "a.zip", {**files, "dataset.json": json.dumps(labels).encode()}, zipfile.ZIP_STORED)
    with open_pack(path, RGB8) as pack:
        assert pack.labels is not None
        assert pack.labels.tolist() == [3, 1]
        assert pack.classes == ("0", "1", "2", "3")
    path = write_zip(tmp_path / "b.zip", {**files, "dataset.json": b'{"labels": null}'})
    assert open_source(path).labelled is False


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"labels": [["x.png", 1]]}', b'{"labels": [["a.png", 0.5]]}'])
def test_a_dataset_json_that_cannot_be_meant_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_source(write_zip(tmp_path / "a.zip", {"a.png": png(), "dataset.json": content}))


def test_paths_that_lead_out_of_a_zip_and_links_in_it_are_left_out(tmp_path: Path) -> None:
    bad = ["../up.png", "/abs.png", "a/../../up.png", "C:/win.png", "..\\up.png"]
    path = write_zip(tmp_path / "a.zip", {"good.png": png(), **{name: png() for name in bad}})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    source = open_source(path)
    assert names_of(source) == ["good.png"]
    assert sorted(name for name, _ in source.rejected) == sorted([*bad, "link.png"])


def test_a_zip_bomb_is_left_out_by_its_declared_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png": png(), "bomb.png": bytes(20 << 20)})
    source = open_source(path)
    assert names_of(source) == ["good.png"]
    assert "zip bomb" in dict(source.rejected)["bomb.png"]


def test_a_zip_that_declares_more_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png": png(), "bomb.png": png(1)})
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")  # the last entry of the directory; its declared size is at byte 24
    data[directory + 24 : directory + 28] = struct.pack("<I", 1 << 30)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="zip bomb"):
        open_source(path)


def test_damaged_and_encrypted_entries_are_counted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": png(0), "b.png": png(1)}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(png(1)) + 60] ^= 0xFF
    path.write_bytes(bytes(data))
    with open_pack(path, RGB8) as pack:
        assert (len(pack), pack.manifest.skipped) == (1, 1)
        assert pack.manifest.skipped_examples[0][0] == "b.png"
    flags = data.index(b"PK\x01\x02") + 8
    data[flags] |= 1
    path.write_bytes(bytes(data))
    assert dict(open_source(path).rejected) == {"a.png": "encrypted"}


def test_a_file_that_is_no_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="zip"):
        open_source(tmp_path / "a.zip")


# ------------------------------------------------------------------ MNIST


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_with_their_labels(tmp_path: Path, packed: bool) -> None:
    images, labels = noise(5, 8, 8), np.array([1, 0, 3, 3, 2], np.uint8)
    folder, end, pack_bytes = tmp_path / "digits_here", ".gz" if packed else "", gzip.compress if packed else bytes
    folder.mkdir()
    (folder / f"train-images-idx3-ubyte{end}").write_bytes(pack_bytes(idx(images)))
    (folder / f"train-labels-idx1-ubyte{end}").write_bytes(pack_bytes(idx(labels)))
    (folder / f"t10k-images-idx3-ubyte{end}").write_bytes(pack_bytes(idx(images[:1])))
    for path in (folder, folder / f"train-images-idx3-ubyte{end}"):
        with open_pack(path, DataRequest(8, channels=1, labels=True)) as pack:
            assert np.array_equal(pack.gather(np.arange(5)).numpy()[..., 0], images)
            assert pack.labels is not None
            assert pack.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"\1" + data[1:]])
def test_a_damaged_idx_file_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(idx(noise(2, 8, 8))))
    with pytest.raises(DataError):
        open_source(path)


def test_labels_of_another_number_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(noise(2, 8, 8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(noise(3)))
    with pytest.raises(DataError, match="2 images but 3 labels"):
        open_source(tmp_path / "train-images-idx3-ubyte")


# ------------------------------------------------------------------ CIFAR


def cifar_pixels(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(N, 3072) as the batches hold them, and (N, 32, 32, 3)."""
    flat = noise(count, 3072)
    return flat, flat.reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)


def short_string(data: bytes) -> bytes:
    """A str of Python 2 in a pickle of protocol 2."""
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<I", len(data)) + data


def python2_batch(flat: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """A batch with the opcodes that Python 2's cPickle wrote for CIFAR's authors."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\0\x85U\x01b\x87Rq\x03"
        + b"(K\x01"
        + b"".join(b"J" + struct.pack("<i", size) for size in flat.shape)
        + b"\x86cnumpy\ndtype\nq\x04U\x02u1K\0K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        + short_string(flat.tobytes())
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([one]) for one in labels) + b"e"
    return b"\x80\x02}q\0(" + short_string(b"data") + array + short_string(b"labels") + numbers + b"u."


def write_tar(path: Path, files: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("writer", ["python2", "protocol2", "protocol4"])
def test_cifars_python_version_is_read_without_running_a_pickle(
    tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, expected = cifar_pixels(4)
    batch = {
        "python2": lambda f, n: python2_batch(f, n),
        "protocol2": lambda f, n: pickle.dumps({b"data": f, b"labels": n}, protocol=2),
        "protocol4": lambda f, n: pickle.dumps({"data": f, "labels": n}, protocol=4),
    }[writer]
    path = write_tar(
        tmp_path / "cifar-10-python.tar.gz",
        {
            "cifar-10-batches-py/data_batch_1": batch(flat[:2], [1, 0]),
            "cifar-10-batches-py/data_batch_2": batch(flat[2:], [2, 2]),
            "cifar-10-batches-py/test_batch": batch(flat, [0, 0, 0, 0]),
            "cifar-10-batches-py/batches.meta": pickle.dumps({"label_names": ["a", "b", "c"]}, protocol=2),
        },
    )
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("a pickle was run"))
    with open_pack(path, DataRequest(32, labels=True)) as pack:
        assert np.array_equal(pack.gather(np.arange(4)).numpy(), expected)
        assert pack.labels is not None
        assert (pack.labels.tolist(), pack.classes) == ([1, 0, 2, 2], ("a", "b", "c"))


def test_cifars_binary_version_is_read(tmp_path: Path) -> None:
    flat, expected = cifar_pixels(3)
    rows = np.concatenate([np.array([[2], [0], [1]], np.uint8), flat], axis=1)
    files = {"c/data_batch_1.bin": rows.tobytes(), "c/batches.meta.txt": b"a\nb\nc\n"}
    path = write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    with open_pack(path, DataRequest(32)) as pack:
        assert np.array_equal(pack.gather(np.arange(3)).numpy(), expected)
        assert pack.labels is not None
        assert (pack.labels.tolist(), pack.classes) == ([2, 0, 1], ("a", "b", "c"))
    unpacked = tmp_path / "cifar-10-batches-bin"
    unpacked.mkdir()
    (unpacked / "data_batch_1.bin").write_bytes(rows.tobytes())
    assert np.array_equal(pixels_of(unpacked, DataRequest(32)), expected)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("attacked",))


@pytest.mark.parametrize("place", ["value", "data", "labels"])
def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(tmp_path: Path, place: str) -> None:
    content: dict[str, Any] = {"data": cifar_pixels(1)[0], "labels": [0]}
    content[place] = Attack() if place != "labels" else [Attack()]
    path = write_tar(tmp_path / "a.tar", {"data_batch_1": pickle.dumps(content, protocol=2)}, "w")
    with pytest.raises(DataError, match="whole number" if place == "labels" else "mkdir"):
        open_source(path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"\x80\x02.", b"garbage", pickle.dumps([1], protocol=2)])
def test_a_broken_batch_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError):
        open_source(write_tar(tmp_path / "a.tar.gz", {"data_batch_1": data}))


def test_a_tar_of_anything_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is compressed"):
        open_source(write_tar(tmp_path / "a.tar.gz", {"a.png": png()}))


# ------------------------------------------------------------------ LSUN


def write_lmdb(path: Path, values: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def lsun_values(count: int) -> dict[bytes, bytes]:
    wide = [Image.fromarray(noise(16, 24, 3, seed=seed)) for seed in range(count)]
    return {f"{number:040x}".encode(): encode(one, "WEBP", lossless=True) for number, one in enumerate(wide)}


def test_an_lsun_folder_is_read_in_the_order_of_its_keys(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "bedroom_val_lmdb", {**lsun_values(3), b"z": b"broken"})
    with open_pack(path, DataRequest(16, crop="lsun")) as pack:
        assert (len(pack), pack.labels, pack.manifest.skipped) == (3, None, 1)
        assert np.array_equal(pack.gather(np.array([2]))[0].numpy(), noise(16, 24, 3, seed=2)[:, 4:20])


@pytest.mark.parametrize(
    "place", ["bedroom_train_lmdb", "data/lsun/bedroom_train_lmdb", "elsewhere/bedroom_train_lmdb"]
)
def test_lsun_by_name_is_found_where_data_lie(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    write_lmdb(tmp_path / place, lsun_values(2))
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "elsewhere"))
    with open_source("lsun:bedroom_train") as source:
        assert len(source) == 2


def test_lsun_that_is_missing_is_answered_with_where_to_get_it() -> None:
    with pytest.raises(MissingDataError) as caught:
        open_source("lsun:bedroom_train")
    for part in ("3,033,042 images", "43 GB", "bedroom_train_lmdb.zip", "--data PATH", "--data digits"):
        assert part in str(caught.value)
    with pytest.raises(UnknownNameError, match="bedroom_train"):
        open_source("lsun:bedrom_train")


def test_lsun_without_lmdb_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lmdb(tmp_path / "a_lmdb", lsun_values(1))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingDependencyError, match=r"ganzoo\[lsun\]"):
        open_pack(path, RGB8)


def test_a_folder_that_is_no_lmdb_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a_lmdb").mkdir()
    (tmp_path / "a_lmdb" / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(DataError, match="a_lmdb"):
        open_pack(tmp_path / "a_lmdb", RGB8)


# ------------------------------------------------------------------ arrays and datasets


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "torch", "float"])
def test_arrays_and_tensors_keep_their_pixels(layout: str) -> None:
    images = noise(4, 8, 8, 3)
    first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    given: Any = {
        "NHWC": images,
        "NCHW": first,
        "torch": torch.from_numpy(first),
        "float": torch.from_numpy(first).float() / 255,
    }[layout]
    assert np.array_equal(pixels_of(given), images)


def test_grey_arrays_need_no_channel_axis() -> None:
    images = noise(4, 8, 8)
    assert np.array_equal(pixels_of(images, DataRequest(8, channels=1))[..., 0], images)


@pytest.mark.parametrize(
    "images",
    [
        noise(2, 8, 8, 3).astype(np.float32) / 127.5 - 1,
        noise(2, 8, 8, 3).astype(np.float32),
        np.full((2, 8, 8, 3), np.nan, np.float32),
        noise(2, 8, 8, 3).astype(np.int64),
        noise(8, 8),
        noise(2, 8, 8, 2),
    ],
)
def test_arrays_that_can_mean_several_things_are_refused(images: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError):
        open_source(images)


@pytest.mark.parametrize("kind", ["npy", "npz", "pair"])
def test_array_files_and_pairs_are_read_with_labels(tmp_path: Path, kind: str) -> None:
    images, labels = noise(3, 8, 8, 3), np.array([0, 2, 2])
    given: Any = (images, labels) if kind == "pair" else tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(given, images)
    elif kind == "npz":
        np.savez_compressed(given, images=images, labels=labels)
    with open_pack(given, RGB8) as pack:
        assert np.array_equal(pack.gather(np.arange(3)).numpy(), images)
        assert (None if pack.labels is None else pack.labels.tolist()) == (None if kind == "npy" else [0, 2, 2])


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_array_files_of_python_objects_are_refused(tmp_path: Path, name: str) -> None:
    objects = np.array([Attack()], dtype=object)
    if name == "a.npy":
        np.save(tmp_path / name, objects, allow_pickle=True)
    else:
        np.savez(tmp_path / name, images=objects)
    with pytest.raises(DataError):
        open_source(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("labels", [np.array([0, -1]), np.array([0, 10**9]), np.eye(2), np.array([0])])
def test_labels_that_are_no_class_numbers_are_refused(labels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError):
        open_pack((noise(2, 8, 8, 3), labels), RGB8)


class Items:
    """A map-style dataset."""

    classes = ("no", "yes")

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


def test_a_dataset_gives_images_of_any_kind_with_labels() -> None:
    images = noise(3, 8, 8, 3)
    items = [
        (Image.fromarray(images[0]), 1),
        (torch.from_numpy(images[1]).permute(2, 0, 1).float() / 255, torch.tensor(0)),
        (images[2], np.int64(1)),
    ]
    with open_pack(Items(items), DataRequest(8, labels=True)) as pack:
        assert np.array_equal(pack.gather(np.arange(3)).numpy(), images)
        assert pack.labels is not None
        assert (pack.labels.tolist(), pack.classes) == ([1, 0, 1], ("no", "yes"))


def test_a_dataset_of_images_alone_and_torchs_own_classes_are_read() -> None:
    images = noise(3, 8, 8, 3)
    assert np.array_equal(pixels_of(Items(list(images))), images)
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([0, 1, 0]))
    with open_pack(tensors, RGB8) as pack:
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("spec", [3, None, Items([]), Items(["text"]), Items([torch.full((1, 8, 8), -1.0)])])
def test_what_is_no_dataset_of_images_is_refused(spec: Any) -> None:
    with pytest.raises(DataError):
        open_pack(spec, RGB8)


def test_a_dataset_that_breaks_is_named() -> None:
    class Broken(Items):
        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise KeyError("lost")
            return noise(8, 8, 3)

    with pytest.raises(DataError, match=r"number 1 of the dataset Broken cannot be read: KeyError"):
        open_pack(Broken([0, 0]), RGB8)


# ------------------------------------------------------------------ names


def test_digits_are_all_there_and_smoothly_enlarged() -> None:
    with open_pack("digits", DataRequest(32, channels=1, labels=True)) as pack:
        assert len(pack) == 1797
        assert pack.labels is not None
        assert np.bincount(pack.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        images = pack.gather(np.arange(100)).numpy().astype(int)
        assert images.min() == 0
        assert images.max() == 255
        steps = np.abs(np.diff(images, axis=2))
        assert np.median(steps[steps > 0]) < 40  # an enlargement by squares would have few steps, and large ones


def test_torchvisions_datasets_are_read_by_name() -> None:
    with open_pack("torchvision:FakeData", DataRequest(8, max_images=4, labels=True)) as pack:
        assert len(pack) == 4
        assert pack.manifest.source == "torchvision's FakeData"
    with pytest.raises(UnknownNameError, match="MNIST"):
        open_source("torchvision:MNISTT")
    with pytest.raises(MissingDataError, match="--data digits"):
        open_source("torchvision:SVHN")
    with pytest.raises(UsageError, match="split"):
        open_source("torchvision:FakeData:train")


def test_a_broken_torchvision_is_answered_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingDependencyError, match="torchvision cannot be imported"):
        open_source("torchvision:MNIST")


@pytest.mark.parametrize(
    "name", ["mnist", "cifar10", "faces", "ffhq", "cats", "flowers", "imagenet32", "lsun:tower_val"]
)
def test_data_that_are_not_here_are_answered_with_what_works(name: str) -> None:
    with pytest.raises(MissingDataError) as caught:
        open_source(name)
    assert "--data" in str(caught.value)
    assert "`--data digits` works at once" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "nearest"), [("minst", "mnist"), ("digit", "digits"), ("torchvison:MNIST", "torchvision")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=nearest):
        open_source(name)


@pytest.mark.parametrize("spec", ["./none", "none.zip", "some/where", "a.weird"])
def test_a_path_to_nothing_is_an_error(tmp_path: Path, spec: str) -> None:
    (tmp_path / "a.weird").write_bytes(b"x")
    with pytest.raises(DataError):
        open_source(spec)


def test_a_name_wins_over_a_path_of_the_same_name(tmp_path: Path) -> None:
    write_images(tmp_path / "digits", "a.png")
    assert open_source("digits").description == "scikit-learn's digits"
    assert open_source("./digits").description == "folder 'digits'"
    assert open_source(str(write_images(tmp_path / "mine", "a.png").name)).description == "folder 'mine'"


def test_a_source_of_ones_own_is_used_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stripes(Source):
        description = "stripes"
        labelled = True

        def __init__(self, count: int) -> None:
            self._count = count

        def fingerprint(self) -> str:
            return f"stripes {self._count}"

        def __len__(self) -> int:
            return self._count

        def read(self, index: int) -> Sample:
            return Sample(np.full((8, 8), index, np.uint8), index % 2)

    monkeypatch.setattr(sources, "_registered", {})
    sources.register("stripes", lambda spec: Stripes(int(spec)))
    with open_pack("stripes:3", DataRequest(8, channels=1)) as pack:
        assert pack.gather(np.arange(3))[:, 0, 0, 0].tolist() == [0, 1, 2]
        assert pack.classes == ("0", "1")
    sources.register("nothing", lambda spec: spec)
    with pytest.raises(GanzooError, match=r"not a ganzoo\.data\.Source"):
        open_source("nothing:x")


# ------------------------------------------------------------------ fetching


def test_mnist_and_cifar10_are_found_where_data_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store" / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "store" / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(idx(noise(2, 8, 8)))
    batch = {"cifar-10-batches-py/data_batch_1": python2_batch(cifar_pixels(2)[0], [0, 1])}
    write_tar(tmp_path / "store" / "cifar-10-python.tar.gz", batch)
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "store"))
    assert (len(open_source("mnist")), open_source("mnist").description) == (2, "MNIST")
    assert (len(open_source("cifar10")), open_source("cifar10").description) == (2, "CIFAR-10")


def test_parts_of_mnist_and_cifar10_are_found_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    for start, count in (("train", 3), ("t10k", 2)):
        (tmp_path / "mnist" / f"{start}-images-idx3-ubyte").write_bytes(idx(noise(count, 8, 8, seed=count)))
        (tmp_path / "mnist" / f"{start}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    batches = {"data_batch_1": (3, [0, 1, 2]), "test_batch": (2, [8, 9])}
    members = {name: python2_batch(cifar_pixels(count)[0], labels) for name, (count, labels) in batches.items()}
    write_tar(tmp_path / "cifar-10-python.tar.gz", members)
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    for name, description, labels in (("mnist", "MNIST", [0, 1]), ("cifar10", "CIFAR-10", [8, 9])):
        whole, train, test = (open_source(one) for one in (name, f"{name}:train", f"{name}:test"))
        assert (len(whole), len(train), len(test)) == (3, 3, 2)
        assert (whole.description, test.description) == (description, f"{description} test")
        assert test.labels is not None
        assert test.labels.tolist() == labels
        assert whole.fingerprint() == train.fingerprint() != test.fingerprint()
        with pytest.raises(UsageError, match=f"no part 'tset'. Write {name}, {name}:train or {name}:test"):
            open_source(f"{name}:tset")


def test_of_mnists_test_images_only_they_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_data: Path
) -> None:
    from ganzoo.data.sources import downloads

    monkeypatch.setenv("GANZOO_OFFLINE", "0")
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "mirror").mkdir()
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / "mirror" / name).write_bytes((test_data / "mnist" / name).read_bytes())
    monkeypatch.setattr(downloads, "_MNIST_MIRRORS", (f"{(tmp_path / 'mirror').as_uri()}/",) * 2)
    source = open_source("mnist:test")
    assert (len(source), source.description) == (10_000, "MNIST test")
    assert len(list((tmp_path / "home" / "data" / "mnist").glob("*.gz"))) == 2
    with pytest.raises(MissingDataError, match="MNIST is not on this machine"):
        open_source("mnist")


def test_a_file_is_fetched_whole_and_checked_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo.data.sources.locations import RemoteFile, fetch
    from ganzoo.files import sha256_of

    monkeypatch.setenv("GANZOO_OFFLINE", "0")
    good, bad, target = tmp_path / "good", tmp_path / "bad", tmp_path / "target"
    for folder, data in ((good, b"right bytes"), (bad, b"wrong bytes")):
        folder.mkdir()
        (folder / "file.bin").write_bytes(data)
    mirrors = [f"{folder.as_uri()}/" for folder in (tmp_path / "none", bad, good)]
    file = RemoteFile("file.bin", 100, f"sha256:{sha256_of(good / 'file.bin')}")
    with pytest.raises(MissingDataError, match="sha256"):
        fetch(file, mirrors[:2], target)
    assert list(target.iterdir()) == []
    assert fetch(file, mirrors, target).read_bytes() == b"right bytes"
    assert [one.name for one in target.iterdir()] == ["file.bin"]
    with pytest.raises(MissingDataError, match="more than"):
        fetch(RemoteFile("file.bin", 5, file.digest), mirrors[2:], tmp_path / "other")


def test_mnist_is_fetched_from_a_mirror_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_data: Path
) -> None:
    from ganzoo.data.sources import downloads

    monkeypatch.setenv("GANZOO_OFFLINE", "0")
    unreachable = "http://127.0.0.1:9/"
    monkeypatch.setattr(downloads, "_MNIST_MIRRORS", (unreachable, f"{(test_data / 'mnist').as_uri()}/"))
    source = open_source("mnist")
    assert len(source) == 60_000
    assert source.labels is not None
    assert source.labels[:5].tolist() == [5, 0, 4, 1, 9]
    monkeypatch.setattr(downloads, "_CIFAR_MIRRORS", (unreachable,))
    with pytest.raises(MissingDataError, match=r"127\.0\.0\.1"):
        open_source("cifar10")


# ------------------------------------------------------------------ real data


def test_real_mnist_is_packed(test_data: Path) -> None:
    with open_pack(test_data / "mnist", DataRequest(28, channels=1, labels=True)) as pack:
        assert len(pack) == 60_000
        assert pack.labels is not None
        assert np.bincount(pack.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        mean = float(pack.to_tensor("cpu").float().mean()) / 255
        assert mean == pytest.approx(0.1307, abs=1e-4)  # the number that every MNIST tutorial normalises with


def test_real_zips_are_packed(test_data: Path) -> None:
    with open_pack(test_data / "noto_emoji64" / "all.zip", DataRequest(64, max_images=40)) as pack:
        assert (len(pack), pack.labels, pack.manifest.skipped) == (40, None, 0)
    with open_pack(test_data / "cifar10_jpeg" / "test.zip", DataRequest(32, max_images=50, labels=True)) as pack:
        assert pack.classes[0] == "airplane"
        assert pack.labels is not None
        assert np.bincount(pack.labels).tolist() == [5] * 10
