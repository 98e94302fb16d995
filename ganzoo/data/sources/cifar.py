"""CIFAR-10 and CIFAR-100 as their authors publish them: the "python version" and the "binary version", as a tar or
unpacked.

The batches of the python version are pickles of Python 2. A pickle is a program, so they are not run here: `read_batch`
walks the opcodes with a small table of those that build plain data, keeps every call as a note of what was called, and
knows the meaning of three such notes (a NumPy array, its dtype, bytes). Anything else is refused.
"""

from __future__ import annotations

import pickletools
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.sources.base import ArraySource, digest_of, file_fingerprint
from ganzoo.errors import DataError

_PIXELS = 3 * 32 * 32
_MEMBER_LIMIT = 256 << 20  # bytes; CIFAR-100's training batch has 155 MB
_TRAINING = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
# (batches of the training set, file with the names of the classes, bytes of labels before each binary image)
_LAYOUTS: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (_TRAINING, "batches.meta", 0),
    (("train",), "meta", 0),
    (tuple(f"{name}.bin" for name in _TRAINING), "batches.meta.txt", 1),
    (("train.bin",), "fine_label_names.txt", 2),
    (("test_batch",), "batches.meta", 0),
    (("test_batch.bin",), "batches.meta.txt", 1),
)
_TEST_LAYOUTS: tuple[tuple[tuple[str, ...], str, int], ...] = (
    *_LAYOUTS[4:],
    (("test",), "meta", 0),
    (("test.bin",), "fine_label_names.txt", 2),
)
_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")


def is_cifar_folder(path: Path) -> bool:
    """Return whether a folder is an unpacked CIFAR."""
    return any((path / name).is_file() for name in ("data_batch_1", "data_batch_1.bin")) or (
        (path / "fine_label_names.txt").is_file() or ((path / "meta").is_file() and (path / "train").is_file())
    )


def is_cifar_name(name: str) -> bool:
    """Return whether a file is called like a part of CIFAR."""
    return any(name in (*batches, names_file) for batches, names_file, _ in _LAYOUTS)


def open_cifar(path: Path, *, test: bool = False) -> ArraySource:
    """Return the training images of CIFAR-10 or CIFAR-100 (fine labels), as many of its batches as are there.

    Args:
        path: the tar, of any compression, or the unpacked folder.
        test: whether the test images are wanted instead.

    Raises:
        DataError: it holds no CIFAR batches, or broken ones.
    """
    try:
        if path.is_dir():
            files = {one.name: one for one in path.iterdir() if one.is_file()}
            fingerprint = digest_of(f"{name} {file_fingerprint(one)}" for name, one in sorted(files.items()))
            return _assemble(path, {name: _folder_reader(one) for name, one in files.items()}, fingerprint, test)
        with tarfile.open(path) as tar:
            members = {Path(one.name).name: one for one in tar if one.isfile()}
            return _assemble(
                path, {name: _tar_reader(tar, one) for name, one in members.items()}, file_fingerprint(path), test
            )
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name!r} cannot be read: {error}.") from error


def read_batch(data: bytes) -> dict[str, Any]:
    """Return the dict that a batch of the python version holds, without running the pickle.

    Args:
        data: the file's bytes.

    Returns:
        Text keys; arrays as NumPy arrays of bytes, lists, numbers and text.

    Raises:
        DataError: it is not a pickle of plain data and arrays of bytes.
    """
    try:
        content = _build(data)
        if not isinstance(content, dict):
            raise DataError(f"A CIFAR batch holds a {type(content).__name__}, not a dict.")
        return {_text(key): _array(value) if isinstance(value, _Note) else value for key, value in content.items()}
    except DataError:
        raise
    except Exception as error:  # a broken pickle can break the walk at any place
        raise DataError(f"A CIFAR batch is broken: {type(error).__name__}: {error}.") from error


def _text(value: Any) -> str:
    if not isinstance(value, bytes | str):
        raise DataError(f"A CIFAR batch has a {type(value).__name__} where text belongs.")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _folder_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        _check_size(path.name, path.stat().st_size)
        return path.read_bytes()

    return read


def _tar_reader(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        _check_size(member.name, member.size)
        file = tar.extractfile(member)
        if file is None:
            raise DataError(f"{member.name!r} in the tar is not a file.")
        with file:
            return file.read()

    return read


def _check_size(name: str, size: int) -> None:
    if size > _MEMBER_LIMIT:
        raise DataError(f"{name!r} declares {size:,} bytes, more than any CIFAR batch has.")


def _assemble(path: Path, files: dict[str, Callable[[], bytes]], fingerprint: str, test: bool) -> ArraySource:
    for batches, names_file, label_bytes in _TEST_LAYOUTS if test else _LAYOUTS:
        present = [name for name in batches if name in files]
        if not present:
            continue
        parts = [_batch(files[name](), label_bytes, name) for name in present]
        names = _class_names(files[names_file](), names_file) if names_file in files else ()
        return ArraySource(
            np.concatenate([images for images, _ in parts]),
            np.concatenate([labels for _, labels in parts]),
            description=f"CIFAR in {path.name!r}",
            fingerprint=f"cifar {'test ' if test else ''}{fingerprint}",
            classes=names,
            notice="CIFAR, A. Krizhevsky 2009, University of Toronto; research use",
        )
    what = "test batch of CIFAR" if test else "CIFAR batches"
    raise DataError(f"{path.name!r} holds no {what}.", "Give CIFAR's tar or its unpacked folder.")


def _batch(data: bytes, label_bytes: int, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return (images (N, 32, 32, 3), labels (N,)) of one batch; `label_bytes` of 0 is the python version."""
    if label_bytes:
        row = label_bytes + _PIXELS
        if len(data) == 0 or len(data) % row:
            raise DataError(f"{name!r} has {len(data):,} bytes, no multiple of {row}.")
        table = np.frombuffer(data, dtype=np.uint8).reshape(-1, row)
        labels, pixels = table[:, label_bytes - 1].astype(np.int64), table[:, label_bytes:]
    else:
        content = read_batch(data)
        found = content.get("labels", content.get("fine_labels"))
        pixels = content.get("data", np.empty(0, np.uint8))
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
            raise DataError(f"{name!r} holds no array of N×{_PIXELS} bytes.")
        if not isinstance(found, list) or len(found) != len(pixels) or not all(isinstance(one, int) for one in found):
            raise DataError(f"{name!r} does not hold one whole number as the label of each image.")
        labels = np.array(found, dtype=np.int64)
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _class_names(data: bytes, name: str) -> tuple[str, ...]:
    if name.endswith(".txt"):
        return tuple(line.strip() for line in data.decode("latin-1").splitlines() if line.strip())
    content = read_batch(data)
    names = content.get("label_names", content.get("fine_label_names", []))
    return tuple(_text(one) for one in names)


@dataclass
class _Note:
    """A call that a pickle asks for, written down instead of made: what, with which arguments.

    And the state set afterwards.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    state: Any = None


_MARK = object()


def _build(data: bytes) -> Any:
    """Return what a pickle describes, with notes in place of calls."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = max(index for index, item in enumerate(stack) if item is _MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack[-1]
        if name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _LITERALS:
            stack.append(_LITERALS[name](argument))
        elif name in ("SHORT_BINSTRING", "BINSTRING"):  # Python 2's str: bytes, which pickletools decodes as latin-1
            stack.append(argument.encode("latin-1"))
        elif name == "GLOBAL":
            stack.append(_Note(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_Note(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_call(called, tuple(arguments)))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "SETITEMS":
            items = since_mark()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            raise DataError(f"A CIFAR batch asks for the pickle operation {name}, which plain data do not need.")
    raise DataError("A CIFAR batch ends too early.")


_LITERALS: dict[str, Callable[[Any], Any]] = {
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES"),
        lambda argument: argument,
    ),
}


def _call(called: _Note, arguments: tuple[Any, ...]) -> Any:
    """Return the note of a call; only bytes, which Python 3 writes as a call where the protocol has none, are made."""
    if called.name == "_codecs encode" and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin-1")
    return _Note(called.name, arguments)


def _array(note: _Note) -> npt.NDArray[np.uint8]:
    """Return the array of bytes that a note stands for; a note of anything else is refused."""
    if note.name in _ARRAY and note.state is not None:
        _, shape, dtype, fortran, data = note.state
        of_bytes = isinstance(dtype, _Note) and dtype.name == "numpy dtype" and (dtype.arguments or ("",))[0]
        if of_bytes in ("u1", b"u1") and isinstance(data, bytes):
            return np.frombuffer(data, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")
    raise DataError(f"A CIFAR batch asks for {note.name!r}, which is neither data nor an array of bytes.")
