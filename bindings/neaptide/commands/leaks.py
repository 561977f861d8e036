# SPDX-License-Identifier: Apache-2.0
"""Show the blocks that were never freed, by the stack that allocated them.

What the C and C++ runtimes keep until the end on purpose is suppressed, and so is what
--suppressions names; how much that is stands below the list.
"""

from __future__ import annotations

from argparse import Namespace

import neaptide
from neaptide.commands.options import FILE, JSON, PID, stack_limit, stacks
from neaptide.report import output

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (
        ["--suppressions"],
        {
            "metavar": "F",
            "help": "file of leak:PATTERN lines, as for LeakSanitizer; a pattern"
            " matches a function, file or module of the stack",
        },
    ),
    (
        ["--no-builtin"],
        {
            "action": "store_true",
            "help": "show also what the C and C++ runtimes keep on purpose",
        },
    ),
    *stacks("20; with --json all"),
    PID,
    JSON,
]

EXAMPLES = """\
  neap leaks app.neap
  neap leaks app.neap --suppressions known-leaks.txt --json
"""


def read_suppressions(path: str | None) -> str | None:
    """The text of a suppression file."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise neaptide.UsageError(
            f"cannot read the suppressions in {path}: {error.strerror}"
        ) from None
    if "\0" in text:
        raise neaptide.UsageError(
            f"{path} is no suppression file: it holds binary data"
        )
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def main(args: Namespace) -> int:
    """Answer on standard output."""
    with neaptide.open(args.file) as rec:
        answer = rec.leaks(
            suppressions=read_suppressions(args.suppressions),
            limit=stack_limit(args.limit, None if args.json else 20),
            pid=args.pid,
            builtin=not args.no_builtin,
        )
        if args.json:
            output.json_leaks(rec, answer)
        else:
            output.text_leaks(rec, answer, args)
    return 0
