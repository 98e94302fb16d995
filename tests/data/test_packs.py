"""Packs: made once, whole or absent, found again, read without filling the memory."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import noise, png, write_images

from ganzoo.data import (
    DataRequest,
    Pack,
    PackManifest,
    PackProgress,
    Prefetcher,
    Sample,
    Source,
    open_pack,
    write_pack,
)
from ganzoo.data import writing as writing_module
from ganzoo.data.packs import images_header
from ganzoo.errors import DataError

RGB8 = DataRequest(8)


class Numbered(Source):
    """Images that are all of one value, their number; counts what is read."""

    description = "numbered images"
    parallel = True

    def __init__(self, count: int, name: str | None = "numbered") -> None:
        self._count, self._name = count, name
        self.reads = 0

    def fingerprint(self) -> str | None:
        return self._name

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Sample:
        self.reads += 1
        return Sample(np.full((8, 8, 3), index % 256, np.uint8))


def packs_in(home: Path) -> list[str]:
    return sorted(one.name for one in (home / "packs").iterdir() if one.name != ".locks")


# ------------------------------------------------------------------ what a pack is


def test_a_pack_is_a_numpy_file_labels_and_a_manifest(tmp_path: Path) -> None:
    images, labels = noise(10, 8, 8, 3), np.arange(10) % 3
    with open_pack((images, labels), RGB8, cache_dir=tmp_path / "packs") as pack:
        assert np.array_equal(np.load(pack.path / "images.npy", mmap_mode="r"), images)
        assert np.array_equal(np.load(pack.path / "labels.npy"), labels)
        assert pack.nbytes == images.nbytes
        expected = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
        assert pack.manifest.content_sha256 == expected
        text = (pack.path / "manifest.json").read_text()
        assert PackManifest.from_json(text) == pack.manifest
        assert json.loads(text)["schema_version"] == 1
        pack.verify()


def test_packing_twice_gives_the_same_bytes_without_dates_and_paths(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", *(f"{number}.png" for number in range(200)))
    one = open_pack(folder, RGB8, cache_dir=tmp_path / "one")
    two = open_pack(folder, RGB8, cache_dir=tmp_path / "two")
    for name in ("images.npy", "manifest.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert str(tmp_path) not in (one.path / "manifest.json").read_text()


def test_images_stay_in_order_on_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing_module, "core_count", lambda: 3)  # fewer than chunks
    with open_pack(Numbered(1000), RGB8) as pack:
        assert pack.gather(np.arange(1000))[:, 0, 0, 0].tolist() == [number % 256 for number in range(1000)]


def test_skipped_images_are_counted_named_and_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (folder / "a" / "1.png").write_bytes(png()[:50])
    seen: list[PackProgress] = []
    with open_pack(folder, RGB8, progress=seen.append) as pack:
        assert (len(pack), pack.manifest.skipped) == (3, 1)
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 1, 1]
        assert pack.manifest.skipped_examples[0][0] == "a/1.png"
        assert np.array_equal(pack.gather(np.array([0]))[0].numpy(), noise(8, 8, 3, seed=1))
        assert np.load(pack.path / "images.npy").shape == (3, 8, 8, 3)
    assert (seen[-1].done, seen[-1].total, seen[-1].skipped) == (4, 4, 1)
    assert seen[-1].images_per_second > 0


def test_nothing_left_is_an_error_that_leaves_nothing(tmp_path: Path, home: Path) -> None:
    folder = write_images(tmp_path / "images", "a.png")
    (folder / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"None of the 1 images .* can be used.*'a.png'"):
        open_pack(folder, RGB8)
    assert packs_in(home) == []


def test_max_images_are_taken_evenly_over_the_source() -> None:
    with open_pack(Numbered(100), DataRequest(8, max_images=4)) as pack:
        assert pack.gather(np.arange(4))[:, 0, 0, 0].tolist() == [0, 25, 50, 75]


def test_missing_labels_are_an_error_before_anything_is_read() -> None:
    source = Numbered(3)
    with pytest.raises(DataError, match="no labels"):
        open_pack(source, DataRequest(8, labels=True))
    assert source.reads == 0


# ------------------------------------------------------------------ found again


def test_a_pack_is_made_once() -> None:
    source = Numbered(5)
    first = open_pack(source, RGB8)
    assert open_pack(source, RGB8).path == first.path
    assert source.reads == 5


@pytest.mark.parametrize(
    "change", [{"image_size": 9}, {"channels": 1}, {"crop": "none"}, {"resize": "box"}, {"max_images": 2}]
)
def test_another_request_is_another_pack(change: dict[str, Any]) -> None:
    assert open_pack(Numbered(5), dataclasses.replace(RGB8, **change)).path != open_pack(Numbered(5), RGB8).path


def test_asking_for_labels_is_not_another_pack() -> None:
    pair = (noise(4, 8, 8, 3), np.arange(4))
    assert open_pack(pair, RGB8).path == open_pack(pair, DataRequest(8, labels=True)).path


def test_a_changed_source_is_another_pack(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "a.png", "b.png")
    first = open_pack(folder, RGB8)
    write_images(folder, "c.png")
    assert (len(first), len(open_pack(folder, RGB8))) == (2, 3)
    os.utime(folder / "a.png", ns=(1, 1))
    assert open_pack(folder, RGB8).path != first.path
    images = noise(4, 8, 8, 3)
    before = open_pack(images, RGB8).path
    images[3, 7, 7, 2] ^= 1
    assert open_pack(images, RGB8).path != before


def test_a_source_that_cannot_tell_is_known_by_its_content(home: Path) -> None:
    first = open_pack(Numbered(5, name=None), RGB8)
    assert open_pack(Numbered(5, name=None), RGB8).path == first.path
    assert open_pack(Numbered(6, name=None), RGB8).path != first.path
    assert len(packs_in(home)) == 2


@pytest.mark.parametrize("damage", ["short", "long", "no manifest", "bad manifest", "labels", "no images"])
def test_a_pack_that_is_not_whole_is_made_again(damage: str) -> None:
    pair = (noise(10, 8, 8, 3), np.arange(10))
    path = open_pack(pair, RGB8).path
    images, manifest = path / "images.npy", path / "manifest.json"
    if damage == "short":
        os.truncate(images, images.stat().st_size - 1)
    elif damage == "long":
        with images.open("ab") as file:
            file.write(b"x")
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "bad manifest":
        manifest.write_text("{")
    elif damage == "labels":
        np.save(path / "labels.npy", np.arange(9))
    else:
        images.unlink()
    with pytest.raises(DataError, match="not a whole pack"):
        Pack(path)
    with open_pack(pair, RGB8) as again:
        assert again.path == path
        assert np.array_equal(again.gather(np.arange(10)).numpy(), pair[0])


def test_verify_finds_one_changed_byte() -> None:
    pack = open_pack(noise(10, 8, 8, 3), RGB8)
    with (pack.path / "images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(DataError, match="not those that were packed"):
        pack.verify()


def test_a_later_schema_is_refused_with_the_reason() -> None:
    path = open_pack(noise(2, 8, 8, 3), RGB8).path
    fields = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**fields, "schema_version": 3}))
    with pytest.raises(DataError, match="later version"):
        Pack(path)


# ------------------------------------------------------------------ a folder of one's own


def test_a_pack_of_ones_own_is_used_as_it_is_or_resized(tmp_path: Path) -> None:
    pair = (noise(6, 8, 8, 3), np.arange(6))
    out = tmp_path / "mine"
    mine = write_pack(pair, RGB8, out)
    assert write_pack(pair, RGB8, out).path == out
    assert open_pack(out, DataRequest(8, crop="lsun", labels=True)).path == out
    assert open_pack(mine, RGB8).path == out
    small = open_pack(str(out), DataRequest(4, resize="box"))
    assert small.image_size == 4
    assert small.labels is not None
    assert small.labels.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="not the pack that was asked for"):
        write_pack(pair, DataRequest(9), out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home", "mine"]


# ------------------------------------------------------------------ reading


def test_gather_gives_images_in_any_order_with_repeats() -> None:
    images = noise(20, 8, 8, 3)
    with open_pack(images, RGB8) as pack:
        indices = np.array([3, 19, 0, 3])
        batch = pack.gather(indices)
        assert (batch.dtype, batch.shape, batch.is_contiguous()) == (torch.uint8, (4, 8, 8, 3), True)
        assert np.array_equal(batch.numpy(), images[indices])
        assert pack.gather(np.array([], np.int64)).shape == (0, 8, 8, 3)
        for bad in ([20], [-1]):
            with pytest.raises(IndexError):
                pack.gather(np.array(bad))


def test_gather_without_positional_reads_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(20, 8, 8, 3)
    pack = open_pack(images, RGB8)
    monkeypatch.delattr(os, "preadv")
    indices = np.array([3, 19, 0, 3])
    assert np.array_equal(pack.gather(indices).numpy(), images[indices])
    assert np.array_equal(pack.to_tensor("cpu").numpy(), images)


def test_a_pack_that_became_shorter_is_an_error_and_not_a_crash() -> None:
    pack = open_pack(noise(20, 8, 8, 3), RGB8)
    os.truncate(pack.path / "images.npy", 500)
    with pytest.raises(DataError, match="shorter"):
        pack.gather(np.arange(20))


def test_to_tensor_gives_the_whole_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.data.packs._READ_BYTES", 8 * 8 * 3 * 7)  # several parts, the last one smaller
    images = noise(20, 8, 8, 3)
    assert np.array_equal(open_pack(images, RGB8).to_tensor("cpu").numpy(), images)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_streaming_from_a_million_images_does_not_fill_the_memory(tmp_path: Path) -> None:
    count, request = 1_000_000, DataRequest(64)
    folder = tmp_path / "large"
    folder.mkdir()
    header = images_header(request, count)
    with (folder / "images.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count * request.image_bytes)  # sparse: it takes no disk
    small = open_pack(noise(2, 64, 64, 3), request)
    manifest = dataclasses.replace(small.manifest, count=count, bytes=count * request.image_bytes)
    (folder / "manifest.json").write_text(manifest.to_json())

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    rng = np.random.default_rng(0)
    with Pack(folder) as pack:
        assert len(pack) == count
        pack.gather(np.arange(128))
        before = resident()
        batches = (rng.integers(0, count, 512) for _ in range(80))  # half a GB of pixels from all over 12 GB
        with Prefetcher(pack, batches) as images:
            assert sum(len(batch) for batch in images) == 40_960
        assert resident() - before < 128 << 20


# ------------------------------------------------------------------ prefetching


def test_the_prefetcher_gives_the_batches_in_order() -> None:
    images = noise(30, 8, 8, 3)
    batches = [np.array([number, 29 - number]) for number in range(20)]
    with open_pack(images, RGB8) as pack, Prefetcher(pack, iter(batches), depth=2) as prefetcher:
        got = [batch.numpy() for batch in prefetcher]
        assert len(got) == 20
        assert all(np.array_equal(one, images[indices]) for one, indices in zip(got, batches, strict=True))
        with pytest.raises(StopIteration):
            next(prefetcher)


def test_errors_of_the_thread_are_raised_where_the_batch_would_be() -> None:
    def indices() -> Iterator[np.ndarray[Any, Any]]:
        yield np.array([0])
        raise RuntimeError("out of numbers")

    pack = open_pack(noise(3, 8, 8, 3), RGB8)
    with Prefetcher(pack, indices()) as prefetcher:
        next(prefetcher)
        with pytest.raises(RuntimeError, match="out of numbers"):
            next(prefetcher)
        with pytest.raises(StopIteration):
            next(prefetcher)
    with Prefetcher(pack, [np.array([99])]) as prefetcher, pytest.raises(IndexError):
        next(prefetcher)


def test_a_prefetcher_of_endless_batches_closes_at_once() -> None:
    def indices() -> Iterator[np.ndarray[Any, Any]]:
        while True:
            yield np.array([0, 1])

    with Prefetcher(open_pack(noise(3, 8, 8, 3), RGB8), indices(), depth=1) as prefetcher:
        next(prefetcher)
        thread = prefetcher._thread
    assert not thread.is_alive()


# ------------------------------------------------------------------ interruption, several processes, a full disk

_SLOW_PACKING = """
import sys, time
import numpy as np
from ganzoo.data import DataRequest, Sample, Source, open_pack

class Slow(Source):
    description = "slow images"
    def fingerprint(self): return "slow"
    def __len__(self): return int(sys.argv[1])
    def read(self, index):
        time.sleep(float(sys.argv[2]))
        return Sample(np.full((8, 8, 3), index % 256, np.uint8))

print("begin", flush=True)
pack = open_pack(Slow(), DataRequest(8))
print(pack.path.name, pack.manifest.content_sha256, flush=True)
"""


def start_packing(images: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SLOW_PACKING, str(images), str(seconds)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def wait_for_begun_pack(home: Path) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if begun := list((home / "packs").glob(".*.tmp/images.npy")):
            return begun[0].parent
        time.sleep(0.02)
    raise AssertionError("no pack was begun")


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_a_killed_packing_leaves_nothing_to_be_taken_for_a_pack_and_is_cleaned_up(home: Path) -> None:
    with start_packing(images=2000, seconds=0.1) as killed:
        partial = wait_for_begun_pack(home)
        killed.send_signal(signal.SIGKILL)
    assert partial.is_dir()
    assert packs_in(home) == [partial.name]
    with open_pack(Numbered(5, name="another"), RGB8) as pack:  # any later packing removes what is dead
        assert packs_in(home) == [pack.path.name]
    with start_packing(images=100, seconds=0) as again:
        assert again.stdout is not None
        assert again.stdout.read().startswith("begin")
    assert again.returncode == 0
    assert len(packs_in(home)) == 2


def test_two_processes_that_pack_the_same_make_one_pack(home: Path) -> None:
    with start_packing(images=130, seconds=0.01) as one, start_packing(images=130, seconds=0.01) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        outputs = [one.stdout.read(), two.stdout.read()]
    assert (one.returncode, two.returncode) == (0, 0)
    assert outputs[0] == outputs[1]
    assert packs_in(home) == [outputs[0].split()[1]]


def test_a_packing_at_work_is_not_cleaned_up_by_another(home: Path) -> None:
    with start_packing(images=150, seconds=0.01) as other:
        partial = wait_for_begun_pack(home)
        open_pack(Numbered(5, name="another"), RGB8).close()
        assert partial.is_dir()
        assert other.stdout is not None
        other.stdout.read()
    assert other.returncode == 0
    assert len(packs_in(home)) == 2


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_packing_leaves_nothing(home: Path, exception: type[BaseException]) -> None:
    def interrupt(_: PackProgress) -> None:
        raise exception

    with pytest.raises(exception):
        open_pack(Numbered(1000), RGB8, progress=interrupt)
    assert packs_in(home) == []


def test_a_disk_without_room_is_told_before_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    source = Numbered(100)
    with pytest.raises(DataError, match=r"needs .* GiB.*GANZOO_HOME"):
        open_pack(source, RGB8)
    assert source.reads == 0
    assert packs_in(home) == []


def test_a_disk_that_fills_up_is_one_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing_module, "flush_to_disk", full)
    with pytest.raises(DataError, match=r"needs .* GiB"):
        open_pack(Numbered(100), RGB8)
    assert packs_in(home) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(DataError, match="GANZOO_HOME"):
        open_pack(Numbered(1), RGB8, cache_dir=tmp_path / "closed" / "packs")


def test_a_cache_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="GANZOO_HOME"):
        open_pack(Numbered(1), RGB8, cache_dir=tmp_path / "file" / "packs")


def test_importing_the_package_imports_neither_torch_nor_pillow() -> None:
    code = "import sys, ganzoo.data; assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})
