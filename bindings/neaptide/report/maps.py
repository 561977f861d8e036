# SPDX-License-Identifier: Apache-2.0
"""The answer of ``neap maps``, as text and as JSON."""

from __future__ import annotations

from neaptide.report.output import (
    covers,
    exactness,
    frame_dict,
    header,
    hint,
    stack_lines,
    write_rows,
)
from neaptide.report.text import Paint, amount, printable, size

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any

    from neaptide import MapBytes, MapReport, MapRow, Recording

COLUMNS = ("grown", "given back", "kept", "calls")


def bytes_dict(found: MapBytes) -> dict[str, int]:
    return {"grown": found.grown, "returned": found.returned, "kept": found.kept}


def sums_dict(row: MapRow) -> dict[str, Any]:
    return {
        "anonymous": bytes_dict(row.anonymous),
        "reserved": bytes_dict(row.reserved),
        "file": bytes_dict(row.file),
        "net": row.net,
        "unseen": row.unseen,
        "advised": row.advised,
        "grow_count": row.grow_count,
        "return_count": row.return_count,
        "advise_count": row.advise_count,
    }


def row_dict(row: MapRow) -> dict[str, Any]:
    return {**sums_dict(row), "frames": [frame_dict(frame) for frame in row.frames]}


def json_maps(rec: Recording, answer: MapReport, args: Namespace) -> None:
    """``neap maps --json``."""
    head = {
        "recording": rec.recording,
        "loss": rec.loss,
        "source": args.source,
        "unit": "bytes",
        "total": sums_dict(answer.total),
    }
    write_rows(head, (row_dict(row) for row in answer))


def others(row: MapRow) -> str:
    """What a row has beside its anonymous memory."""
    words = []
    for name, found in (("reserved", row.reserved), ("of files", row.file)):
        if found.grown:
            words.append(f"{size(found.grown)} {name}")
        if found.returned:
            words.append(f"{size(found.returned)} {name} given back")
    if row.advised:
        calls = amount(row.advise_count, "call")
        words.append(f"{size(row.advised)} given back by madvise in {calls}")
    if row.unseen:
        words.append(f"{size(row.unseen)} given back that was not seen to grow")
    return ", ".join(words)


def cells(row: MapRow) -> tuple[str, ...]:
    found = row.anonymous
    calls = row.grow_count + row.return_count + row.advise_count
    return (size(found.grown), size(found.returned), size(found.kept), f"{calls:,}")


def table(answer: MapReport, args: Namespace) -> Iterator[str]:
    """A line of numbers and the innermost frame each, the callers below."""
    paint = Paint()
    numbers = [cells(row) for row in answer]
    widths = [
        max(len(name), *(len(row[i]) for row in numbers))
        for i, name in enumerate(COLUMNS)
    ]

    def line(words: tuple[str, ...]) -> str:
        return "  ".join(w.rjust(width) for w, width in zip(words, widths, strict=True))

    margin = " " * (2 + sum(widths) + 2 * len(widths))
    yield paint.dim(f"  {line(COLUMNS)}")
    for row, words in zip(answer, numbers, strict=True):
        lines = stack_lines(row.frames, row.truncated, args, paint)
        more = others(row)
        if more:
            lines.insert(1, paint.dim(f"({more})"))
        yield f"  {paint.bold(line(words))}  {lines[0]}"
        yield from (margin + text for text in lines[1:])


def text_maps(rec: Recording, answer: MapReport, args: Namespace) -> None:
    """``neap maps`` for people."""
    covered = covers(answer.processes, answer.images, args.pid)
    total = answer.total
    source = f" ({args.source} alone)" if args.source else ""
    print(header(rec))
    if answer.stacks == 0:
        print(f"No change of the address space was seen{source}, {covered}")
    else:
        print(
            f"Grown{source}: {size(total.anonymous.grown)} by"
            f" {amount(answer.stacks, 'stack')}, {covered};"
            f" given back: {size(total.anonymous.returned)};"
            f" kept to the end: {size(total.anonymous.kept)}"
        )
        more = others(total)
        if more:
            print(f"beside that: {more}")
    for line in exactness(rec, sampled=False):
        print(line)
    if len(answer):
        print()
        for line in table(answer, args):
            print(line)
    if answer.stacks > len(answer):
        hidden = amount(answer.stacks - len(answer), "more stack")
        print(f"  … {hidden}: --limit 0 shows all")
    if rec.recording["allocator"] != "neap":
        hint(
            "what the program's allocator maps by itself shows with:"
            " neap run --allocator neap"
        )
    else:
        hint(f"who holds that memory: neap report {printable(args.file)}")
