"""Data sets of the Hub: only the split that is wanted is fetched, pinned to a commit, used again without a network, and
failures are one line. All of it against a Hub on this machine (hub_server.py)."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import hub_server
import numpy as np
import pytest
from hub_server import Hub, Refusal
from image_files import noise, png
from shard_files import hub_table, parquet_bytes, tar_bytes

from ganzoo.data import DataRequest, Source, open_pack, open_source
from ganzoo.errors import DataError, DownloadError, GanzooError, MissingDependencyError, UnknownNameError, UsageError

REPO = "somebody/pets"
PNGS = [png(number) for number in range(12)]
README = b"""---
license: cc-by-4.0
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
---
# Pets
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between that package's attempts
    with hub_server.running_for(monkeypatch, tmp_path / "huggingface") as server:
        yield server


def publish(hub: Hub, files: dict[str, bytes]) -> None:
    hub.publish(f"datasets/{REPO}", {"README.md": README, **files})


def parquets() -> dict[str, bytes]:
    return {
        f"data/{split}-0000{part}-of-00002.parquet": parquet_bytes(
            hub_table(PNGS[first + 2 * part : first + 2 * part + 2], [0, 1])
        )
        for split, first in (("train", 0), ("test", 6))
        for part in (0, 1)
    }


def images_of(source: Source) -> list[object]:
    return [source.read(index).image for index in range(len(source))]


def one_line(error: GanzooError) -> str:
    assert "\n" not in error.message + (error.remedy or "")
    assert error.remedy
    return str(error)


def test_parquet_files_of_the_training_split_are_fetched_and_no_others(hub: Hub) -> None:
    publish(hub, {**parquets(), "script.py": b"raise SystemExit"})
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == PNGS[:4]
        assert (source.classes, source.labels is not None and source.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1])
        assert source.description == "data set somebody/pets (train)"
        assert source.notice == "somebody/pets on the Hugging Face Hub; licence: cc-by-4.0"
    assert hub.fetched() == {"README.md", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"}
    with open_source(f"hf:{REPO}:test") as source:
        assert images_of(source) == PNGS[6:10]


def test_a_pack_of_it_trains_like_any_other_and_is_found_again(hub: Hub) -> None:
    publish(hub, parquets())
    with open_pack(f"hf:{REPO}", DataRequest(8, labels=True)) as pack:
        assert pack.classes == ("cat", "dog")
        assert np.array_equal(pack.image(3), noise(8, 8, 3, seed=3))
        assert pack.manifest.notice == "somebody/pets on the Hugging Face Hub; licence: cc-by-4.0"
        path = pack.path
    with open_pack(f"hf:{REPO}", DataRequest(8)) as again:
        assert again.path == path


def test_folders_of_images_are_classes_of_the_split_alone(hub: Hub) -> None:
    publish(
        hub, {f"train/{name}/{n}.png": PNGS[n] for n, name in enumerate(["dog", "cat", "cat"])} | {"test/x.png": b""}
    )
    with open_source(f"hf:{REPO}") as source:
        assert [source.name(index) for index in range(3)] == ["train/cat/1.png", "train/cat/2.png", "train/dog/0.png"]
        assert (source.classes, source.labels is not None and source.labels.tolist()) == (("cat", "dog"), [0, 0, 1])
        assert images_of(source) == [PNGS[1], PNGS[2], PNGS[0]]
        assert not source.rejected
    assert hub.fetched() == {"README.md", "0.png", "1.png", "2.png"}


def test_metadata_beside_images_tell_their_labels(hub: Hub) -> None:
    rows = "".join(json.dumps({"file_name": f"{n}.png", "label": name}) + "\n" for n, name in enumerate(["b", "a"]))
    images = {"train/0.png": PNGS[0], "train/1.png": PNGS[1]}
    publish(hub, {**images, "train/metadata.jsonl": rows.encode()})
    with open_source(f"hf:{REPO}") as source:
        assert (source.classes, source.labels is not None and source.labels.tolist()) == (("a", "b"), [1, 0])
    publish(hub, {**images, "metadata.csv": b"file_name,label\r\ntrain/1.png,3\r\ntrain/0.png,0\r\n"})
    with open_source(f"hf:{REPO}") as source:
        assert (source.classes, source.labels is not None and source.labels.tolist()) == ((), [0, 3])
    publish(hub, {**images, "metadata.csv": b"name,label\r\n0.png,3\r\n"})
    with pytest.raises(DataError, match=r"Entry 1 of metadata\.csv has no file_name"):
        open_source(f"hf:{REPO}")


def test_tars_are_read_as_webdataset(hub: Hub) -> None:
    publish(hub, {f"train-{n}.tar": tar_bytes({"0.png": PNGS[n], "0.cls": b"%d" % n}) for n in (0, 1)})
    with open_source(f"hf:{REPO}") as source:
        assert (images_of(source), source.labels is not None and source.labels.tolist()) == (PNGS[:2], [0, 1])


def test_zips_of_images_are_read_one_after_the_other_with_the_classes_of_all(hub: Hub) -> None:
    files = {}
    for number, folders in enumerate((("a", "c"), ("c", "b"))):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for place, folder in enumerate(folders):
                archive.writestr(f"{folder}/{number}.png", PNGS[2 * number + place])
        files[f"part{number}.zip"] = file.getvalue()
    publish(hub, files)
    with open_source(f"hf:{REPO}") as source:
        assert (source.classes, source.labels is not None and source.labels.tolist()) == (("a", "b", "c"), [0, 2, 1, 2])
        assert images_of(source) == [PNGS[0], PNGS[1], PNGS[3], PNGS[2]]
        assert [source.read(index).label for index in range(4)] == [0, 2, 1, 2]
        assert source.name(2) == "b/1.png"


def test_thousands_of_files_are_fetched_by_their_folders(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.data.sources.hub._MOST_PATTERNS", 2)
    publish(hub, {f"train/[{name}]/{n}.png": PNGS[n] for name in "ab" for n in range(3)} | {"test/[a]/9.png": PNGS[9]})
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == [*PNGS[:3], *PNGS[:3]]
    assert "9.png" not in hub.fetched()


# ----------------------------------------------------------------------------------------------------- revisions


def test_a_branch_is_pinned_to_its_commit(hub: Hub) -> None:
    publish(hub, {"train.parquet": parquet_bytes(hub_table(PNGS[:1]))})
    repository = hub.repositories[f"datasets/{REPO}"]
    first = repository.branches["main"]
    before = open_source(f"hf:{REPO}").fingerprint()
    assert first in str(before)
    repository.commit({"train.parquet": parquet_bytes(hub_table(PNGS[1:2]))}, message="another")
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == [PNGS[1]]
        assert source.fingerprint() != before
    for revision in (first, first):
        with open_source(f"hf:{REPO}@{revision}") as source:
            assert images_of(source) == [PNGS[0]]
            assert source.fingerprint() == before


def test_the_hubs_conversion_is_a_revision_like_any_other(hub: Hub) -> None:
    publish(hub, {"data.csv": b"1"})
    with pytest.raises(DataError, match="Try hf:somebody/pets@refs/convert/parquet"):
        open_source(f"hf:{REPO}")
    files = {"default/train/0000.parquet": parquet_bytes(hub_table(PNGS[:2]))}
    hub.repositories[f"datasets/{REPO}"].commit(files, branch="refs/convert/parquet")
    with open_source(f"hf:{REPO}@refs/convert/parquet") as source:
        assert images_of(source) == PNGS[:2]
        assert source.description == "data set somebody/pets (default/train)"


# ------------------------------------------------------------------------------------------------------- offline


def test_what_was_fetched_is_used_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, parquets())
    commit = hub.repositories[f"datasets/{REPO}"].branches["main"]
    fingerprint = open_source(f"hf:{REPO}").fingerprint()
    hub.asked.clear()
    with open_source(f"hf:{REPO}") as source:
        assert len(source) == 4
    assert [one.partition(" ")[2] for one in hub.asked] == [f"/api/datasets/{REPO}"]  # whether it is still the newest
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    hub.asked.clear()
    with open_source(f"hf:{REPO}") as source:
        assert (source.fingerprint(), images_of(source)) == (fingerprint, PNGS[:4])
    assert hub.asked == []
    for spec in (f"hf:{REPO}:test", f"hf:{REPO}@{commit}", "hf:somebody/else"):
        with pytest.raises(DownloadError, match="The cache does not hold the whole of") as caught:
            open_source(spec)
        assert "GANZOO_OFFLINE" in one_line(caught.value)


def test_a_hub_that_cannot_be_reached_is_done_without_where_the_cache_holds_all(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, parquets())
    open_source(f"hf:{REPO}").close()
    monkeypatch.setenv("HF_ENDPOINT", hub_server.NOWHERE)
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == PNGS[:4]
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        open_source(f"hf:{REPO}:test")
    one_line(caught.value)


def test_half_a_split_is_never_taken_for_the_whole(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish(hub, parquets())
    open_source(f"hf:{REPO}").close()
    (lost,) = (tmp_path / "huggingface").rglob("snapshots/*/data/train-00001-of-00002.parquet")
    lost.unlink()
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match="does not hold the whole"):
        open_source(f"hf:{REPO}")
    monkeypatch.delenv("GANZOO_OFFLINE")
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == PNGS[:4]


def test_a_listing_that_is_broken_is_asked_for_again(hub: Hub, home: Path) -> None:
    publish(hub, parquets())
    open_source(f"hf:{REPO}").close()
    (listing,) = (home / "data" / "hub").rglob("*.json")
    whole = listing.read_bytes()
    for broken in (b"", b"{", whole[: len(whole) // 2], b"[]", b'{"schema_version": 1, "commit": 3, "files": {}}'):
        listing.write_bytes(broken)
        with open_source(f"hf:{REPO}") as source:
            assert len(source) == 4
        assert listing.read_bytes() == whole


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("hf:", UsageError, "no name of a data set"),
        ("hf:a/b/c", UsageError, "no name of a data set"),
        ("hf:../x", UsageError, "no name of a data set"),
        ("hf:a/b@", UsageError, "no name of a revision"),
        ("hf:a/b@x..y", UsageError, "no name of a revision"),
        ("hf:somebody/nothing", UsageError, "The Hub shows no data set somebody/nothing"),
        (f"hf:{REPO}@v9", UsageError, "has no revision 'v9'"),
        (f"hf:{REPO}:tset", UnknownNameError, "Did you mean 'test'?"),
    ],
)
def test_wrong_names_are_one_line(hub: Hub, spec: str, error: type[GanzooError], message: str) -> None:
    publish(hub, parquets())
    with pytest.raises(error) as caught:
        open_source(spec)
    assert message in one_line(caught.value)


def test_a_gated_data_set_says_where_to_ask_for_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, parquets())
    hub.repositories[f"datasets/{REPO}"].gated = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(GanzooError, match="is gated") as caught:
        open_source(f"hf:{REPO}")
    assert f"{hub.url}/datasets/{REPO}" in one_line(caught.value)


def test_a_server_that_fails_is_one_line(hub: Hub) -> None:
    publish(hub, parquets())
    hub.refusals[r"GET /api/datasets/.*/tree"] = Refusal(429, "", "slow down")
    with pytest.raises(DownloadError) as caught:
        open_source(f"hf:{REPO}")
    one_line(caught.value)


def test_a_file_that_is_cut_on_the_way_is_not_kept(hub: Hub) -> None:
    publish(hub, parquets())
    hub.bodies["data/train-00001-of-00002.parquet"] = lambda data: data[:-10]
    with pytest.raises(DownloadError) as caught:
        open_source(f"hf:{REPO}")
    one_line(caught.value)
    hub.bodies.clear()
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == PNGS[:4]


def test_a_disk_without_room_is_told_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, parquets())
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(GanzooError, match="GiB free") as caught:
        open_source(f"hf:{REPO}")
    assert "HF_HOME" in one_line(caught.value)
    assert hub.fetched() == set()


@pytest.mark.parametrize(
    "readme", [b"", b"---\nconfigs: [", b"---\n- a\n---\n", b"\xff\xfe", b"---\na: &a [*a]\n---\n"]
)
def test_a_readme_that_is_broken_is_done_without(
    hub: Hub, readme: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    publish(hub, {**parquets(), "README.md": readme})
    with open_source(f"hf:{REPO}") as source:
        assert images_of(source) == PNGS[:4]
        assert source.notice == "somebody/pets on the Hugging Face Hub; see its page for the licence"
    assert (capfd.readouterr().out, capfd.readouterr().err, caplog.records) == ("", "", [])


def test_names_that_would_leave_the_cache_are_passed_over(hub: Hub) -> None:
    publish(hub, {**parquets(), "../train-00000-of-00001.parquet": b"x" * 99999})
    with open_source(f"hf:{REPO}") as source:
        assert len(source) == 4


def test_without_huggingface_hub_the_remedy_is_its_extra(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ganzoo\[hub\]'"):
        open_source(f"hf:{REPO}")
