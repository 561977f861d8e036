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


FILE: Argument = (["file"], {"metavar": "FILE", "help": "the recording"})
JSON: Argument = (["--json"], {"action": "store_true", "help": "for machines"})
PID: Argument = (
    ["--pid"],
    {"metavar": "P", "type": count, "help": "of this process only"},
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
