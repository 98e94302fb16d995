"""Reading checkpoints of other programs: nothing in them is run, and what cannot be read is answered in one line."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_nets import Runs, evaluates, plain_pickle, save, touches
from torch import nn

from ganzoo.errors import WeightsError
from ganzoo.export.conversion.foreign import read_checkpoint
from ganzoo.export.conversion.pickles import asked_for

TENSORS = {"main.0.weight": torch.arange(6.0).view(2, 3), "main.0.bias": torch.ones(2)}


def refusal(path: Path) -> str:
    """The one line that answers a file."""
    with pytest.raises(WeightsError) as error:
        read_checkpoint(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


# ------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_both_forms_of_torch_give_the_same_flat_table(legacy: bool, tmp_path: Path) -> None:
    nested = {"epoch": 3, "nets": {"netG": TENSORS, "names": ["a"]}, "optimizer": {"state": {0: {"step": 5}}}}
    checkpoint = read_checkpoint(save(nested, tmp_path / "a.ckpt", legacy=legacy))
    assert checkpoint.form == ("torch legacy" if legacy else "torch zip")
    assert list(checkpoint.tensors) == [("nets", "netG", "main", "0", name) for name in ("weight", "bias")]
    assert torch.equal(checkpoint.tensors["nets", "netG", "main", "0", "weight"], TENSORS["main.0.weight"])
    assert checkpoint.place(("nets", "netG", "main", "0")) == (("nets", "netG"), ("main", "0"))


def test_safetensors_are_read_too_whatever_the_file_is_called(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(TENSORS, tmp_path / "weights.bin")
    checkpoint = read_checkpoint(tmp_path / "weights.bin")
    assert checkpoint.form == "safetensors"
    assert torch.equal(checkpoint.tensors["main", "0", "bias"], torch.ones(2))


def test_parameters_become_plain_tensors(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save({"w": nn.Parameter(torch.ones(2, 2))}, tmp_path / "a.pt"))
    (tensor,) = checkpoint.tensors.values()
    assert not tensor.requires_grad


def test_a_dictionary_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"netG": dict(TENSORS)}
    loop["again"] = loop
    assert len(read_checkpoint(save(loop, tmp_path / "loop.pt")).tensors) == 2


def test_lists_of_tensors_without_names_are_noted(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save({"ema": {"shadow_params": [torch.ones(2)]}}, tmp_path / "a.pt"))
    assert checkpoint.unnamed == (("ema", "shadow_params"),)
    assert not checkpoint.tensors


# ------------------------------------------------------------------------------------------------ hostile pickles

HOSTILE: dict[str, tuple[Callable[[Path], Runs], str]] = {
    "os.system": (touches, "posix.system"),
    "eval": (evaluates, "builtins.eval"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "nested"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_runs_nothing_and_is_answered_with_what_it_asked_for(
    kind: str, nested: bool, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's way to turn the protection off
    make, name = HOSTILE[kind]
    proof = tmp_path / "it_ran"
    value = {"state_dict": {"generator": [TENSORS, make(proof)]}} if nested else make(proof)
    line = refusal(save(value, tmp_path / "a.pt", legacy=legacy))
    assert f"was refused: it asks for {name}," in line
    assert "Nothing was run." in line
    assert not proof.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_of_any_protocol_runs_nothing(kind: str, protocol: int, tmp_path: Path) -> None:
    make, name = HOSTILE[kind]
    proof = tmp_path / "it_ran"
    path = plain_pickle({"a": [make(proof)]}, tmp_path / "a.pkl", protocol)
    assert f"was refused: it asks for {name}," in refusal(path)
    assert not proof.exists()


def test_that_the_hostile_files_would_run_if_they_were_loaded_otherwise(tmp_path: Path) -> None:
    proof = tmp_path / "it_ran"
    path = plain_pickle(touches(proof), tmp_path / "a.pkl")
    pickle.loads(path.read_bytes())
    assert proof.exists()


def test_a_whole_module_is_answered_with_its_classes(tmp_path: Path) -> None:
    line = refusal(save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "whole.pt"))
    assert "torch.nn.modules.container.Sequential, torch.nn.modules.linear.Linear" in line
    assert "torch.save(generator.state_dict(), 'G.pt')" in line


def test_globals_are_found_behind_memos_and_in_zips_that_torch_cannot_list(tmp_path: Path) -> None:
    # Protocol 4 names a global by two texts, which may have been pushed long before and remembered.
    proof = tmp_path / "it_ran"
    value = ["posix", "system", touches(proof), touches(proof), Runs(eval, "1")]
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(value, 4))
        archive.writestr("a/version", "3\n")
    assert asked_for(tmp_path / "a.pt") == ["builtins.eval", "posix.system"]
    assert "it asks for builtins.eval, posix.system," in refusal(tmp_path / "a.pt")
    assert not proof.exists()


def test_many_globals_are_not_all_listed(tmp_path: Path) -> None:
    names = [getattr(nn, name) for name in dir(nn) if isinstance(getattr(nn, name), type)][:20]
    line = refusal(save(names, tmp_path / "a.pt"))
    assert " and 12 more, and what is loaded" in line


def test_stylegans_pickles_are_told_by_name(tmp_path: Path) -> None:
    text = b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n."
    (tmp_path / "network.pkl").write_bytes(text)
    assert "is a pickle of StyleGAN's kind" in refusal(tmp_path / "network.pkl")


# ------------------------------------------------------------------------------------------------ what is no checkpoint


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def ordinary_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/constants.pkl", b"")


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", b"\0" * 10_000_000)


OTHERS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "empty": ("a.pt", lambda path: path.write_bytes(b""), "is empty"),
    "text": ("a.pt", lambda path: path.write_text("hello there"), "is text ('hello there')"),
    "web page": ("a.pth", lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page (HTML)"),
    "noise": ("a.bin", lambda path: path.write_bytes(bytes(range(250, 256)) * 40), "is neither a checkpoint"),
    "HDF5": ("a.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 90), "is an HDF5 file"),
    "npy": ("a.pt", npy, "is a NumPy array"),
    "npz": ("a.npz", npz, "is a zip archive of NumPy arrays (.npz): a.npy"),
    "zip": ("a.pt", ordinary_zip, "is a zip archive of other files: readme.txt, not one that torch.save wrote"),
    "TorchScript": ("a.pt", torchscript, "is a TorchScript archive"),
    "compressed": ("a.pt", compressed, "torch.save does not compress"),
    "pickle": ("a.pkl", lambda path: plain_pickle({"a": 1}, path), "is a pickle, but none that torch.save wrote"),
    "tar": ("a.tar", lambda path: path.write_bytes(b"\x01" * 257 + b"ustar" + b"\0" * 250), "is a tar archive"),
    "folder": ("a.pt", lambda path: path.mkdir(), "it is a folder"),
    "nothing": ("a.pt", lambda path: None, "There is no file"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_is_told_what_it_is(kind: str, tmp_path: Path) -> None:
    name, write, said = OTHERS[kind]
    write(tmp_path / name)
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_checkpoint_cut_short_anywhere_is_answered_in_a_line(legacy: bool, tmp_path: Path) -> None:
    whole = save({"a": torch.randn(300)}, tmp_path / "whole.pt", legacy=legacy).read_bytes()
    path = tmp_path / "cut.pt"
    for kept in [*range(1, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        refusal(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_damaged_checkpoint_gives_tensors_or_a_line(legacy: bool, tmp_path: Path) -> None:
    whole = save({"a": {"b.weight": torch.randn(30)}}, tmp_path / "whole.pt", legacy=legacy).read_bytes()
    path = tmp_path / "damaged.pt"
    random = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except WeightsError as error:
            lines.append(str(error))
    assert len(lines) > 30
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_view_that_claims_more_than_the_file_has_is_refused(legacy: bool, tmp_path: Path) -> None:
    endless = torch.zeros(1).expand(1 << 20, 1 << 20)  # four tebibytes, made of one number
    line = refusal(save({"w": endless}, tmp_path / "a.pt", legacy=legacy))
    assert "'w' is 1,099,511,627,776 numbers made of 4 bytes" in line


def test_a_legacy_file_whose_tensors_were_never_in_it_is_refused(tmp_path: Path) -> None:
    # The last pickle lists the storages that follow; torch takes memory for those that it does not list, and fills it
    # with nothing.
    whole = save({"w": torch.randn(1000)}, tmp_path / "a.pt", legacy=True).read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: whole.rindex(b"\x80\x02]")] + pickle.dumps([], 2))
    assert "claims 4,000 bytes of tensors and has" in refusal(tmp_path / "a.pt")


def quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


UNUSUAL: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse"),
    "quantised": (quantised, "quantised"),
    "meta": (lambda: torch.ones(2, device="meta"), "on the device meta"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.filterwarnings("ignore")  # torch's on quantised tensors
def test_tensors_that_are_not_plain_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, said = UNUSUAL[kind]
    line = refusal(save({"net.w": make()}, tmp_path / "a.pt"))
    assert said in line
    assert "'net.w'" in line
