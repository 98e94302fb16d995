"""Models on the Hugging Face Hub: fetched into its own cache, and published there.

Only a model folder's own files are ever fetched or published, so that nothing else of a repository (pickles above all)
reaches this machine. huggingface_hub is imported when it is needed: it comes with the extra `hub`.

`HF_ENDPOINT`, `GANZOO_OFFLINE` and `HF_HUB_OFFLINE` are read at each call; `HF_TOKEN`, `HF_HOME` and all else is
huggingface_hub's, which reads its settings when it is imported.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import ganzoo
from ganzoo.card import PLACEHOLDER, card_numbers, model_card
from ganzoo.card_header import card_header, has_header, hub_licence
from ganzoo.errors import GanzooError, UsageError, WeightsError
from ganzoo.fetching import offline
from ganzoo.hub_access import check_model_name, endpoint, huggingface_hub, progress_bars
from ganzoo.hub_errors import Asked, in_one_line, not_cached
from ganzoo.model_config import CARD, CONFIG, DISCRIMINATOR, GENERATOR, METRICS, SAMPLES, ModelConfig

if TYPE_CHECKING:
    from ganzoo.models import Model

MODEL_FILES = (CONFIG, GENERATOR, DISCRIMINATOR, CARD, SAMPLES, METRICS)
"""All that is fetched or published."""

_NEEDED = (CONFIG, GENERATOR)
_NETWORKS: dict[str, Literal["generator", "discriminator"]] = {GENERATOR: "generator", DISCRIMINATOR: "discriminator"}


def download_model(
    repo: str,
    revision: str | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Return the folder of a model of the Hub, fetched where the cache does not hold it.

    Args:
        repo: "org/name".
        revision: a branch, tag or commit; None for the branch `main`.
        cache_dir: the folder of the cache; None for huggingface_hub's own (`HF_HOME`, `HF_HUB_CACHE`).
        local_files_only: whether only the cache may be looked at; so it is, too, where `GANZOO_OFFLINE` or
            `HF_HUB_OFFLINE` is set.
        force_download: whether its files are fetched although the cache holds them.

    Raises:
        ModelReferenceError: no name of a repository or revision, or the Hub shows none of that name.
        UsageError: `force_download` where nothing may be fetched.
        WeightsError: the repository holds no ganzoo model.
        DownloadError: it cannot be fetched, and the cache does not hold it.
        GanzooError: the Hub refuses it (gated, a wrong token), or the cache cannot be written.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = huggingface_hub()
    check_model_name(hub, repo, revision)
    asked = Asked(repo, revision, endpoint(hub), alone=local_files_only or offline())
    if force_download and asked.alone:
        raise UsageError(
            f"{asked.name} cannot be fetched anew where nothing may be fetched.",
            "Leave out force_download, or local_files_only; or unset GANZOO_OFFLINE and HF_HUB_OFFLINE.",
        )
    with in_one_line(asked, hub.errors):
        folder = Path(
            hub.snapshot_download(
                repo,
                revision=revision,
                cache_dir=None if cache_dir is None else os.fspath(cache_dir),
                local_files_only=asked.alone,
                force_download=force_download,
                allow_patterns=list(MODEL_FILES),
                endpoint=asked.endpoint,
                library_name="ganzoo",
                library_version=ganzoo.__version__,
                tqdm_class=progress_bars(hub),
            )
        )
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing and asked.alone:
        raise not_cached(asked)
    if missing:
        raise WeightsError(
            f"{asked.name} is no ganzoo model: it has no {' and no '.join(missing)}.",
            "Other weights: download the file, then `ganzoo convert` it.",
        )
    return folder


def push_model(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Publish a ganzoo model",
    licence: str | None = None,
) -> str:
    """Publish a model folder as a repository of the Hub, in one commit, and return its address.

    The repository is made where there is none. Of an earlier model in it, the files that this one lacks are removed;
    whatever else is in it stays. The commands in the published card name the repository.

    Args:
        folder: a model folder; it must load.
        repo: "org/name".
        private: whether a new repository is private; one that exists has to be.
        token: one that may write; None for that of `hf auth login` or `HF_TOKEN`.
        revision: the branch, made where it is missing; None for `main`.
        message: of the commit.
        licence: of the weights, an SPDX identifier such as "Apache-2.0"; None for what the model says.

    Raises:
        ModelReferenceError: `repo` or `revision` is no name, or the Hub shows no such repository.
        WeightsError: `folder` is no whole model.
        DownloadError: the Hub cannot be reached.
        GanzooError: no token, one that may not write, a repository that is public where it is to be private.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = huggingface_hub()
    check_model_name(hub, repo, revision)
    asked = Asked(repo, revision, endpoint(hub), writes=True)
    if offline():
        raise GanzooError(
            f"{repo} cannot be published: GANZOO_OFFLINE or HF_HUB_OFFLINE is set.", "Unset it, then try again."
        )
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as scratch, in_one_line(asked, hub.errors):
        files = _prepare(hub, Path(folder), Path(scratch), asked.name, licence)
        key = token or hub.get_token()
        if not key:
            raise GanzooError(
                f"{repo} cannot be published without a token of the Hub.",
                f"Log in with `hf auth login`, or set HF_TOKEN; tokens: {asked.endpoint}/settings/tokens",
            )
        api = hub.HfApi(asked.endpoint, token=key, library_name="ganzoo", library_version=ganzoo.__version__)
        _commit(hub, api, asked, files, private=private, message=message)
    return f"{asked.endpoint}/{repo}" + (f"/tree/{revision}" if revision else "")


def _commit(hub: ModuleType, api: Any, asked: Asked, files: dict[str, Path], *, private: bool, message: str) -> None:
    api.create_repo(asked.repo, private=private or None, exist_ok=True)  # None: as the account's settings say
    if private and not api.repo_info(asked.repo).private:
        raise GanzooError(
            f"{asked.repo} exists and is public, so nothing was published.",
            f"Make it private at {asked.endpoint}/{asked.repo}/settings, or choose another name.",
        )
    if asked.revision is not None:
        api.create_branch(asked.repo, branch=asked.revision, exist_ok=True)
    there = set(api.list_repo_files(asked.repo, revision=asked.revision))
    changes = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    changes += [hub.CommitOperationDelete(name) for name in MODEL_FILES if name in there and name not in files]
    # Not its upload_folder, which may split a folder over several commits: between them the repository would hold half
    # of one model and half of another.
    api.create_commit(asked.repo, changes, commit_message=message, revision=asked.revision)


# ------------------------------------------------------------------------------------------ what is to be published


def _prepare(hub: ModuleType, folder: Path, scratch: Path, name: str, licence: str | None) -> dict[str, Path]:
    """Return the files to publish, name → path: the folder's own, but for those that change, which go to `scratch`.

    Raises:
        WeightsError: the folder is no whole model.
    """
    from ganzoo.model_files import weights_metadata
    from ganzoo.models import load_model
    from ganzoo.tensors import read_tensors, save_tensors

    model = load_model(folder)
    config = model.config if licence is None else replace(model.config, licence=licence)
    if config != model.config:  # the weights files carry the config, too
        (scratch / CONFIG).write_text(config.to_json(), encoding="utf-8")
        for file, network in _NETWORKS.items():
            if (folder / file).is_file():
                save_tensors(scratch / file, read_tensors(folder / file)[0], weights_metadata(config, network))
    (scratch / CARD).write_bytes(_published_card(hub, model, config, name).encode("utf-8"))
    places = {one: [place / one for place in (scratch, folder) if (place / one).is_file()] for one in MODEL_FILES}
    return {one: found[0] for one, found in places.items() if found}


def _published_card(hub: ModuleType, model: Model, config: ModelConfig, name: str) -> str:
    """Return the card for the Hub: written anew where nobody has changed it, else only what has to be changed."""
    statistics, metrics = card_numbers(model.metrics)
    as_written = model_card(model.config, statistics, metrics=metrics)
    if not model.card.strip() or model.card in (as_written, model_card(model.config, {})):
        return model_card(config, statistics, metrics=metrics, reference=name)
    text = model.card.replace(PLACEHOLDER, name)
    if not has_header(text):
        return f"{card_header(config, metrics)}\n{text}"
    if config == model.config:
        return text
    card = hub.ModelCard(text, ignore_metadata_errors=True)
    for key in ("license", "license_name", "license_link"):
        card.data[key] = hub_licence(config.licence).get(key)
    return str(card)
