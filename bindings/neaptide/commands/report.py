# SPDX-License-Identifier: Apache-2.0
"""Show the stacks that hold or allocate the most, by a metric:

live       still allocated at the end of each process, or at a time
peak       allocated at the moment its process held the most (the default)
allocated  everything that was ever allocated
temporary  freed before the same thread allocated again

--from and --to ask what happened between two times: 'live' is then what was allocated
there and still live at the end of it, 'peak' the highest point in it.
"""

from __future__ import annotations

from argparse import Namespace

import neaptide
from neaptide.commands.options import (
    AT,
    FILE,
    JSON,
    PID,
    count,
    seconds,
    sizes,
    stack_limit,
    stacks,
)
from neaptide.report import output

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (["--metric"], {"metavar": "M", "default": "peak", "help": "see above"}),
    *stacks("20"),
    PID,
    AT,
    (
        ["--from"],
        {
            "metavar": "S",
            "dest": "start",
            "type": seconds,
            "help": "what happened after this time",
        },
    ),
    (
        ["--to"],
        {
            "metavar": "S",
            "dest": "end",
            "type": seconds,
            "help": "what happened up to this time",
        },
    ),
    (
        ["--tid"],
        {
            "metavar": "T",
            "type": count,
            "help": "blocks that this thread allocated",
        },
    ),
    (
        ["--size"],
        {
            "metavar": "MIN-MAX",
            "type": sizes,
            "default": (None, None),
            "help": "blocks of these sizes: 1K-64K, 4K-, 24; --size=-64 up to one",
        },
    ),
    (
        ["--by"],
        {
            "choices": ["stack", "thread", "size"],
            "default": "stack",
            "help": "what a row stands for (default stack)",
        },
    ),
    JSON,
]

EXAMPLES = """\
  neap report app.neap
  neap report app.neap --metric allocated --limit 5 --full
  neap report app.neap --metric live --at 2.5
  neap report app.neap --metric live --from 10 --to 60 --by thread
"""


def main(args: Namespace) -> int:
    """Answer on standard output."""
    with neaptide.open(args.file) as rec:
        limit = stack_limit(args.limit, 20)
        smallest, largest = args.size
        answer = rec.report(
            metric=args.metric,
            limit=limit,
            pid=args.pid,
            at=args.at,
            start=args.start,
            end=args.end,
            tid=args.tid,
            min_size=smallest,
            max_size=largest,
            by=args.by,
        )
        if args.json:
            output.json_report(rec, answer, args)
        else:
            output.text_report(rec, answer, args)
    return 0
