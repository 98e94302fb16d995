"""WebDataset tars: grouped by name, labelled, read in any order; hostile or broken ones are harmless and one line."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import noise, png
from shard_files import tar_bytes, write_tar

from ganzoo.data import DataRequest, Source, open_pack, open_source
from ganzoo.data.images import ENCODED_LIMIT
from ganzoo.data.sources.shards import expand_braces
from ganzoo.errors import DataError, UsageError

PNGS = [png(number) for number in range(40)]


def names_of(source: Source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def labels_of(source: Source) -> list[int] | None:
    return None if source.labels is None else source.labels.tolist()


def test_members_of_one_name_are_one_sample(tmp_path: Path) -> None:
    members = {
        **{"a/0.png": PNGS[0], "a/0.cls": b"2\n", "a/0.txt": b"a caption"},
        **{"a/1.cls": b"0", "a/1.JPG": PNGS[1], "a/1.seg.png": b"a mask"},
        **{"b/0.webp": PNGS[2], "b/0.cls": b"1", "b/0.json": b'{"label": 9}'},
    }
    with open_source(write_tar(tmp_path / "a.tar", members)) as source:
        assert names_of(source) == ["a/0.png", "a/1.JPG", "b/0.webp"]
        assert (labels_of(source), source.classes) == ([2, 0, 1], ())
        assert [source.read(index).image for index in (2, 0, 1)] == [PNGS[2], PNGS[0], PNGS[1]]
        assert source.read(2).label == 1


@pytest.mark.parametrize(
    ("told", "labels", "classes"),
    [
        ([b'{"label": 1, "url": "x"}', b'{"label": 0}'], [1, 0], ()),
        ([b'{"label": "owl"}', b'{"label": "cat"}'], [1, 0], ("cat", "owl")),
        ([b'{"caption": "x"}', b'{"caption": "y"}'], None, ()),
        ([b'{"label": 1}', b'{"caption": "y"}'], None, ()),
        ([b'{"label": -1}', b'{"label": 1}'], None, ()),
        ([b'{"label": true}', b'{"label": [1]}'], None, ()),
        ([b"[" * 5000, b"\xff"], None, ()),
    ],
)
def test_a_label_may_stand_in_json(
    tmp_path: Path, told: list[bytes], labels: list[int] | None, classes: tuple[str, ...]
) -> None:
    members = {
        f"{number}.{kind}": data for number in (0, 1) for kind, data in (("png", PNGS[0]), ("json", told[number]))
    }
    with open_source(write_tar(tmp_path / "a.tar", members)) as source:
        assert (labels_of(source), source.classes) == (labels, classes)


def test_labels_are_found_wherever_they_stand_in_the_tar(tmp_path: Path) -> None:
    numbers = list(range(40))
    random.Random(0).shuffle(numbers)
    members = [(f"{one}.png", PNGS[one]) for one in range(40)] + [(f"{one}.cls", b"%d" % (one % 7)) for one in numbers]
    with open_source(write_tar(tmp_path / "a.tar", members)) as source:
        assert labels_of(source) == [one % 7 for one in range(40)]


def test_of_several_images_of_a_sample_the_likeliest_is_taken(tmp_path: Path) -> None:
    members = {"0.png": b"mask", "0.jpg": PNGS[0], "0.cls": b"1", "1.png": PNGS[1], "1.cls": b"0", "2.jpg": PNGS[2]}
    with open_source(write_tar(tmp_path / "a.tar", {**members, "2.cls": b"4"})) as source:
        assert names_of(source) == ["0.jpg", "1.png", "2.jpg"]
        assert [source.read(index).image for index in range(3)] == PNGS[:3]
        assert labels_of(source) == [1, 0, 4]


def test_a_tar_of_a_folder_of_images_has_its_folders_as_classes(tmp_path: Path) -> None:
    members = {"set/cat/1.png": PNGS[0], "set/dog/1.png": PNGS[1], "set/.hidden.png": b"", "__MACOSX/cat/._1.png": b""}
    with open_pack(write_tar(tmp_path / "a.tar", members), DataRequest(8, labels=True)) as pack:
        assert pack.classes == ("cat", "dog")
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 1]
        assert np.array_equal(pack.image(1), noise(8, 8, 3, seed=1))


@pytest.mark.parametrize("spec", ["shards", "shards/s-{8..10}.tar", "shards/s-{8,9,10}.tar"])
def test_shards_are_read_one_after_the_other(tmp_path: Path, spec: str) -> None:
    for shard in (10, 8, 9):
        members = {f"{n}.{kind}": data for n in (0, 1) for kind, data in (("png", PNGS[shard + n]), ("cls", b"%d" % n))}
        write_tar(tmp_path / "shards" / f"s-{shard}.tar", members)
    with open_source(spec) as source:
        assert names_of(source)[:3] == ["s-8.tar: 0.png", "s-8.tar: 1.png", "s-9.tar: 0.png"]
        assert [source.read(index).image for index in (5, 0, 3)] == [PNGS[11], PNGS[8], PNGS[10]]
        assert labels_of(source) == [0, 1] * 3


def test_the_fingerprint_changes_with_the_content_and_not_with_the_place(tmp_path: Path) -> None:
    first, other = {"0.png": PNGS[0]}, {"0.png": PNGS[1]}
    one = open_source(write_tar(tmp_path / "a.tar", first)).fingerprint()
    assert open_source(write_tar(tmp_path / "b" / "c.tar", first)).fingerprint() == one
    assert open_source(write_tar(tmp_path / "d.tar", other)).fingerprint() != one


# ---------------------------------------------------------------------------------------------------------- braces


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("s/{008..010}.tar", ["s/008.tar", "s/009.tar", "s/010.tar"]),
        ("{a,b}/{1..2}", ["a/1", "a/2", "b/1", "b/2"]),
        ("{x}/a{}.tar", ["{x}/a{}.tar"]),
        ("{1..1}", ["1"]),
    ],
)
def test_braces_are_expanded_in_order(text: str, paths: list[str]) -> None:
    assert expand_braces(text) == paths


@pytest.mark.parametrize("text", ["{9..1}", "{0..99999999999}", "{0..999}{0..9999}", "{0..999999}{a,b}"])
def test_impossible_braces_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        expand_braces(text)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"0.png": PNGS[0]})
    with pytest.raises(DataError, match=r"2 of the 3 files of .* The first is .*1\.tar"):
        open_source(str(tmp_path / "{0..2}.tar"))


# --------------------------------------------------------------------------------------------- hostile and broken


def special(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, b""


def test_links_devices_and_what_is_too_large_are_left_out_with_the_reason(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(special("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")[0])
        tar.addfile(special("hard.png", type=tarfile.LNKTYPE, linkname="0.png")[0])
        tar.addfile(special("pipe.png", type=tarfile.FIFOTYPE)[0])
        tar.addfile(special("folder.png", type=tarfile.DIRTYPE)[0])
        info = tarfile.TarInfo("../../0.png")
        info.size = len(PNGS[0])
        tar.addfile(info, io.BytesIO(PNGS[0]))
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    with open_source(tmp_path / "a.tar") as source:
        assert names_of(source) == ["../../0.png"]  # a name like any other, since nothing is unpacked
        assert source.read(0).image == PNGS[0]
        reasons = dict(source.rejected)
    assert reasons == {"link.png": "link", "hard.png": "link", "pipe.png": "not a file", "folder.png": "not a file"}


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    return special(name, size=size, type=kind)[0].tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar",
        bytes(10240),
        tar_bytes({"0.png": PNGS[0]})[:700],
        header("0.png", 1 << 40) + b"x" * 512,
        header("././@LongLink", 1 << 40, tarfile.GNUTYPE_LONGNAME) + bytes(512),
        header("pax", 1 << 40, tarfile.XHDTYPE) + bytes(512),
        header("0.png", -1) + bytes(1024),
        tar_bytes({"0.txt": b"text"}),
        tar_bytes({"0.png": PNGS[0]})[:1024] + b"garbage " * 128,
        tar_bytes({"0.png": PNGS[0], "1.png": PNGS[1]})[:1100],
        b"".join(header("pax", 512, tarfile.XHDTYPE) + b"9 a=bcd\n".ljust(512, b"\0") for _ in range(5000)),
    ],
    ids=[
        *("empty", "text", "zeros", "cut in the data", "huge member", "huge name", "huge pax", "negative", "no images"),
        *("garbage after the first", "cut in a header", "pax within pax"),
    ],
)
def test_a_broken_tar_is_one_line_that_names_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "broken.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"broken\.tar") as caught:
        open_source(tmp_path / "broken.tar")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_image_of_an_implausible_size_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("big.png", ENCODED_LIMIT + 1))
    with path.open("r+b") as file:  # a hole: no bytes are written for it
        file.truncate(512 + -(-(ENCODED_LIMIT + 1) // 512) * 512)
        file.seek(0, io.SEEK_END)
        file.write(tar_bytes({"0.png": PNGS[0]}))
    with open_source(path) as source:
        assert names_of(source) == ["0.png"]
        assert source.rejected == [("big.png", "over 256 MiB")]


def test_a_tar_that_becomes_shorter_skips_what_is_gone(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.png": PNGS[0], "1.png": PNGS[1]})
    with open_source(path) as source:
        with path.open("r+b") as file:
            file.truncate(1700)
        with open_pack(source, DataRequest(8)) as pack:
            assert pack.manifest.skipped_examples == (("1.png", "the tar ends before it"),)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path, mode: str) -> None:
    for name in ("a.tar", "a.tar.gz"):
        with pytest.raises(DataError, match=r"compressed .* Unpack it \(`tar -xf"):
            open_source(write_tar(tmp_path / name, {"0.png": PNGS[0]}, mode))
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(DataError, match="zstd"):
        open_source(tmp_path / "a.tar.zst")


def test_a_compressed_tar_is_told_from_cifars_by_its_first_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFAR's tar may have any name and compression; a large tar of images is not read through to find that out."""
    batch = b"".join(bytes([label]) + bytes(3072) for label in (3, 1))
    for mode in ("w", "w:gz", "w:xz"):
        path = write_tar(tmp_path / "x.tar", {"cifar/readme.html": b"", "cifar/data_batch_1.bin": batch}, mode)
        with open_source(path) as source:
            assert labels_of(source) == [3, 1]
    read = _counting(monkeypatch)
    path = write_tar(tmp_path / "y.tar.gz", {f"{number}.png": PNGS[0] for number in range(2000)}, "w:gz")
    with pytest.raises(DataError, match="compressed"):
        open_source(path)
    assert read() < 100


def _counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    headers = []
    original = tarfile.TarFile.next

    def count(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        headers.append(None)
        return original(self)

    monkeypatch.setattr(tarfile.TarFile, "next", count)
    return lambda: len(headers)
