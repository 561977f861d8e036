# SPDX-License-Identifier: Apache-2.0
"""Show the mistakes with memory that Neaptide's own allocator found, as they happened.

The program must have been recorded with it, see 'neap run'. At check levels 1 to 3 it
finds more, and knows who allocated and who freed the block.
"""

from __future__ import annotations

from argparse import Namespace

import neaptide
from neaptide.commands.options import FILE, JSON, PID, count, stack_limit
from neaptide.report import errors

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (
        ["--limit"],
        {
            "metavar": "N",
            "type": count,
            "help": "errors to show, 0 for all (default 20; with --json all)",
        },
    ),
    (
        ["--depth"],
        {
            "metavar": "N",
            "type": count,
            "default": 8,
            "help": "frames to show of each stack (default 8)",
        },
    ),
    (["--full"], {"action": "store_true", "help": "show every frame"}),
    PID,
    JSON,
]

EXAMPLES = """\
  neap run --allocator neap --heap-check 2 -o app.neap -- ./app
  neap errors app.neap
"""


def main(args: Namespace) -> int:
    """Answer on standard output."""
    with neaptide.open(args.file) as rec:
        limit = stack_limit(args.limit, None if args.json else 20)
        answer = rec.errors(limit=limit, pid=args.pid)
        if args.json:
            errors.json_errors(rec, answer)
        else:
            errors.text_errors(rec, answer, args)
    return 0
