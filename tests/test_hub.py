"""Models on the Hub: what is published comes back the same, nothing else of a repository is fetched, failures are one
line. All of it against a Hub on this machine (hub_server.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hub_server
import huggingface_hub.constants
import huggingface_hub.utils
import pytest
import torch
from hub_server import Hub, Refusal
from tiny_runs import recipe

from ganzoo.errors import (
    DownloadError,
    GanzooError,
    MissingDependencyError,
    ModelReferenceError,
    UsageError,
    WeightsError,
)
from ganzoo.hub import MODEL_FILES, download_model, push_model
from ganzoo.model_config import ModelConfig
from ganzoo.models import load_model, save_companions, save_model
from ganzoo.references import resolve_model
from ganzoo.tensors import read_tensors
from ganzoo.training.networks import build_networks

DATA = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": []}
REPO = "somebody/tiny"

# huggingface_hub's own way to upload over plain HTTP, which it does without where hf_xet may be used
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub, and a user of it who can write, with a cache of their own."""
    with hub_server.running_for(monkeypatch, tmp_path / "huggingface") as server:
        yield server


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    folder.mkdir()
    save_model(folder, ModelConfig(recipe(), "ema", 6, 0.024, DATA), *build_networks(recipe())[:2])
    (folder / "metrics.json").write_text(json.dumps({"schema_version": 1, "training": {"loss/generator": 0.5}}) + "\n")
    save_companions(folder, load_model(folder))
    return folder


@pytest.fixture
def model(_model: Path, tmp_path: Path) -> Path:
    """A whole model folder, with random weights."""
    return Path(shutil.copytree(_model, tmp_path / "model"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse every connection and name lookup; the list holds those that were tried."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    huggingface_hub.close_session()
    return tried


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    assert contents(folder).keys() == set(MODEL_FILES)
    return contents(folder)


def one_line(error: GanzooError) -> str:
    assert "\n" not in error.message + (error.remedy or "")
    assert error.remedy
    return str(error)


# ------------------------------------------------------------------------------------------------------- round trip


def test_what_is_published_comes_back_the_same(hub: Hub, model: Path) -> None:
    assert push_model(model, REPO) == f"{hub.url}/{REPO}"
    fetched = resolve_model(f"hf-hub:{REPO}@main")
    assert fetched.origin == "hub"
    ours, theirs = files(model), contents(fetched.path)
    assert theirs.keys() == set(MODEL_FILES)
    assert [name for name in ours if theirs[name] != ours[name]] == ["README.md"]  # which names the repository now
    images = [load_model(path).sample(3) for path in (model, fetched.path)]
    assert torch.equal(images[0], images[1])


def test_the_published_card_is_the_models_with_the_repository_in_its_commands(hub: Hub, model: Path) -> None:
    push_model(model, REPO)
    card = hub.repositories[REPO].files["README.md"].decode()
    assert f'ganzoo.load_pretrained("hf-hub:{REPO}")' in card
    assert f"ganzoo sample hf-hub:{REPO} --seeds" in card
    assert "PATH-OF-THIS-FOLDER" not in card
    assert huggingface_hub.ModelCard(card).data.library_name == "ganzoo"
    assert "loss/generator" in card


def test_publishing_is_one_commit_and_publishing_the_same_again_is_none(hub: Hub, model: Path) -> None:
    push_model(model, REPO, message="The first one")
    push_model(model, REPO, message="The same")
    assert hub.repositories[REPO].messages == ["initial commit", "The first one"]


def test_a_model_without_a_discriminator_takes_the_old_one_away_and_nothing_else(hub: Hub, model: Path) -> None:
    hub.publish(REPO, {"LICENSE": b"text", "notes.md": b"notes"})
    push_model(model, REPO)
    assert "discriminator.safetensors" in hub.repositories[REPO].files
    (model / "discriminator.safetensors").unlink()
    push_model(model, REPO)
    assert hub.repositories[REPO].files.keys() == set(MODEL_FILES) - {"discriminator.safetensors"} | {
        "LICENSE",
        "notes.md",
    }
    assert len(hub.repositories[REPO].commits) == 3
    assert load_model(download_model(REPO)).discriminator is None


def test_nothing_but_a_models_own_files_is_published(hub: Hub, model: Path) -> None:
    (model / "secret.txt").write_text("mine")
    (model / "model.onnx").write_bytes(b"large")
    (model / ".git").mkdir()
    push_model(model, REPO)
    assert hub.repositories[REPO].files.keys() == {*MODEL_FILES, ".gitattributes"}


def test_a_branch_is_made_where_it_is_missing(hub: Hub, model: Path) -> None:
    hub.publish(REPO, {"config.json": b"{}"})
    assert push_model(model, REPO, revision="run/2") == f"{hub.url}/{REPO}/tree/run/2"
    assert hub.repositories[REPO].files == {"config.json": b"{}"}
    fetched = download_model(REPO, "run/2")
    assert contents(fetched)["generator.safetensors"] == contents(model)["generator.safetensors"]
    assert f"hf-hub:{REPO}@run/2" in (fetched / "README.md").read_text(encoding="utf-8")


def test_a_licence_goes_into_config_weights_and_card_and_leaves_the_tensors_alone(hub: Hub, model: Path) -> None:
    before = contents(model)
    push_model(model, REPO, licence="CC-BY-SA-4.0")
    assert contents(model) == before
    fetched = download_model(REPO)
    assert load_model(fetched).config == replace(load_model(model).config, licence="CC-BY-SA-4.0")
    assert huggingface_hub.ModelCard((fetched / "README.md").read_text(encoding="utf-8")).data.license == "cc-by-sa-4.0"
    for name in ("generator.safetensors", "discriminator.safetensors"):
        (ours, _), (theirs, metadata) = read_tensors(model / name), read_tensors(fetched / name)
        assert metadata["config"]["licence"] == "CC-BY-SA-4.0"
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_an_owner_wrote_into_the_card_stays(hub: Hub, model: Path) -> None:
    card = model / "README.md"
    text = card.read_text(encoding="utf-8") + "\nDrawn on a train to Lisbon.\n"
    card.write_text(text, encoding="utf-8")
    push_model(model, REPO)
    published = hub.repositories[REPO].files["README.md"].decode()
    assert published == text.replace("PATH-OF-THIS-FOLDER", f"hf-hub:{REPO}")
    push_model(model, REPO, licence="MIT")
    published = hub.repositories[REPO].files["README.md"].decode()
    assert "Drawn on a train to Lisbon." in published
    assert huggingface_hub.ModelCard(published).data.license == "mit"


@pytest.mark.parametrize("text", ["# Mine\n\nNo header.\n", ""])
def test_a_card_without_a_header_gets_one(hub: Hub, model: Path, text: str) -> None:
    (model / "README.md").write_text(text, encoding="utf-8")
    push_model(model, REPO)
    published = hub.repositories[REPO].files["README.md"].decode()
    assert published.endswith(text)
    assert huggingface_hub.ModelCard(published).data.library_name == "ganzoo"


def test_a_new_repository_is_private_where_that_is_asked_for(hub: Hub, model: Path) -> None:
    push_model(model, REPO, private=True)
    assert hub.repositories[REPO].private
    push_model(model, REPO, private=True)
    push_model(model, "somebody/open")
    assert not hub.repositories["somebody/open"].private


def test_a_public_repository_gets_nothing_that_is_to_be_private(hub: Hub, model: Path) -> None:
    hub.publish(REPO, {"notes.md": b"notes"})
    with pytest.raises(GanzooError, match="public, so nothing was published") as caught:
        push_model(model, REPO, private=True)
    assert f"{hub.url}/{REPO}/settings" in one_line(caught.value)
    assert hub.repositories[REPO].files.keys() == {"notes.md"}
    assert hub.storage == {}


@pytest.mark.parametrize("broken", ["config.json", "generator.safetensors"])
def test_a_model_that_cannot_be_loaded_is_not_published(hub: Hub, model: Path, broken: str) -> None:
    (model / broken).write_bytes((model / broken).read_bytes()[:-7])
    with pytest.raises(WeightsError):
        push_model(model, REPO)
    assert not hub.asked


# --------------------------------------------------------------------------------------------- what is fetched, when


def published(hub: Hub, model: Path, **more: bytes) -> None:
    hub.publish(REPO, files(model) | more)


def test_nothing_but_a_models_own_files_is_fetched(hub: Hub, model: Path) -> None:
    published(
        hub, model, **{"evil.pkl": b"\x80", "pytorch_model.bin": b"\x80", "model.pt": b"\x80", "a/config.json": b"{}"}
    )
    folder = download_model(REPO)
    assert contents(folder) == files(model)
    assert hub.fetched() == set(MODEL_FILES)
    assert {path.name for path in folder.parents[3].rglob("*") if path.suffix in (".pkl", ".bin", ".pt")} == set()


@pytest.mark.parametrize("why", ["GANZOO_OFFLINE", "HF_HUB_OFFLINE", "local_files_only", "no network"])
def test_what_is_in_the_cache_needs_no_network(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, why: str
) -> None:
    published(hub, model)
    fetched = download_model(REPO)
    tried = request.getfixturevalue("no_network")
    if why.isupper():
        monkeypatch.setenv(why, "1")
    assert download_model(REPO, local_files_only=why == "local_files_only") == fetched
    assert contents(fetched) == files(model)
    assert bool(tried) == (why == "no network")


def test_a_commit_that_is_in_the_cache_is_not_asked_for_again(hub: Hub, model: Path) -> None:
    published(hub, model)
    commit = hub.repositories[REPO].branches["main"]
    fetched = download_model(REPO, commit)
    hub.asked.clear()
    assert download_model(REPO, commit) == fetched
    assert not hub.fetched()


def test_a_branch_that_moved_is_fetched_anew_and_the_old_commit_stays_what_it_was(hub: Hub, model: Path) -> None:
    published(hub, model)
    old = hub.repositories[REPO].branches["main"]
    before = contents(download_model(REPO))
    hub.repositories[REPO].commit(files(model) | {"metrics.json": b'{"schema_version": 1}\n'})
    assert contents(download_model(REPO))["metrics.json"] == b'{"schema_version": 1}\n'
    assert contents(download_model(REPO, old)) == before


def test_a_damaged_cache_is_healed_by_force(hub: Hub, model: Path) -> None:
    published(hub, model)
    fetched = download_model(REPO)
    weights = (fetched / "generator.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    assert contents(download_model(REPO)) != files(model)
    assert contents(download_model(REPO, force_download=True)) == files(model)


def test_a_cache_can_be_chosen(hub: Hub, model: Path, tmp_path: Path) -> None:
    published(hub, model)
    folder = download_model(REPO, cache_dir=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere") in folder.parents
    assert not Path(huggingface_hub.constants.HF_HUB_CACHE).exists()


def test_nothing_goes_to_standard_output_and_no_bars_to_what_is_no_terminal(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    huggingface_hub.utils.enable_progress_bars()
    push_model(model, REPO)
    assert capfd.readouterr().out == ""
    fetched = download_model(REPO)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert download_model(REPO, force_download=True) == fetched
    seen = capfd.readouterr()
    assert seen.out == ""
    assert "6/6" in seen.err


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("token", ["hf_reader", None])
def test_a_repository_that_is_not_there_or_private(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
        hub.publish("somebody/hidden", {"config.json": b"{}"}, private=True)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelReferenceError, match="The Hub shows no model somebody/hidden") as caught:
        download_model("somebody/hidden")
    assert "hf auth login" in one_line(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("revision", ["v2", "0" * 40])
def test_a_revision_that_is_not_there(hub: Hub, model: Path, revision: str) -> None:
    published(hub, model)
    with pytest.raises(ModelReferenceError, match=f"{REPO} has no revision '{revision}'") as caught:
        download_model(REPO, revision)
    assert f"{hub.url}/{REPO}/commits" in one_line(caught.value)


def test_a_gated_repository(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(REPO, files(model), gated=True)
    monkeypatch.delenv("HF_TOKEN")
    for force in (False, True):
        with pytest.raises(GanzooError, match=f"hf-hub:{REPO} is gated") as caught:
            download_model(REPO, force_download=force)
        assert f"{hub.url}/{REPO}" in one_line(caught.value)


@pytest.mark.parametrize("missing", ["config.json", "generator.safetensors"])
def test_a_repository_that_holds_no_ganzoo_model(hub: Hub, model: Path, missing: str) -> None:
    hub.publish(REPO, {name: data for name, data in files(model).items() if name != missing})
    with pytest.raises(WeightsError, match=f"is no ganzoo model: it has no {re.escape(missing)}") as caught:
        download_model(REPO)
    assert "ganzoo convert" in one_line(caught.value)


def test_a_repository_with_none_of_a_models_files(hub: Hub) -> None:
    hub.publish(REPO, {"pytorch_model.bin": b"\x80"})
    with pytest.raises(WeightsError, match=r"it has no config\.json and no generator\.safetensors"):
        download_model(REPO)
    assert not hub.fetched()


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        (Refusal(500), DownloadError, "HTTP 500"),
        (Refusal(503, "", "Under repair"), DownloadError, "HTTP 503 (Under repair)"),
        (Refusal(429), DownloadError, "takes no more requests"),
        (Refusal(403, "", "Not for you"), GanzooError, "does not let this token read somebody/tiny (Not for you)"),
        (Refusal(403, "", "Access to this resource is disabled."), GanzooError, "has disabled somebody/tiny"),
        (Refusal(418), DownloadError, "HTTP 418"),
    ],
)
@pytest.mark.parametrize("where", ["/api/models/", "HEAD .*/resolve/", "GET .*/resolve/"])
def test_a_refusal_is_one_line(
    hub: Hub,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Refusal,
    error: type[GanzooError],
    said: str,
    where: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    published(hub, model)
    hub.refusals[where] = refusal
    with pytest.raises(error) as caught:
        download_model(REPO)
    assert said in one_line(caught.value)
    hub.refusals.clear()
    assert contents(download_model(REPO)) == files(model)


def test_a_wrong_token(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(hub, model)
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(GanzooError, match="does not accept the token") as caught:
        download_model(REPO)
    assert "HF_TOKEN" in one_line(caught.value)


def test_a_body_that_ends_early_leaves_nothing_behind(hub: Hub, model: Path) -> None:
    published(hub, model)
    hub.bodies["generator.safetensors"] = lambda data: data[:-100]
    with pytest.raises(DownloadError, match=f"hf-hub:{REPO} did not come whole") as caught:
        download_model(REPO)
    one_line(caught.value)
    hub.bodies.clear()
    assert contents(download_model(REPO)) == files(model)


def test_a_hub_that_cannot_be_reached(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address + "/")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for ask in (lambda: download_model(REPO), lambda: push_model(model, REPO)):
        with pytest.raises(DownloadError, match=re.escape(f"The Hub ({address}) cannot be reached")) as caught:
            ask()
        one_line(caught.value)
    assert not hub.asked


@pytest.mark.parametrize("address", ["localhost", "ftp://example.org", "http://", "http://[", "no address"])
def test_an_endpoint_that_is_no_address(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(GanzooError) as caught:
        download_model(REPO)
    assert one_line(caught.value)


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("how", ["GANZOO_OFFLINE", "local_files_only"])
def test_what_is_not_in_the_cache_where_nothing_may_be_fetched(
    hub: Hub, model: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch, how: str, partly: bool
) -> None:
    if partly:
        folder = Path(huggingface_hub.constants.HF_HUB_CACHE, "models--somebody--tiny")
        (folder / "snapshots" / ("1" * 40)).mkdir(parents=True)
        (folder / "snapshots" / ("1" * 40) / "config.json").write_text("{}")
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("1" * 40)
    if how.isupper():
        monkeypatch.setenv(how, "1")
    with pytest.raises(DownloadError, match=f"The cache does not hold the whole of hf-hub:{REPO}") as caught:
        download_model(REPO, local_files_only=how == "local_files_only")
    assert how in one_line(caught.value)
    assert no_network == []


def test_a_fetch_cannot_be_forced_where_nothing_may_be_fetched(hub: Hub) -> None:
    with pytest.raises(UsageError, match="cannot be fetched anew"):
        download_model(REPO, local_files_only=True, force_download=True)


def test_a_cache_that_cannot_be_written(hub: Hub, model: Path, tmp_path: Path) -> None:
    published(hub, model)
    (tmp_path / "file").write_text("")
    with pytest.raises(GanzooError, match=f"hf-hub:{REPO} cannot be fetched") as caught:
        download_model(REPO, cache_dir=tmp_path / "file" / "cache")
    assert "cache_dir" in one_line(caught.value)


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "tiny",
        "a/b/c",
        "../x",
        "a/..",
        "a//b",
        "a/b.git",
        "-a/b",
        "a--b/c",
        "a/b c",
        "a/" + "b" * 97,
        "a/b\n",
        "é/b",
    ],
)
def test_what_is_no_repository_is_refused_unasked(hub: Hub, model: Path, repo: str) -> None:
    for ask in (lambda: download_model(repo), lambda: push_model(model, repo)):
        with pytest.raises(ModelReferenceError, match="is no name of a model on the Hub") as caught:
            ask()
        assert "org/name" in one_line(caught.value)
    assert not hub.asked


@pytest.mark.parametrize("revision", ["", "../../x", "/etc", "a b", "-x", "a\0b", "a\nb", "v1..v2", "x" * 201, "a\\b"])
def test_what_is_no_revision_is_refused_unasked(hub: Hub, model: Path, revision: str) -> None:
    for ask in (lambda: download_model(REPO, revision), lambda: push_model(model, REPO, revision=revision)):
        with pytest.raises(ModelReferenceError, match="is no name of a revision") as caught:
            ask()
        one_line(caught.value)
    assert not hub.asked


def test_publishing_needs_a_token(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(GanzooError, match="without a token") as caught:
        push_model(model, REPO)
    assert "hf auth login" in one_line(caught.value)
    assert not hub.asked
    push_model(model, REPO, token="hf_writer")
    assert REPO in hub.repositories


@pytest.mark.parametrize("there", [False, True])
def test_publishing_needs_a_token_that_may_write(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        hub.publish(REPO, {})
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(GanzooError, match=f"does not let this token write to {REPO}") as caught:
        push_model(model, REPO)
    assert "settings/tokens" in one_line(caught.value)


@pytest.mark.parametrize("where", ["POST /api/repos/create", "/preupload/", "PUT /storage/", "/commit/"])
def test_a_refusal_while_publishing_is_one_line_and_leaves_the_repository_as_it_was(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.publish(REPO, {"notes.md": b"notes"})
    hub.refusals[where] = Refusal(500)
    with pytest.raises(DownloadError, match="HTTP 500") as caught:
        push_model(model, REPO)
    one_line(caught.value)
    assert hub.repositories[REPO].files == {"notes.md": b"notes"}


def test_a_header_that_the_hub_refuses(hub: Hub, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: [\n---\n# Mine\n", encoding="utf-8")
    with pytest.raises(GanzooError, match=r"Invalid metadata in README\.md") as caught:
        push_model(model, REPO)
    one_line(caught.value)


def test_nothing_is_published_where_the_network_may_not_be_used(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(GanzooError, match="GANZOO_OFFLINE"):
        push_model(model, REPO)
    assert not hub.asked


def test_a_missing_package_is_answered_with_how_to_install_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (lambda: download_model(REPO), lambda: push_model(model, REPO)):
        with pytest.raises(MissingDependencyError) as caught:
            ask()
        assert "pip install 'ganzoo[hub]'" in one_line(caught.value)


def test_fetching_imports_no_torch_and_naming_the_module_not_even_the_hubs_package() -> None:
    code = (
        "import sys, ganzoo.hub\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "try:\n"
        "    ganzoo.hub.download_model('nobody/nothing', local_files_only=True)\n"
        "except ganzoo.errors.DownloadError: pass\n"
        "assert 'huggingface_hub' in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
