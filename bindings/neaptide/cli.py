# SPDX-License-Identifier: Apache-2.0
"""The ``neap`` command: finds the subcommand, turns every failure into one line.

Only the module of the command that was asked for is imported, so that ``neap report``
starts quickly. Each of these modules holds ARGUMENTS, EXAMPLES and ``main(args)``.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from errno import EBADF
from importlib import import_module

TYPE_CHECKING = False  # typing's own costs more to import than a whole report
if TYPE_CHECKING:
    from typing import NoReturn

# command -> what it does, in the order of the help
COMMANDS = {
    "run": "record a program and its children",
    "report": "the stacks that hold or allocate the most",
    "leaks": "blocks that were never freed, by stack",
    "maps": "growth and shrinkage of the address space, by stack",
    "errors": "mistakes with memory that Neaptide's allocator found",
    "sql": "ask a recording in SQL",
    "switch": "begin or stop recording in programs that run",
    "export": "write a recording in another tool's format",
    "doctor": "say what this machine permits, and how to fix the rest",
}

USAGE_STATUS = 2
INTERRUPTED_STATUS = 128 + 2  # SIGINT
BROKEN_PIPE_STATUS = 128 + 13  # SIGPIPE
HELP_WIDTH = 80

HELP = """\
usage: neap COMMAND ...

Neaptide records where a program's memory comes from, and answers questions about it.

commands:
{commands}

options:
  -h, --help  show this help; 'neap COMMAND --help' shows a command's
  --version   show the version

example:
  neap run -o app.neap -- ./app
  neap report app.neap
"""


class Parser(ArgumentParser):
    """argparse, but an error is one line that says where to look."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


class UsageError(Exception):
    """Wrong words on the command line."""


def formatter(prog: str) -> RawDescriptionHelpFormatter:
    """A width of our own: argparse would import shutil to ask the terminal."""
    return RawDescriptionHelpFormatter(prog, width=HELP_WIDTH)


def parse(command: str, words: list[str]) -> Namespace:
    """Parse the words of a command by its table."""
    module = import_module(f"neaptide.commands.{command}")
    parser = Parser(
        prog=f"neap {command}",
        description=(module.__doc__ or "").strip(),
        epilog="example:\n" + module.EXAMPLES,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    for names, options in module.ARGUMENTS:
        parser.add_argument(*names, **options)
    return parser.parse_args(words)


def run_command(words: list[str]) -> int:
    """Run the command that the words name; its exit status."""
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        table = "\n".join(f"  {k:{width}}  {v}" for k, v in COMMANDS.items())
        print(HELP.format(commands=table), end="")
        return 0
    command = words[0]
    if command == "--version":
        from neaptide import __version__

        print(f"neap {__version__}")
        return 0
    if command not in COMMANDS:
        what = "option" if command.startswith("-") else "command"
        raise UsageError(
            f"unknown {what} '{command}': the commands are {', '.join(COMMANDS)}"
        )
    if command == "run":
        from neaptide.commands.run import execute

        return execute(words[1:])
    args = parse(command, words[1:])
    status: int = import_module(f"neaptide.commands.{command}").main(args)
    return status


def complain(message: object) -> int:
    """Say what went wrong in one line. Returns the exit status for it."""
    line = " ".join(str(message).split("\n"))
    if sys.stderr is not None:
        sys.stderr.write(f"neap: {line}\n")
    return USAGE_STATUS


def silence_stdout() -> None:
    """Nobody reads standard output any more: let Python's last flush go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def refuse_stdout() -> None:
    """The caller closed standard output: what is written to it is an error.

    No file that is opened later may get its number, and no program inherits it.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 1:
        os.dup2(null, 1, inheritable=False)
        os.close(null)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def guarded(words: list[str]) -> int:
    """run_command, with every failure a line and a status."""
    try:
        status = run_command(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        silence_stdout()
        return BROKEN_PIPE_STATUS
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except UsageError as error:
        return complain(error)
    except UnicodeError:
        return complain("a word on the command line is no UTF-8 text: correct it")
    except MemoryError:
        return complain("out of memory: ask for fewer rows with --limit")
    except OSError as error:
        return complain(os_error(error))
    except Exception as error:
        # Imported late: a failed import of the extension gets here as well.
        if type(error).__module__ == "neaptide" or isinstance(error, ImportError):
            return complain(error)
        return complain(
            f"internal error: {type(error).__name__}: {error}; please report it, with"
            " the command you typed"
        )


def os_error(error: OSError) -> str:
    """An OSError of ours (a missing recording) or of the system, in one line."""
    if error.strerror is None:
        return str(error)
    if error.filename is None and error.errno == EBADF:
        return (
            "cannot write the answer: standard output is closed; leave it open, or"
            " redirect it to a file or /dev/null"
        )
    if error.filename is None:
        return f"cannot write the answer: {error.strerror}"
    return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"


def main(words: list[str] | None = None) -> int:
    """Entry point of ``neap``; returns the exit status."""
    if sys.stdout is None:
        refuse_stdout()
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be text in any encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    status = guarded(sys.argv[1:] if words is None else words)
    if sys.stdout is not None and status != 0:
        try:
            sys.stdout.flush()
        except OSError:
            silence_stdout()
    return status
