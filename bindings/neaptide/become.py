# SPDX-License-Identifier: Apache-2.0
"""Becoming another program as if Python had never run.

Python ignores SIGPIPE and SIGXFSZ, and sets LC_CTYPE in the C locale; all of that
would be passed on to the program that is recorded. Whether the signals were ignored
before Python did so cannot be known: the default is what nearly all callers have.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from typing import NoReturn

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python, as it starts


def first_environment() -> dict[bytes, bytes]:
    """The environment as Python's process got it."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in entries if b"=" in entry[1:])
    return {name: value for name, _, value in pairs}


def become(program: str, words: list[str]) -> NoReturn:
    """Replace this process by `program`. Returns by an OSError only."""
    changed = {number: signal.getsignal(number) for number in IGNORED}
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program, words, first_environment())
    finally:
        for number, before in changed.items():
            signal.signal(number, before)
