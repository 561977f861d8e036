# SPDX-License-Identifier: Apache-2.0
"""Say what this machine permits: every row is tried out, and what is not in order
comes with its fix.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from neaptide.checks import CHECKS, FAIL, OK, run_check
from neaptide.commands.options import JSON
from neaptide.report.text import Paint, amount

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [JSON]

EXAMPLES = """\
  neap doctor
"""


def print_json() -> None:
    """One object on standard output."""
    import json

    rows = []
    for name, check in CHECKS.items():
        status, meaning, fix = run_check(check)
        rows.append({"name": name, "status": status, "meaning": meaning, "fix": fix})
    print(json.dumps({"checks": rows}))


def main(args: Namespace) -> int:
    """Run every check."""
    if args.json:
        print_json()
        return 0
    paint = Paint()
    width = max(map(len, CHECKS))
    found = []
    for name, check in CHECKS.items():
        status, meaning, fix = run_check(check)
        found.append(status)
        word = f"{status:4}" if status == OK else paint.bold(f"{status:4}")
        print(f"{name:{width}}  {word}  {meaning}")
        if fix is not None:
            print(f"{'':{width}}        fix: {fix}")
        sys.stdout.flush()
    bad = len(found) - found.count(OK)
    if FAIL in found:
        print(f"{amount(found.count(FAIL), 'row')} must be put right to record")
    elif bad:
        print(f"ready to record; {amount(bad, 'row')} could be better")
    else:
        print("ready to record")
    return 0
