# SPDX-License-Identifier: Apache-2.0
"""The answer of ``neap errors``, as text and as JSON."""

from __future__ import annotations

from neaptide.report.output import (
    covers,
    frame_dict,
    header,
    loss_line,
    stack_lines,
    write_rows,
)
from neaptide.report.text import Paint, amount, printable, size

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from neaptide import ErrorReport, ErrorRow, Frame, Recording

# kind -> what was done, and the words before the stack of the call that found it
KINDS = {
    "double-free": ("a block was freed twice", "freed again"),
    "invalid-free": ("what is no block was freed", "freed"),
    "interior-free": ("a block was freed by an address inside of it", "freed"),
    "overflow": ("a block's end was written beyond", "found"),
    "write-after-free": ("a block was written to after its free", "found"),
    "size-mismatch": ("a block was freed with another size than its own", "freed"),
}


def frames_or_none(frames: tuple[Frame, ...]) -> list[dict[str, Any]] | None:
    return [frame_dict(frame) for frame in frames] or None


def row_dict(row: ErrorRow) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "ts_ns": row.ts_ns,
        "pid": row.pid,
        "tid": row.tid,
        "address": row.address,
        "block": row.block,
        "size": row.size,
        "alloc_frames": frames_or_none(row.alloc_frames),
        "free_frames": frames_or_none(row.free_frames),
        "frames": frames_or_none(row.frames),
    }


def json_errors(rec: Recording, answer: ErrorReport) -> None:
    """``neap errors --json``."""
    head = {"recording": rec.recording, "loss": rec.loss, "total": answer.total}
    write_rows(head, (row_dict(row) for row in answer))


def place(row: ErrorRow) -> str:
    """Which address, and where it lies in its block."""
    if row.block is None:
        return f"{row.address:#x}, which is in no block"
    block = f"the block of {size(row.size or 0)} at {row.block:#x}"
    offset = row.address - row.block
    if offset == 0:
        return block
    side = "into" if 0 <= offset < (row.size or 0) else "from the start of"
    return f"{row.address:#x}, {offset:+,} bytes {side} {block}"


def paragraph(row: ErrorRow, args: Namespace, paint: Paint) -> list[str]:
    """One error: what and where, then each stack that is known."""
    what, found = KINDS.get(row.kind, (row.kind, "found"))
    when = f"process {row.pid}, thread {row.tid}, at {row.ts_ns / 1e9:.3f} s"
    lines = [f"{paint.bold(printable(row.kind))}: {printable(what)}"]
    lines.append(f"  {place(row)}; {when}")
    stacks = [(found, row.frames, row.stack_id)]
    if row.free_stack_id is not None:
        stacks.append(("freed before", row.free_frames, row.free_stack_id))
    if row.alloc_stack_id is not None:
        stacks.append(("allocated", row.alloc_frames, row.alloc_stack_id))
    for words, frames, _ in stacks:
        lines.append(f"  {words}:")
        lines += [f"    {line}" for line in stack_lines(frames, False, args, paint)]
    return lines


def text_errors(rec: Recording, answer: ErrorReport, args: Namespace) -> None:
    """``neap errors`` for people."""
    paint = Paint()
    covered = covers(answer.processes, answer.images, args.pid)
    lost = loss_line(rec)
    print(header(rec))
    if answer.total:
        print(f"Memory errors: {answer.total:,}, {covered}")
    elif rec.recording["allocator"] == "neap":
        print(f"No memory error was found, {covered}")
    else:
        print(
            "Nothing is known of memory errors: the program had its own allocator;"
            " record it with neap run --allocator neap --heap-check 2"
        )
    if lost:
        print(lost)
    for row in answer:
        print()
        for line in paragraph(row, args, paint):
            print(line)
    if answer.total > len(answer):
        hidden = amount(answer.total - len(answer), "more error")
        print(f"\n… {hidden}: --limit 0 shows all")
