# SPDX-License-Identifier: Apache-2.0
"""Show who grew the address space and who gave back, by stack.

Seen are the program's own calls of mmap, munmap, mremap, brk and madvise. If it was
recorded with Neaptide's allocator (see 'neap run'), so is each growth of the heap,
under the call that caused it. What another allocator maps for itself is not.

Files and memory without access (PROT_NONE) are kept apart: neither takes memory yet.
"""

from __future__ import annotations

from argparse import Namespace

import neaptide
from neaptide.commands.options import FILE, JSON, PID, stack_limit, stacks
from neaptide.report import maps

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (
        ["--source"],
        {
            "choices": ["hook", "heap"],
            "help": "only calls of the program (hook), or only what Neaptide's own"
            " allocator did (heap)",
        },
    ),
    *stacks("20"),
    PID,
    JSON,
]

EXAMPLES = """\
  neap run --allocator neap -o app.neap -- ./app
  neap maps app.neap
  neap maps app.neap --source heap --json
"""


def main(args: Namespace) -> int:
    """Answer on standard output."""
    with neaptide.open(args.file) as rec:
        limit = stack_limit(args.limit, 20)
        answer = rec.maps(source=args.source, limit=limit, pid=args.pid)
        if args.json:
            maps.json_maps(rec, answer, args)
        else:
            maps.text_maps(rec, answer, args)
    return 0
