"""Where published weights come from: the package, the cache, the addresses of the manifest, and nowhere else."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from weights_server import Server, give

from ganzoo.errors import DownloadError, UnknownNameError, WeightsError
from ganzoo.files import cache_home
from ganzoo.models import load_model
from ganzoo.weights import PublishedModel, cached_folder, fetch_published, verify

Publish = Callable[..., PublishedModel]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach another machine, or to look up its name, fails the test."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)


def test_a_packaged_model_is_used_where_it_lies(published: Publish, own_weights: Path, no_network: None) -> None:
    published(urls=("http://127.0.0.1:9/",))
    assert fetch_published("tiny") == own_weights / "tiny"
    assert fetch_published("tiny", force_download=True) == own_weights / "tiny"
    assert load_model(fetch_published("tiny")).config.recipe.name == "tiny"


def test_a_model_of_the_manifest_is_fetched_once(published: Publish, web: Server) -> None:
    model = published(urls=(f"{web.url}/none/", f"{web.url}/"), packaged=False)
    folder = fetch_published("tiny")
    assert folder == cached_folder(model)
    assert folder.name == model.digest[:16]
    assert folder.parent.parent == cache_home() / "models"
    verify(folder, model)
    assert load_model(folder).config.recipe.name == "tiny"
    asked = len(web.asked)
    assert asked == 2 * len(model.files)
    assert fetch_published("tiny") == folder
    assert len(web.asked) == asked
    fetch_published("tiny", force_download=True)
    assert len(web.asked) == 2 * asked


def test_the_cache_may_be_elsewhere(published: Publish, web: Server, tmp_path: Path) -> None:
    model = published(urls=(web.url,), packaged=False)
    folder = fetch_published("tiny", cache_dir=tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere" / "tiny" / model.digest[:16]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("size_too", [False, True], ids=["one bit", "cut"])
def test_a_damaged_file_in_the_cache_is_fetched_again_and_no_other(
    published: Publish, web: Server, size_too: bool
) -> None:
    model = published(urls=(web.url,), packaged=False)
    file = fetch_published("tiny") / "generator.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data[:-5] if size_too else data)
    web.asked.clear()
    verify(fetch_published("tiny"), model)
    assert web.asked == ["/generator.safetensors"]


def test_of_two_processes_one_fetches_each_file(published: Publish, web: Server, own_weights: Path) -> None:
    model = published(urls=(web.url,), packaged=False)
    code = (
        "import sys; from pathlib import Path; from ganzoo import weights; weights.FOLDER = Path(sys.argv[1]); "
        "weights.fetch_published('tiny')"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(own_weights)]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    assert sorted(web.asked) == sorted(f"/{name}" for name in model.files)
    verify(cached_folder(model), model)


def test_a_new_version_of_a_model_never_mixes_with_an_old_one(
    published: Publish, web: Server, own_weights: Path, model_folder: Path
) -> None:
    published(urls=(web.url,), packaged=False)
    old = fetch_published("tiny")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    shutil.rmtree(own_weights.parent / "served")
    (model_folder / "metrics.json").write_text('{"schema_version": 1, "step": 7}')
    published(urls=(web.url,), packaged=False)
    assert fetch_published("tiny") != old
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_a_mirror_that_gives_something_else_is_passed_over(published: Publish, web: Server) -> None:
    model = published(urls=(f"{web.url}/bad", web.url), packaged=False)
    size = model.files["generator.safetensors"].bytes
    web.answers["/bad/generator.safetensors"] = give(b"x" * size)
    verify(fetch_published("tiny"), model)


def test_what_no_address_gives_is_one_line_and_leaves_nothing_that_is_taken_for_it(
    published: Publish, web: Server
) -> None:
    model = published(urls=(f"{web.url}/bad", "http://127.0.0.1:9/"), packaged=False)
    with pytest.raises(DownloadError, match=r"404.*refused") as caught:
        fetch_published("tiny")
    assert "\n" not in str(caught.value)
    assert list(cached_folder(model).iterdir()) == []


@pytest.mark.parametrize("variable", ["GANZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_what_is_packaged_and_cached_loads_and_nothing_is_asked(
    variable: str, published: Publish, web: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    published("tiny", urls=(web.url,), packaged=False)
    fetch_published("tiny")
    published("inside")
    monkeypatch.setenv(variable, "1")
    request.getfixturevalue("no_network")
    for name in ("tiny", "inside"):
        assert load_model(fetch_published(name)).sample(2).shape == (2, 1, 8, 8)


def test_offline_what_is_not_here_is_one_line_with_a_remedy(
    published: Publish, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    published(urls=("https://example.org/",), packaged=False)
    with pytest.raises(DownloadError, match=r"'tiny' are not in the cache .* local_files_only is set\. Load it once"):
        fetch_published("tiny", local_files_only=True)
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"GANZOO_OFFLINE or HF_HUB_OFFLINE is set") as caught:
        fetch_published("tiny", force_download=True)
    assert caught.value.remedy


def test_a_damaged_package_is_said_or_healed_from_an_address(
    published: Publish, web: Server, own_weights: Path
) -> None:
    published("alone")
    (own_weights / "alone" / "generator.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(WeightsError, match=r"'alone' are damaged: generator.safetensors has 23 bytes.*Install ganzoo"):
        fetch_published("alone")
    published("tiny", urls=(web.url,))
    shutil.copytree(own_weights / "tiny", own_weights.parent / "served")
    (own_weights / "tiny" / "config.json").unlink()
    assert load_model(fetch_published("tiny")).config.recipe.name == "tiny"


def test_force_reads_every_byte_of_a_packaged_model(published: Publish, own_weights: Path) -> None:
    published()
    file = own_weights / "tiny" / "samples.png"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert fetch_published("tiny") == own_weights / "tiny"
    with pytest.raises(WeightsError, match=r"samples\.png has another sha256"):
        fetch_published("tiny", force_download=True)


def test_an_unknown_name_is_answered_with_the_nearest(published: Publish) -> None:
    published()
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        fetch_published("tinny")


def test_a_cache_that_may_not_be_written_is_one_line(published: Publish, web: Server, tmp_path: Path) -> None:
    published(urls=(web.url,), packaged=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot be written: .*GANZOO_HOME"):
        fetch_published("tiny", cache_dir=tmp_path / "file")


def test_the_callback_is_told_of_the_whole_model(published: Publish, web: Server) -> None:
    model = published(urls=(web.url,), packaged=False)
    told: list[tuple[int, int]] = []
    fetch_published("tiny", progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (model.bytes, model.bytes)


def test_everything_that_differs_is_named(published: Publish, own_weights: Path) -> None:
    model = published()
    folder = own_weights / "tiny"
    verify(folder, model)
    (folder / "config.json").unlink()
    (folder / "README.md").write_bytes((folder / "README.md").read_bytes().swapcase())
    (folder / "stray.pt").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        verify(folder, model)
    assert "config.json cannot be read" in str(caught.value)
    assert "README.md has another sha256" in str(caught.value)
    assert "stray.pt is not in the manifest" in str(caught.value)
