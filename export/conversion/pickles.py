"""What a pickle would import if it were loaded, found without loading it: its opcodes are read, none is carried out.

A pickle is a program; the functions and classes that it asks for are named by its opcodes GLOBAL and STACK_GLOBAL
(https://docs.python.org/3/library/pickletools.html). Here they are only listed, to say why a file is refused.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

_HARMLESS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex|bytearray)"
    r"|torch\.(Size|Tensor|device|serialization\._get_layout|nn\.parameter\.Parameter|_tensor\._rebuild_from_type_v2)"
    r"|torch\._utils\._rebuild_\w+|torch\.(\w+Storage|storage\.\w+Storage)|torch\.[a-z]+\d+\w*"
)
"""What torch's reader of weights knows: data and nothing that could run."""

_STREAMS = 64  # a legacy file of torch is five pickles one after another
_MAX_BYTES = 256 << 20


def asked_for(path: Path) -> list[str]:
    """Return the globals that a pickled file asks for beyond tensors and plain containers, sorted; nothing is loaded.

    Args:
        path: a checkpoint in torch's zip or legacy form, or any other pickle.

    Returns:
        For example ["posix.system"]. What follows a part that cannot be read is not found.
    """
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        return sorted(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # legacy files, opcodes that torch does not write, damage: whatever it raises, list them here
        pass
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                found = set().union(*(_globals(archive.open(name)) for name in names))
        else:
            with path.open("rb") as file:
                found = _globals(file)
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError):
        return []
    return sorted(name for name in found if not _HARMLESS.fullmatch(name))


def _globals(file: IO[bytes]) -> set[str]:
    stream = io.BytesIO(file.read(_MAX_BYTES))
    found: set[str] = set()
    for _ in range(_STREAMS):
        try:
            _one_pickle(stream, found)
        except (ValueError, IndexError, EOFError, UnicodeDecodeError, OverflowError):
            break  # the end of the pickles: what follows is the tensors' bytes
    return found


def _one_pickle(stream: io.BytesIO, found: set[str]) -> None:
    """Add the globals of the pickle at the stream's position; the position is then behind it."""
    texts: list[str | None] = []  # what was pushed, as far as it is text
    memo: dict[int, str | None] = {}
    for code, argument, _ in pickletools.genops(stream):
        match code.name:
            case "GLOBAL" | "INST":
                found.add(str(argument).replace(" ", ".").replace("__builtin__.", "builtins."))  # Python 2's name
                texts.append(None)
            case "STACK_GLOBAL":
                module, name = (*([None, None] if len(texts) < 2 else []), *texts)[-2:]
                found.add(f"{module or '?'}.{name or '?'}")
                texts.append(None)
            case "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else None
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[int(argument or 0)] = texts[-1] if texts else None
            case "GET" | "BINGET" | "LONG_BINGET":
                texts.append(memo.get(int(argument or 0)))
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                texts.append(argument if isinstance(argument, str) else None)
