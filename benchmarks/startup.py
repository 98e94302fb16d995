"""How long ganzoo takes to begin: importing it, the help of every command, and commands that do little.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 15 --model model.onnx --json startup.json

Every figure is of a whole process, from its start to its end, with all files in the page cache; the processes take
turns, and medians are told. "python" is the interpreter that does nothing. Without --model the zoo's `dcgan-mnist` is
exported first.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from reporting import in_turn, print_table, spread, write_json

from ganzoo.cli.main import COMMANDS

LIMITS = {"import ganzoo": 0.1, "ganzoo --help": 0.25, "ganzoo sample model.onnx": 0.8}  # seconds: what is promised
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")
_SHOWN = 6


def main() -> None:
    """Measure, print two tables, write JSON where asked to."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or _exported(Path(folder) / "model.onnx")
        commands = {
            name: [part.replace("MODEL", str(model)) for part in command]
            for name, command in _commands(Path(folder)).items()
            if arguments.only is None or any(word in name for word in arguments.only)
        }
        taken = in_turn(
            {name: lambda command=command: _run(command) for name, command in commands.items()}, arguments.rounds
        )
        rows = []
        for name, seconds in taken.items():
            measured = spread(seconds)
            limit = LIMITS.get(name)
            rows.append(
                {
                    "command": name,
                    "seconds": measured["median"],
                    **{key: measured[key] for key in ("least", "greatest")},
                    "promised": "" if limit is None else f"≤ {limit}",
                    "": "" if limit is None else ("kept" if measured["median"] <= limit else "broken"),
                }
            )
        print_table(f"Whole processes, medians of {arguments.rounds}, seconds", rows)
        imports = {name: _imports(commands[name]) for name in LIMITS if name in commands}
    print_table(
        "The packages whose own modules take longest to import, ms",
        [
            {"command": name, "packages": ", ".join(f"{package} {ms:.0f}" for package, ms in found.items())}
            for name, found in imports.items()
        ],
    )
    write_json(arguments.json, {"rows": rows, "seconds": taken, "imports_ms": imports})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="processes of each that count")
    parser.add_argument("--model", type=Path, help="an .onnx file to draw from")
    parser.add_argument("--only", nargs="+", help="words: commands whose names hold one of them")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_args()


def _commands(folder: Path) -> Mapping[str, list[str]]:
    python, ganzoo = sys.executable, [sys.executable, "-m", "ganzoo"]
    script = Path(sys.executable).with_name("ganzoo")
    begin = [str(script)] if script.exists() else ganzoo
    return {
        "python": [python, "-c", "pass"],
        "import ganzoo": [python, "-c", "import ganzoo"],
        "ganzoo --help": [*begin, "--help"],
        "ganzoo --version": [*begin, "--version"],
        **{f"ganzoo {name} --help": [*begin, name, "--help"] for name in COMMANDS},
        "ganzoo list": [*begin, "list"],
        "ganzoo list --pretrained": [*begin, "list", "--pretrained"],
        "ganzoo show dcgan-mnist": [*begin, "show", "dcgan-mnist"],
        "ganzoo train --dry-run": [*begin, "train", "dcgan-digits", "--dry-run", "--out", str(folder / "run")],
        "ganzoo sample model.onnx": [*begin, "sample", "MODEL", "--seeds", "0-15", "--out", str(folder / "x.png")],
        "ganzoo sample dcgan-mnist": [
            *begin,
            "sample",
            "dcgan-mnist",
            "--seeds",
            "0-15",
            "--out",
            str(folder / "y.png"),
        ],
    }


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stderr


def _exported(path: Path) -> Path:
    _run([sys.executable, "-m", "ganzoo", "export", "dcgan-mnist", "--onnx", "--out", str(path)])
    return path


def _imports(command: list[str]) -> dict[str, float]:
    """Return the milliseconds that packages' own modules took to import, the longest first."""
    words = command[1:] if command[0] == sys.executable else ["-m", "ganzoo", *command[1:]]
    spent: dict[str, float] = defaultdict(float)
    for line in _run([sys.executable, "-X", "importtime", *words]).splitlines():
        if (found := _IMPORT.fullmatch(line)) is not None:
            spent[found[4].partition(".")[0]] += int(found[1]) / 1000
    return dict(sorted(spent.items(), key=lambda one: -one[1])[:_SHOWN])


if __name__ == "__main__":
    main()
