# SPDX-License-Identifier: Apache-2.0
"""Show the stacks that hold or allocate the most, by a metric:

live       still allocated at the end of each process
peak       allocated at the moment its process held the most (the default)
allocated  everything that was ever allocated
temporary  freed before the same thread allocated again
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
    (["--metric"], {"metavar": "M", "default": "peak", "help": "see above"}),
    *stacks("20"),
    PID,
    (["--at"], {"metavar": "SECONDS", "help": "the state at this time"}),
    (["--tid"], {"metavar": "T", "help": "of this thread only"}),
    JSON,
]

EXAMPLES = """\
  neap report app.neap
  neap report app.neap --metric allocated --limit 5 --full
"""


def main(args: Namespace) -> int:
    """Answer on standard output."""
    with neaptide.open(args.file) as rec:
        if args.at is not None:
            raise neaptide.UsageError(
                f"{args.file} does not hold the state at each moment, so --at cannot"
                " be answered; leave it out for the end of each process"
            )
        if args.tid is not None:
            raise neaptide.UsageError(
                f"{args.file} does not hold the allocations of each thread, so --tid"
                " cannot be answered; use --pid or leave it out"
            )
        limit = stack_limit(args.limit, 20)
        answer = rec.report(metric=args.metric, limit=limit, pid=args.pid)
        if args.json:
            output.json_report(rec, answer)
        else:
            output.text_report(rec, answer, args)
    return 0
