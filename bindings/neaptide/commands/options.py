# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, as rows for argparse."""

from __future__ import annotations

from argparse import ArgumentTypeError

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Argument: TypeAlias = tuple[list[str], dict[str, Any]]
    Arguments: TypeAlias = list[Argument]


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ArgumentTypeError(f"'{text}' is not a whole number")
    return int(text)


def seconds(text: str) -> float:
    """A time since the recording's start."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 9e9 or "_" in text:
        raise ArgumentTypeError(
            f"'{text}' is not a time: give seconds since the recording's start"
        )
    return value


UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def one_size(text: str) -> int | None:
    """A number of bytes, with or without a unit; None for nothing."""
    if not text:
        return None
    digits = text.upper().removesuffix("B").removesuffix("I")
    unit = digits[-1:] if digits[-1:] in ("K", "M", "G", "T") else ""
    digits = digits.removesuffix(unit)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
        raise ArgumentTypeError(
            f"'{text}' is not a size: give bytes, or a number with K, M, G or T"
        )
    return min(int(digits) * UNITS[unit], 2**63 - 1)


def sizes(text: str) -> tuple[int | None, int | None]:
    """A range of sizes: 1K-64K, 4K-, -64, or one size."""
    low, dash, high = text.partition("-")
    if not low and not high:
        raise ArgumentTypeError(f"'{text}' is not a range of sizes: give MIN-MAX")
    smallest = one_size(low)
    return smallest, one_size(high) if dash else smallest


FILE: Argument = (["file"], {"metavar": "FILE", "help": "the recording"})
JSON: Argument = (["--json"], {"action": "store_true", "help": "for machines"})
PID: Argument = (
    ["--pid"],
    {"metavar": "P", "type": count, "help": "of this process only"},
)


AT: Argument = (
    ["--at"],
    {
        "metavar": "S",
        "type": seconds,
        "help": "the state at this time, in seconds since the recording's start",
    },
)


def stacks(default: str) -> Arguments:
    """How many stacks, and how much of each, are shown."""
    return [
        (
            ["--limit"],
            {
                "metavar": "N",
                "type": count,
                "help": f"stacks to show, 0 for all (default {default})",
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
    ]


def stack_limit(given: int | None, default: int | None) -> int | None:
    """What --limit means to the API."""
    if given is None:
        return default
    return given or None
