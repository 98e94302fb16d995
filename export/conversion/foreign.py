"""Checkpoints of other programs, read without running anything that is in them.

`.pt`, `.pth`, `.ckpt`, `.bin` (torch's zip form and its legacy form) are pickles. They are loaded with
`torch.load(weights_only=True)` on the CPU and in no other way: a file that asks for more is refused, with what it asked
for. `.safetensors` files hold tensors only.

What is found is one flat table: path of names → tensor. Nested dictionaries and dotted names mean the same there
(`ckpt["state_dict"]["netG.main.0.weight"]` is ("state_dict", "netG", "main", "0", "weight")), so that one search finds
the networks however they are wrapped.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganzoo.errors import WeightsError
from ganzoo.export.conversion.pickles import asked_for
from ganzoo.reading import START_BYTES, open_ordinary, what_it_is
from ganzoo.tensors import read_tensors

Names = tuple[str, ...]

PICKLED_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")

_MAX_DEPTH = 16
_MAX_TENSORS = 100_000
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save's magic number, pickled
_AGAIN = "Copy or download it again."
_STATE_DICT = (
    "Where it was made, and where it is trusted, save the tensors alone: torch.save(generator.state_dict(), 'G.pt')."
)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file.

    Args:
        path: the file.
        form: "torch zip", "torch legacy" or "safetensors".
        tensors: names → tensor on the CPU, in the file's order.
        containers: names of the dictionaries in it, () for the outermost: where names were nested rather than dotted.
        metadata: what ganzoo wrote into it.
        unnamed: names of lists of tensors in it, which nobody can tell apart by name.
    """

    path: Path
    form: str
    tensors: Mapping[Names, torch.Tensor]
    containers: frozenset[Names] = frozenset({()})
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unnamed: tuple[Names, ...] = ()

    def place(self, names: Names) -> tuple[Names, Names]:
        """Return where in the file something lies, and the prefix of its names there."""
        cut = max(n for n in range(len(names) + 1) if names[:n] in self.containers)
        return names[:cut], names[cut:]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of a checkpoint; nothing that is in it is run.

    Args:
        path: the file. What it is is told by its content, not by its suffix.

    Raises:
        WeightsError: no such file, empty, truncated, damaged, refused, or something else than a checkpoint.
    """
    try:
        with open_ordinary(path) as file:
            start = file.read(START_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}.") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error
    if start[:4] == b"PK\x03\x04":
        _check_archive(path)
        return _from_pickle(path, "torch zip")
    if start.startswith(_LEGACY):
        return _from_pickle(path, "torch legacy")
    if start[8:9] == b"{" or path.suffix.lower() == ".safetensors":
        tensors, metadata = read_tensors(path)
        names = {_split(name): tensor for name, tensor in tensors.items()}
        return Checkpoint(path, "safetensors", names, metadata=metadata)
    raise _no_checkpoint(path, start)


def _no_checkpoint(path: Path, start: bytes) -> WeightsError:
    if start[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle"):
        found = asked_for(path)
        if any("persistence" in name or name.startswith("dnnlib") for name in found):
            return WeightsError(
                f"{path} is a pickle of StyleGAN's kind: its networks are program code that would have to be run.",
                "Nothing was run. Look for the model's weights as .safetensors, or as a state dict.",
            )
        if found:
            return _refused(path, found)
        if start[:1] == b"\x80":
            return WeightsError(f"{path} is a pickle, but none that torch.save wrote.", _STATE_DICT)
    if start[257:262] == b"ustar":
        return WeightsError(
            f"{path} is a tar archive: torch.save's form before version 0.1.10, or another.", _STATE_DICT
        )
    if known := what_it_is(start, path):
        return WeightsError(f"{path} is {known[0]}, not a checkpoint of torch's or a .safetensors file.", known[1])
    return WeightsError(f"{path} is neither a checkpoint of torch's nor a .safetensors file.")


def _check_archive(path: Path) -> None:
    """Refuse zip archives that torch.save did not write, before torch looks at them."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} is a zip archive that is cut short or damaged: {_line(error)}.", _AGAIN) from error
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") for name in names):
        raise WeightsError(f"{path} is a TorchScript archive: a program, whose code would have to be run.", _STATE_DICT)
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        kind = "NumPy arrays (.npz)" if names and all(name.endswith(".npy") for name in names) else "other files"
        shown = f": {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else ""
        raise WeightsError(f"{path} is a zip archive of {kind}{shown}, not one that torch.save wrote.", _STATE_DICT)
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(
            f"{path} claims {claimed:,} bytes of content in {size:,}: torch.save does not compress.", _AGAIN
        )


def _from_pickle(path: Path, form: str) -> Checkpoint:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's on old storages; whoever converts an old file knows that it is old
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle may make torch's reader raise anything
            raise _unreadable(path, error) from error
    found = _Flat()
    found.add((), loaded, 0)
    _check_storages(path, found.tensors)
    return Checkpoint(path, form, found.tensors, frozenset(found.containers), unnamed=tuple(found.unnamed))


def _unreadable(path: Path, error: Exception) -> WeightsError:
    if found := asked_for(path):
        return _refused(path, found)
    return WeightsError(f"{path} cannot be read: it is cut short or damaged ({_line(error)}).", _AGAIN)


def _refused(path: Path, found: list[str]) -> WeightsError:
    shown = ", ".join(one if len(one) <= 80 else f"{one[:77]}..." for one in found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return WeightsError(
        f"{path} was refused: it asks for {shown}{more}, and what is loaded that way can run any program. "
        "Nothing was run.",
        _STATE_DICT,
    )


class _Flat:
    """A loaded object as one flat table."""

    def __init__(self) -> None:
        self.tensors: dict[Names, torch.Tensor] = {}
        self.containers: set[Names] = {()}
        self.unnamed: list[Names] = []
        self._seen: set[int] = set()

    def add(self, at: Names, value: Any, depth: int) -> None:
        """Add what is in a value; whatever holds itself is visited once."""
        if isinstance(value, torch.Tensor):
            if len(self.tensors) < _MAX_TENSORS:
                self.tensors[at] = value.detach()
        elif isinstance(value, Mapping) and depth < _MAX_DEPTH and id(value) not in self._seen:
            self._seen.add(id(value))
            self.containers.add(at)
            for key, one in value.items():
                if isinstance(key, str):  # optimisers number their state; networks name it
                    self.add(at + _split(key), one, depth + 1)
        elif isinstance(value, list | tuple) and any(isinstance(one, torch.Tensor) for one in value):
            self.unnamed.append(at)


def _split(name: str) -> Names:
    return tuple(name.split("."))


def _check_storages(path: Path, tensors: Mapping[Names, torch.Tensor]) -> None:
    """Refuse tensors that claim more numbers than the file has: views that repeat a few bytes without end."""
    held: dict[int, int] = {}
    for names, tensor in tensors.items():
        kind = _unusual(tensor)
        if kind is None:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            if tensor.numel() * tensor.element_size() > storage.nbytes():
                kind = f"{tensor.numel():,} numbers made of {storage.nbytes():,} bytes"
        if kind is not None:
            raise WeightsError(
                f"{path}: the tensor {'.'.join(names)[:80]!r} is {kind}; only plain ones can be converted."
            )
    size = path.stat().st_size
    if sum(held.values()) > size:
        raise WeightsError(f"{path} claims {sum(held.values()):,} bytes of tensors and has {size:,}.", _AGAIN)


def _unusual(tensor: torch.Tensor) -> str | None:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"of the kind {type(tensor).__name__}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "sparse, quantised or nested"
    return None if tensor.device.type == "cpu" else f"on the device {tensor.device}"


def _line(error: BaseException) -> str:
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    text = next((line for line in lines if line), type(error).__name__)
    return re.sub(r"\s*(In PyTorch 2\.6|Please file an issue|\(1\)|This file can still be loaded).*", "", text)[
        :160
    ].rstrip(".: ")
