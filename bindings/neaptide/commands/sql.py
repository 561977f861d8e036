# SPDX-License-Identifier: Apache-2.0
"""Ask a recording in SQL. Its views are recording, switch, process, thread, module,
frame, site, live, event, map_event, memory_error and loss; only statements that read
are allowed.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace

import neaptide
from neaptide.commands.options import FILE, JSON
from neaptide.report import text

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from typing import Any

    from neaptide.commands.options import Arguments

ARGUMENTS: Arguments = [
    FILE,
    (["statement"], {"metavar": "STATEMENT", "help": "such as SELECT * FROM process"}),
    JSON,
    (["--csv"], {"action": "store_true", "help": "comma-separated, with a header"}),
]

EXAMPLES = """\
  neap sql app.neap "SELECT pid, exe, peak_bytes FROM process"
  neap sql app.neap "SELECT * FROM loss" --json
  neap sql app.neap "SELECT op, count(*) FROM event GROUP BY op"
"""


def plain(cell: Any) -> Any:
    """A cell as JSON can hold it."""
    if isinstance(cell, bytes):
        return cell.hex()
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell


def write_csv(table: neaptide.Table) -> None:
    """The table as CSV, lines ending as on this system."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table:
        writer.writerow([plain(cell) for cell in row])


def main(args: Namespace) -> int:
    """Answer on standard output."""
    if args.json and args.csv:
        raise neaptide.UsageError("--json and --csv exclude each other: choose one")
    if "\0" in args.statement:
        raise neaptide.SqlError("SQL: the statement holds a zero byte")
    with neaptide.open(args.file) as rec:
        table = rec.sql(args.statement)
    if args.json:
        import json

        rows = [[plain(cell) for cell in row] for row in table]
        print(json.dumps({"columns": list(table.columns), "rows": rows}))
    elif args.csv:
        write_csv(table)
    else:
        for line in text.table_lines(table.columns, table):
            print(line)
    return 0
