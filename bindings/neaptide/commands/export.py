# SPDX-License-Identifier: Apache-2.0
"""Write a recording in another tool's format:

collapsed  one line a stack, 'outermost;...;innermost bytes', as flame graph tools
           read it
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace

import neaptide
from neaptide.commands.options import AT, FILE, PID

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (
        ["--format"],
        {"required": True, "choices": ["collapsed"], "help": "see above"},
    ),
    (
        ["--metric"],
        {
            "metavar": "M",
            "default": "peak",
            "help": "live, peak (the default), allocated or temporary",
        },
    ),
    PID,
    AT,
    (
        ["-o"],
        {"metavar": "OUT", "dest": "out", "help": "file (default standard output)"},
    ),
]

EXAMPLES = """\
  neap export app.neap --format collapsed -o app.collapsed
  neap export app.neap --format collapsed | flamegraph.pl >app.svg
"""


SQLITE = b"SQLite format 3\0"


def spare_recordings(path: str, recording: str) -> None:
    """Refuse to replace the recording, what belongs to it, or any other database."""
    for name in (recording, f"{recording}-wal", f"{recording}-shm"):
        if os.path.exists(path) and os.path.exists(name):
            same = os.path.samefile(path, name)
        else:
            same = os.path.realpath(path) == os.path.realpath(name)
        if same:
            raise neaptide.UsageError(
                f"{path} is the recording, or a part of it, and is not overwritten:"
                " choose another file with -o"
            )
    if not os.path.isfile(path):
        return
    with open(path, "rb") as stream:
        if stream.read(len(SQLITE)) == SQLITE:
            raise neaptide.UsageError(
                f"{path} is a recording or another SQLite database, and is not"
                " overwritten: choose another file with -o, or remove it"
            )


def write_file(path: str, data: bytes) -> None:
    """Write the whole of a file or leave what was there."""
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:  # a pipe or a device
            stream.write(data)
        return
    fresh = f"{path}.{os.getpid()}.new"
    try:
        with open(fresh, "xb") as stream:
            stream.write(data)
        os.replace(fresh, path)
    except BaseException:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise


def main(args: Namespace) -> int:
    """Write the file, or standard output."""
    with neaptide.open(args.file) as rec:
        answer = rec.report(metric=args.metric, limit=None, pid=args.pid, at=args.at)
        text = answer.collapsed()
    data = text.encode("utf-8", "surrogateescape")
    if args.out is None or args.out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return 0
    try:
        spare_recordings(args.out, args.file)
        write_file(args.out, data)
    except OSError as error:
        raise neaptide.UsageError(
            f"cannot write {args.out}: {error.strerror}; choose another file with -o"
        ) from None
    return 0
