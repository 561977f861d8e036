# SPDX-License-Identifier: Apache-2.0
"""Tell the collector that still writes FILE to record, or to leave off:

on      record from now on
off     stay in the programs, but record nothing new
status  change nothing, only say what is recorded now

What was allocated while it was off is not known afterwards.
"""

from __future__ import annotations

import os
import struct
from argparse import Namespace

import neaptide
from neaptide.commands.options import FILE, JSON
from neaptide.report.text import amount, size

TYPE_CHECKING = False  # see neaptide.cli
if TYPE_CHECKING:
    from neaptide.commands.options import Arguments

WISHES = {"status": 0, "on": 1, "off": 2}  # enum neap_switch_wish

ARGUMENTS: Arguments = [
    FILE,
    (["wish"], {"metavar": "on|off|status", "choices": list(WISHES)}),
    JSON,
]

EXAMPLES = """\
  neap switch app.neap on      # after: neap run --dormant -o app.neap -- ./app
  neap switch app.neap status
"""

# schema/wire/hello.h: struct neap_switch, struct neap_switched
MAGIC = 0x6863746977537065
VERSION = 3
ASK = struct.Struct("<QIIQ")
ANSWER = struct.Struct("<QIIIIQ")
MODES = ("off", "exact", "sampled")  # enum neap_mode
PATIENCE = 5  # seconds


def writes_another(pid: int, path: str) -> bool:
    """Is this the collector of a recording, and of another one than this?"""
    ours = os.stat(path)
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            if file.read() != "neapd\n":
                return False
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # not for us to know
    for name in names:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), ours):
                return False
        except OSError:
            continue
    return bool(names)


def listens_at(rec: neaptide.Recording, path: str) -> str:
    """Where the collector of a recording listens."""
    if rec.state == "finished":
        raise neaptide.UsageError(
            f"{path} is finished: no program is recorded into it any more; record anew"
            " with 'neap run'"
        )
    if rec.state == "lost":
        raise neaptide.UsageError(
            f"the collector of {path} is gone: nothing can be switched; record anew"
            " with 'neap run'"
        )
    ((socket_path, writer),) = rec.sql(
        "SELECT socket, collector_pid FROM raw_recording"
    )
    if writes_another(writer, path):
        raise neaptide.UsageError(
            f"{path} is a copy: its collector writes to another file; name that one"
        )
    if not socket_path:
        raise neaptide.UsageError(
            f"the collector of {path} does not say where it listens: record anew with"
            " this release"
        )
    return str(socket_path)


def exchange(socket_path: str, wish: int) -> bytes:
    """One message there, one back; empty if it closed instead."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(socket_path)
        connection.send(ASK.pack(MAGIC, VERSION, wish, 0))
        return connection.recv(ANSWER.size + 1)


def ask(path: str, socket_path: str, wish: int) -> tuple[str, int, int]:
    """The mode, the number of processes and the interval, as the collector says."""
    try:
        answer = exchange(socket_path, wish)
    except PermissionError:
        raise neaptide.UsageError(
            f"the collector of {path} does not listen to this user: ask as the user who"
            " records, or as root"
        ) from None
    except (FileNotFoundError, ConnectionError):
        raise neaptide.UsageError(
            f"the collector of {path} does not listen at {socket_path} any more: the"
            " recording has ended, or runs where this process cannot reach it"
        ) from None
    except TimeoutError:
        raise neaptide.UsageError(
            f"the collector of {path} did not answer in {PATIENCE} s: it is stopped or"
            " overloaded; try again"
        ) from None
    except OSError as error:
        raise neaptide.UsageError(
            f"cannot reach the collector of {path} at {socket_path}:"
            f" {error.strerror or error}"
        ) from None
    if not answer:
        raise neaptide.UsageError(
            f"the collector of {path} refused: ask as the user who records, or as root"
        )
    if len(answer) != ANSWER.size:
        raise neaptide.UsageError(
            f"the collector of {path} gave an answer of another release: use its neap"
        )
    magic, version, mode, processes, _, interval = ANSWER.unpack(answer)
    if (magic, version) != (MAGIC, VERSION) or mode >= len(MODES):
        raise neaptide.UsageError(
            f"the collector of {path} gave an answer of another release: use its neap"
        )
    return MODES[mode], processes, interval


def words(mode: str, processes: int, interval: int) -> str:
    """What is recorded now, in one line."""
    if mode == "off":
        are = "is" if processes == 1 else "are"
        connected = f"{amount(processes, 'process')} {are} connected"
        return f"dormant: {connected}, nothing is recorded"
    which = "every allocation"
    if mode == "sampled":
        which = f"one in every {size(interval)}"
    return f"recording {which} of {amount(processes, 'process')}"


def main(args: Namespace) -> int:
    """Switch, and say what is recorded now."""
    with neaptide.open(args.file) as rec:
        socket_path = listens_at(rec, args.file)
    mode, processes, interval = ask(
        args.file, os.fspath(socket_path), WISHES[args.wish]
    )
    if args.json:
        import json

        print(json.dumps({"mode": mode, "processes": processes, "interval": interval}))
    else:
        print(words(mode, processes, interval))
    return 0
