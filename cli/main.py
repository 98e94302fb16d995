"""The command `ganzoo`: finds the command's file when it is asked for, and turns every error into one line.

`ganzoo --help` reads only the table below, so it imports neither torch nor the commands' modules. What a command
raises ends here: exit code 0 is done, 1 failed, 2 wrong usage; a traceback is shown only with `GANZOO_DEBUG=1`.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ganzoo import __version__
from ganzoo.errors import GanzooError, suggest
from ganzoo.torchrun import is_first

from . import output

# name → (module, attribute, what it does)
COMMANDS = {
    "list": ("ganzoo.cli.list", "command", "List the recipes, the models with published weights, and more."),
    "show": ("ganzoo.cli.show", "command", "Show a recipe or a model: its settings, layers, weights."),
    "train": ("ganzoo.cli.train", "command", "Train a GAN by a recipe."),
    "sample": ("ganzoo.cli.sample", "command", "Draw images from a trained model."),
    "evaluate": ("ganzoo.cli.evaluate", "command", "Measure how good a model's images are, or anybody's."),
    "convert": ("ganzoo.cli.convert", "command", "Turn weights of others into a model, or a model into other numbers."),
    "export": ("ganzoo.cli.export", "command", "Write a model as an ONNX file, proven to draw the same images."),
    "inspect": ("ganzoo.cli.inspect", "group", "Look into a model and at what it draws: is it learnt by heart?"),
    "data": ("ganzoo.cli.data", "group", "Pack images for training, and look into packs."),
    "schema": ("ganzoo.cli.schema", "command", "Print the JSON Schema of a recipe, for editors."),
    "bench": ("ganzoo.cli.bench", "group", "Measure how fast a model draws, in torch and in ONNX Runtime."),
    "doctor": ("ganzoo.cli.doctor", "command", "Check that this machine and its packages are in order."),
}

_HELP = """A pluggable zoo of GANs: train one, see its pictures, have its model.

\b
First steps:
  ganzoo train dcgan-digits   train on real images, with nothing to download
  ganzoo sample               draw images from the newest run
  ganzoo list                 what else can be trained
"""

_EPILOG = """\b
Environment:
  GANZOO_DEBUG=1    show tracebacks
  GANZOO_HOME       folder of the caches (default ~/.cache/ganzoo)
  GANZOO_OFFLINE=1  fetch nothing from the network
  GANZOO_PLUGINS=0  do not look at other packages' plug-ins
"""


class RootGroup(click.Group):
    """The group of all commands: lazy, and the place where errors end."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands' names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command; its module is imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; an unknown one is answered with the nearest."""
        if not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(f"There is no command {args[0]!r}. {suggest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands with what they do, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = "ganzoo", *rest: Any, **extra: Any
    ) -> Any:
        """Run a command line and exit: 0 done, 1 failed, 2 wrong usage."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, *rest, **extra)
            sys.stdout.flush()
        except Exception as error:
            code = report(error)
        except KeyboardInterrupt:
            output.error_line("Stopped by Ctrl-C.")
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


def report(error: Exception) -> int:
    """Print one line about an error on standard error and return the exit code."""
    if _is_broken_pipe(error):
        _silence_stdout()
        return 1
    if isinstance(error, click.UsageError) and not is_first():
        return error.exit_code  # the processes of torchrun were all given the same words, and the first one tells
    if debugging() and not isinstance(error, click.ClickException | click.Abort):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    message, code = explain(error)
    output.error_line(message)
    return code


def explain(error: Exception) -> tuple[str, int]:
    """Return the line that tells of an error, with its remedy, and the exit code."""
    if isinstance(error, GanzooError):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx is not None else "ganzoo"
        return f"{_sentence(error.format_message())} See `{where} --help`.", error.exit_code
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, click.Abort):
        return "Stopped by Ctrl-C.", 1
    if isinstance(error, OSError):
        return _explain_os_error(error), 1
    if _is_out_of_memory(error):
        return (
            f"Out of memory: {_first_line(error)}. "
            "Make batches smaller (train.batch_size or --batch-size), or split them (--set train.accumulate=N).",
            1,
        )
    if isinstance(error, ImportError) and not (error.name or "").startswith("ganzoo"):
        name = (error.name or "a package").partition(".")[0]
        return f"{name} is missing or broken: {_first_line(error)}. `ganzoo doctor` checks the packages.", 1
    return (
        f"This is a bug in ganzoo, or in a plug-in: {type(error).__name__}: {_first_line(error)}. "
        "Run it again with GANZOO_DEBUG=1 to see where, and report it.",
        1,
    )


def debugging() -> bool:
    """Return whether tracebacks are shown."""
    return os.environ.get("GANZOO_DEBUG", "") not in ("", "0")


def _explain_os_error(error: OSError) -> str:
    where = f" {error.filename}" if error.filename is not None else ""
    reason = error.strerror or _first_line(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        full = f"The disk is full{':' + where if where else ''} ({reason})."
        return f"{full} Free some space, or write elsewhere with --out."
    if isinstance(error, PermissionError):
        return f"Not allowed:{where} ({reason}). Choose a place that you may read and write."
    return f"{reason}{':' + where if where else ''}."


def _is_out_of_memory(error: Exception) -> bool:
    # By name, because torch is not imported for this; its CPU allocator raises a plain RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def _is_broken_pipe(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _silence_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not complain of the closed pipe."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Show a Python warning as one line."""
    output.warning_line(f"{message}" if category is UserWarning else f"{category.__name__}: {message}")


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        output.result(f"ganzoo {__version__}")
        ctx.exit()


root = RootGroup(
    name="ganzoo",
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Show the version and exit.",
        )
    ],
)


def main() -> NoReturn:
    """Run `ganzoo` on this process's arguments and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the terminal does not know must not end a command
    if not debugging():
        warnings.showwarning = _warn
    root.main()
    raise AssertionError("RootGroup.main exits")


__all__ = ["COMMANDS", "debugging", "explain", "main", "report", "root"]
