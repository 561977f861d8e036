# SPDX-License-Identifier: Apache-2.0
"""Numbers, names and tables for people's eyes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from neaptide import Frame

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


def size(value: int) -> str:
    """Bytes in IEC units: 12.0 MiB."""
    if abs(value) < 1024:
        return f"{value} B"
    number = float(value)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        number /= 1024
        if abs(number) < 1023.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} EiB"


def amount(number: int, noun: str) -> str:
    """1 block, 1,234 blocks, 3 processes."""
    if number == 1:
        return f"1 {noun}"
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {plural}"


def duration(ns: int) -> str:
    """3.2 s, 12 ms, 2 min 5 s."""
    if ns < 1_000_000:
        return f"{ns / 1000:.0f} us"
    if ns < 1_000_000_000:
        return f"{ns / 1_000_000:.0f} ms"
    seconds = ns / 1_000_000_000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def printable(name: str) -> str:
    """A name without what would move the cursor or break the line."""
    if name.isprintable():
        return name
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def short_path(path: str) -> str:
    """A source file as one would type it from here."""
    here = os.getcwd() + os.sep
    return path[len(here) :] if path.startswith(here) else path


def frame_text(frame: Frame) -> tuple[str, str]:
    """A frame as its name and its place: 'f', ' at file:line (module)'."""
    module = os.path.basename(frame.module) if frame.module else None
    address = f"{module}+{frame.offset:#x}" if module else f"{frame.offset:#x}"
    if frame.function is None:
        return printable(address), ""
    if frame.file is None:
        place = f" ({address})"
    else:
        line = f":{frame.line}" if frame.line else ""
        place = f" at {short_path(frame.file)}{line}"
        if module and frame.kind == "native":
            place += f" ({module})"
    if frame.inlined:
        place += " [inlined]"
    return printable(frame.function), printable(place)


def wants_colour() -> bool:
    """Colour is for terminals whose owner did not refuse it."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


class Paint:
    """Bold and dim where they can be seen, nothing elsewhere."""

    def __init__(self) -> None:
        self.on = wants_colour()

    def bold(self, text: str) -> str:
        return f"{BOLD}{text}{PLAIN}" if self.on and text else text

    def dim(self, text: str) -> str:
        return f"{DIM}{text}{PLAIN}" if self.on and text else text


def cell_text(cell: object) -> str:
    """A value of SQL in a table."""
    if cell is None:
        return "NULL"
    if isinstance(cell, bytes):
        return f"x'{cell.hex()}'"
    if isinstance(cell, float):
        return repr(cell)
    return printable(str(cell))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> Iterable[str]:
    """An aligned table, numbers to the right."""
    columns = [printable(name) for name in columns]
    numeric = [False] * len(columns)
    worded = [False] * len(columns)
    cells: list[list[str]] = []
    for row in rows:
        cells.append([cell_text(cell) for cell in row])
        for i, cell in enumerate(row):
            if isinstance(cell, int | float):
                numeric[i] = True
            elif cell is not None:
                worded[i] = True
    widths = [
        max([len(columns[i]), *(len(row[i]) for row in cells)])
        for i in range(len(columns))
    ]

    def line(words: Sequence[str]) -> str:
        return "  ".join(
            word.ljust(width) if worded[i] or not numeric[i] else word.rjust(width)
            for i, (word, width) in enumerate(zip(words, widths, strict=True))
        ).rstrip()

    yield line(columns)
    yield "  ".join("-" * width for width in widths)
    for row in cells:
        yield line(row)
