# SPDX-License-Identifier: Apache-2.0
"""The answers of ``neap report`` and ``neap leaks``, as text and as JSON.

Beside every total stands what it covers and whether it is exact.
"""

from __future__ import annotations

import sys

from neaptide.report.text import (
    Paint,
    amount,
    duration,
    frame_text,
    printable,
    size,
)

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable
    from typing import Any

    from neaptide import Frame, Recording, Report, Row, Total

TITLES = {"peak": "Peak", "allocated": "Allocated", "temporary": "Temporary"}

ROWS = {"stack": "stack", "thread": "thread", "size": "size class"}

# raw_loss.what -> what a person calls one of them, and several
LOSSES = {
    "events": ("event", "events"),
    "stacks": ("stack", "stacks"),
    "samples": (
        "live sample without room in the table",
        "live samples without room in the table",
    ),
    "lanes": ("event of a thread without a lane", "events of threads without a lane"),
    "corrupt": ("corrupt record", "corrupt records"),
    "order": (
        "event that was waited for in vain",
        "events that were waited for in vain",
    ),
    "store": ("row that could not be stored", "rows that could not be stored"),
    "process": (
        "process that was not recorded",
        "processes that were not recorded",
    ),
}


def number(value: float) -> float | int:
    """A whole number without a decimal point."""
    return int(value) if value == int(value) else value


def total_dict(total: Total) -> dict[str, Any]:
    return {"value": total.value, "ci95": number(total.ci95), "count": total.count}


def frame_dict(frame: Frame) -> dict[str, Any]:
    return {
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "module": frame.module,
        "offset": frame.offset,
        "kind": frame.kind,
        "inlined": frame.inlined,
    }


def row_dict(row: Row, by: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "value": row.value,
        "ci95": number(row.ci95),
        "count": row.count,
        "frames": [frame_dict(frame) for frame in row.frames],
    }
    if by == "thread":
        found |= {"pid": row.pid, "tid": row.tid, "thread": row.thread}
    elif by == "size":
        found |= {"min_size": row.min_size, "max_size": row.max_size}
    return found


def write_json(
    rec: Recording, answer: Report, last: dict[str, Any], more: dict[str, Any]
) -> None:
    """A report as JSON."""
    head = {
        "recording": rec.recording,
        "loss": rec.loss,
        "metric": answer.metric,
        "unit": answer.unit,
        "total": total_dict(answer.total),
        **more,
    }
    write_rows(head, (row_dict(row, answer.by) for row in answer), last)


def write_rows(
    head: dict[str, Any],
    rows: Iterable[dict[str, Any]],
    last: dict[str, Any] | None = None,
) -> None:
    """One object on one line, row by row: all of them need not fit in memory."""
    import json  # late: text does without

    encode = json.JSONEncoder().encode
    sys.stdout.write(encode(head)[:-1] + ', "rows": [')
    for i, row in enumerate(rows):
        sys.stdout.write((", " if i else "") + encode(row))
    rest = "".join(f", {encode(k)}: {encode(v)}" for k, v in (last or {}).items())
    sys.stdout.write(f"]{rest}}}\n")


def asked(answer: Report, args: Namespace) -> dict[str, Any]:
    """What a question was limited to: only the keys that it names."""
    smallest, largest = args.size
    times = {"at_ns": args.at, "from_ns": args.start, "to_ns": args.end}
    found = {k: round(v * 1e9) for k, v in times.items() if v is not None}
    others = {"tid": args.tid, "min_size": smallest, "max_size": largest}
    found |= {k: v for k, v in others.items() if v is not None}
    return {"by": answer.by, **found} if found or answer.by != "stack" else {}


def json_report(rec: Recording, answer: Report, args: Namespace) -> None:
    """``neap report --json``."""
    write_json(rec, answer, {}, asked(answer, args))


def json_leaks(rec: Recording, answer: Report) -> None:
    """``neap leaks --json``; what was suppressed has a key of its own."""
    left_out = {"value": answer.suppressed.value, "count": answer.suppressed.count}
    write_json(rec, answer, {"suppressed": left_out}, {})


def ending(rec: Recording, about: dict[str, Any]) -> str:
    """How the recording ended, in words."""
    lasted = duration(about["duration_ns"])
    if rec.state == "lost":
        return f"lost: the collector ended before the target; data up to {lasted}"
    if rec.state == "running":
        return f"still running; data up to {lasted}"
    kind, code = about["exit"]["kind"], about["exit"]["code"]
    if kind == "exited" and code is not None:
        return f"exited with status {code} after {lasted}"
    if kind == "signaled" and code is not None:
        import signal  # late: it costs as much as the rest of a report

        try:
            name = f" ({signal.Signals(code).name})"
        except ValueError:
            name = ""
        return f"killed by signal {code}{name} after {lasted}"
    return f"how it ended is unknown; data up to {lasted}"


def quoted(word: str) -> str:
    """A word as a shell takes it; shlex would import re for that."""
    if word and all(c.isalnum() or c in "@%+=:,./-_" for c in word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def header(rec: Recording) -> str:
    """One line: which file, which program, how it ended."""
    about: dict[str, Any] = dict(rec.recording)
    command = printable(" ".join(map(quoted, about["command"]))) or "?"
    if len(command) > 60:
        command = command[:59] + "…"
    pid = f" (pid {about['pid']})" if about["pid"] is not None else ""
    return f"{printable(about['path'])}: {command}{pid}, {ending(rec, about)}"


def measured(value: int, ci95: float) -> str:
    """Bytes, with how far off an estimate may be: 8.0 MiB ± 1.2 MiB."""
    return f"{size(value)} ± {size(round(ci95))}" if ci95 else size(value)


def title(answer: Report, args: Namespace) -> str:
    """What the total is: the metric, and the times it is about."""
    at, start, end = args.at, args.start, args.end
    if answer.metric == "live":
        if start is not None:
            until = "the end" if end is None else f"{end:g} s"
            return f"Allocated after {start:g} s and still live at {until}"
        at = end if at is None else at
        return "Still allocated at the end" if at is None else f"Live at {at:g} s"
    words = TITLES[answer.metric]
    if at is not None:
        return f"{words} up to {at:g} s"
    if start is not None:
        words += f" from {start:g} s" if end is not None else f" after {start:g} s"
    if end is not None:
        words += f" {'to' if start is not None else 'up to'} {end:g} s"
    return words


def chosen(args: Namespace) -> str:
    """Which blocks a report is limited to."""
    smallest, largest = args.size
    words = f", thread {args.tid}" if args.tid is not None else ""
    if smallest is not None and smallest == largest:
        words += f", blocks of {size(smallest)}"
    elif smallest is not None and largest is not None:
        words += f", blocks of {size(smallest)} to {size(largest)}"
    elif smallest is not None:
        words += f", blocks of {size(smallest)} and more"
    elif largest is not None:
        words += f", blocks of up to {size(largest)}"
    return words


def ended(rec: Recording, answer: Report, args: Namespace) -> str:
    """What a moment's live blocks include that nobody would expect."""
    at = getattr(args, "at", None)
    if at is None or answer.metric != "live":
        return ""
    gone: set[int] = set()
    there: set[int] = set()
    for image in rec.processes:
        over = image["end_ns"] is not None and image["end_ns"] < at * 1e9
        if image["start_ns"] <= at * 1e9:
            (gone if over else there).add(image["pid"])
    gone -= there
    if args.pid is not None:
        gone &= {args.pid}
    if not gone or rec.recording["duration_ns"] <= at * 1e9:
        return ""
    return f"; what {amount(len(gone), 'process')} never freed until then included"


def covers(processes: int, images: int, pid: int | None) -> str:
    """Which processes an answer covers."""
    if pid is not None:
        covered = f"process {pid}"
    elif processes == 0:
        return "no process was recorded"
    else:
        covered = amount(processes, "process")
    if images > processes:
        covered += f", {amount(images, 'program')} by exec"
    return covered


def coverage(answer: Report, pid: int | None) -> str:
    """Which processes a total covers."""
    covered = covers(answer.processes, answer.images, pid)
    if answer.metric == "peak" and answer.images > 1:
        each = "program" if answer.images > answer.processes else "process"
        covered += f"; peak is the sum of each {each}'s own"
    return covered


def loss_text(what: str, count: int) -> str:
    """How much of a kind was lost; a later release may know other kinds."""
    if what not in LOSSES:
        return f"{printable(what)}: {count:,}"
    one, many = LOSSES[what]
    return f"{count:,} {one if count == 1 else many}"


def sampling(rec: Recording, interval: int, whole: bool) -> str:
    """How often a sample was taken."""
    ((last,),) = rec.sql("SELECT coalesce(max(interval), 0) FROM process")
    often = f"sampled: one in every {size(interval)} on average"
    if last > interval:
        often += f", up to {size(last)} later"
    if whole:
        often += ", nothing lost"
    return f"{often}; ± is the 95 % interval"


def spans(rec: Recording, end: int) -> str | None:
    """When it recorded, if it was switched on and off; None: all the time."""
    begun: int | None = None
    found = []
    for ts_ns, mode in [*rec.sql("SELECT ts_ns, mode FROM switch"), (end, "off")]:
        if mode != "off" and begun is None:
            begun = ts_ns
        elif mode == "off" and begun is not None:
            found.append((begun, ts_ns))
            begun = None
    if found == [(0, end)] or not len(rec.sql("SELECT 1 FROM switch LIMIT 1")):
        return None
    if not found:
        return "dormant: nothing was recorded"
    words = ", ".join(f"{a / 1e9:.3g} s to {b / 1e9:.3g} s" for a, b in found[:3])
    more = f" and {amount(len(found) - 3, 'more time')}" if len(found) > 3 else ""
    return f"switched on from {words}{more}; what was allocated else is not known"


def loss_line(rec: Recording) -> str:
    """What was lost; nothing if nothing was."""
    losses = rec.sql("SELECT what, sum(count), sum(bytes) FROM loss GROUP BY what")
    lost = []
    for what, count, lost_bytes in losses:
        words = loss_text(what, count)
        lost.append(words + (f" ({size(lost_bytes)})" if lost_bytes else ""))
    return f"lost: {', '.join(lost)}; totals miss them" if lost else ""


def exactness(rec: Recording, sampled: bool = True) -> list[str]:
    """Lines that say whether the totals are exact, and why not.

    sampled: in a sampled recording they are estimates.
    """
    marks = rec.sql(
        "SELECT coalesce(sum(truncated_stacks), 0), coalesce(sum(verified), 0),"
        " coalesce(sum(verify_differences), 0) FROM process"
    )
    lost = loss_line(rec)
    about = rec.recording
    until = duration(about["duration_ns"])
    when = spans(rec, about["duration_ns"])
    lines = []
    if about["on_ns"] == 0 and when is not None and not lost:
        return [when]
    if lost:
        lines.append(lost)
    if rec.state == "lost":
        lines.append(f"not exact: what happened after {until} is missing")
    if sampled and about["mode"] == "sampled":
        lines.append(sampling(rec, about["interval"], not lost and rec.state != "lost"))
    elif not lost and rec.state != "lost":
        so_far = f" until {until}" if rec.state == "running" else ""
        on = " while it was on" if when is not None else ""
        lines.append(f"exact{on}: every event{so_far} counted, nothing lost")
    if when is not None:
        lines.append(when)
    truncated, _, differences = marks[0]
    if truncated:
        lines.append(f"{amount(truncated, 'stack')} cut short: outer callers missing")
    if differences:
        lines.append(f"{amount(differences, 'stack')} differed when checked")
    return lines


def row_lines(row: Row, answer: Report, args: Namespace, paint: Paint) -> list[str]:
    """What a row stands for: a stack's frames, or one line."""
    if answer.by == "thread":
        name = f" {printable(row.thread)}" if row.thread else ""
        return [f"thread {row.tid}{name}" + paint.dim(f" (process {row.pid})")]
    if answer.by == "size":
        smallest, largest = row.min_size or 0, row.max_size or 0
        if smallest == largest:
            return [f"blocks of {size(smallest)}"]
        if largest < 1024:
            return [f"blocks of {smallest} to {largest} B"]
        return [f"blocks of {size(smallest)} up to {size(largest + 1)}"]
    return stack_lines(row.frames, row.truncated, args, paint)


def stack_lines(
    frames: tuple[Frame, ...], truncated: bool, args: Namespace, paint: Paint
) -> list[str]:
    """A frame a line, the innermost first."""
    # A cut of a single frame would take as much room as the frame.
    depth = max(args.depth, 1)
    shown = frames if args.full or len(frames) <= depth + 1 else frames[:depth]
    lines = []
    for frame in shown:
        name, place = frame_text(frame)
        lines.append(name + paint.dim(place))
    if not frames:
        lines.append("no stack")
    if len(shown) < len(frames):
        lines.append(paint.dim(f"… {amount(len(frames) - len(shown), 'more frame')}"))
    elif truncated and frames:
        lines.append(paint.dim("… outer frames missing"))
    return lines


def print_rows(answer: Report, args: Namespace, noun: str) -> None:
    """The rows; of a stack the innermost frame beside the numbers, callers below it."""
    paint = Paint()
    sizes = [measured(row.value, row.ci95) for row in answer]
    counts = [amount(row.count, noun) for row in answer]
    width = max(map(len, sizes), default=0)
    count_width = max(map(len, counts), default=0)
    margin = " " * (width + count_width + 8)
    for row, value, count in zip(answer, sizes, counts, strict=True):
        lines = row_lines(row, answer, args, paint)
        numbers = f"{value:>{width}}  {count:>{count_width}}"
        print(f"  {paint.bold(numbers)}  {lines[0]}")
        for line in lines[1:]:
            print(margin + line)


def print_rest(answer: Report) -> None:
    """What the limit left out."""
    hidden = answer.stacks - len(answer)
    if hidden > 0:
        value = answer.total.value - sum(row.value for row in answer)
        more = amount(hidden, f"more {ROWS[answer.by]}")
        print(f"  … {more} with {size(value)}: --limit 0 shows all")


def hint(text: str) -> None:
    """The next command to type, for people only."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        sys.stdout.flush()
        sys.stderr.write(f"\n{text}\n")


def text_report(rec: Recording, answer: Report, args: Namespace) -> None:
    """``neap report`` for people."""
    noun = "block" if answer.metric in ("live", "peak") else "call"
    print(header(rec))
    total = measured(answer.total.value, answer.total.ci95)
    count = amount(answer.total.count, noun)
    covered = coverage(answer, args.pid) + chosen(args) + ended(rec, answer, args)
    print(f"{title(answer, args)}: {total} in {count}, {covered}")
    for line in exactness(rec):
        print(line)
    if len(answer):
        print()
    print_rows(answer, args, noun)
    print_rest(answer)
    hint(f"never freed: neap leaks {printable(args.file)}")


def suppressed_text(total: Total) -> str:
    """What was left out of a list of leaks."""
    if total.count == 0:
        return "suppressed: nothing"
    value = measured(total.value, total.ci95)
    return f"suppressed: {value} in {amount(total.count, 'block')}"


def text_leaks(rec: Recording, answer: Report, args: Namespace) -> None:
    """``neap leaks`` for people."""
    covered = coverage(answer, args.pid)
    suppressed = suppressed_text(answer.suppressed)
    if answer.processes == 0:
        name = printable(args.file)
        print(f"{name}: no process was recorded, so nothing is known about leaks")
        return
    if rec.recording["on_ns"] == 0 and answer.total.count == 0:
        name = printable(args.file)
        print(f"{name}: dormant all the time, so nothing is known about leaks")
        return
    if answer.total.count == 0:
        notes = "; ".join(exactness(rec))
        if rec.state != "finished":
            notes += f"; {ending(rec, dict(rec.recording))}"
        name = printable(args.file)
        leaked = "nothing leaked"
        if answer.total.ci95:
            leaked = (
                f"no sample leaked (up to {size(round(answer.total.ci95))} may have)"
            )
        print(f"{name}: {leaked}, {covered}; {suppressed}; {notes}")
        return
    print(header(rec))
    total = measured(answer.total.value, answer.total.ci95)
    total = f"{total} in {amount(answer.total.count, 'block')}"
    print(f"Never freed: {total}, by {amount(answer.stacks, 'stack')}, {covered}")
    print(suppressed)
    for line in exactness(rec):
        print(line)
    print()
    print_rows(answer, args, "block")
    print_rest(answer)
    hint(f"what held the most: neap report {printable(args.file)}")
