# SPDX-License-Identifier: Apache-2.0
"""neap switch, against a collector that is played here."""

import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made import ROOT, Maker

Run = Callable[..., subprocess.CompletedProcess[str]]

MAGIC = 0x6863746977537065


def running(path: Path, socket_path: str, **recording: object) -> Path:
    """A recording whose collector is this very process."""
    stat = Path(f"/proc/{os.getpid()}/stat").read_text().rsplit(")", 1)[1].split()
    alive = {
        "finished": 0,
        "collector_pid": os.getpid(),
        "collector_start": int(stat[19]),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "socket": socket_path,
    }
    with Maker(path, **(alive | recording)) as make:
        make.process(100, exit_kind="running", exit_code=None)
    return path


class Collector:
    """Answers one question."""

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(20)
        self.question = b""
        self.thread = threading.Thread()

    def answer(self, data: bytes) -> None:
        def serve() -> None:
            connection, _ = self.listener.accept()
            with connection:
                self.question = connection.recv(100)
                if data:
                    connection.send(data)

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def asked(self) -> tuple[int, ...]:
        self.thread.join()
        return struct.unpack("<QIIQ", self.question)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    made = Collector(str(tmp_path / "socket"))
    yield made
    made.listener.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return running(tmp_path / "app.neap", str(tmp_path / "socket"))


def reply(mode: int, processes: int, interval: int = 0, magic: int = MAGIC) -> bytes:
    return struct.pack("<QIIIIQ", magic, 3, mode, processes, 0, interval)


@pytest.mark.parametrize(
    ("wish", "number", "answer", "line"),
    [
        ("on", 1, (1, 3), "recording every allocation of 3 processes"),
        ("on", 1, (2, 1, 512 << 10), "recording one in every 512.0 KiB of 1 process"),
        ("off", 2, (0, 3), "dormant: 3 processes are connected, nothing is recorded"),
        ("status", 0, (0, 1), "dormant: 1 process is connected, nothing is recorded"),
    ],
)
def test_switch(
    neap: Run,
    path: Path,
    collector: Collector,
    wish: str,
    number: int,
    answer: tuple[int, ...],
    line: str,
) -> None:
    collector.answer(reply(*answer))
    done = neap("switch", path, wish)
    assert (done.stdout, done.stderr, done.returncode) == (f"{line}\n", "", 0)
    assert collector.asked() == (MAGIC, 3, number, 0)


def test_json(neap: Run, path: Path, collector: Collector) -> None:
    collector.answer(reply(2, 4, 1024))
    assert json.loads(neap("switch", path, "status", "--json").stdout) == {
        "mode": "sampled",
        "processes": 4,
        "interval": 1024,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "refused: ask as the user who records"),
        (b"short", "an answer of another release"),
        (reply(1, 1, magic=7), "an answer of another release"),
        (reply(9, 1), "an answer of another release"),
    ],
)
def test_bad_answers(
    fails: Callable[..., str],
    path: Path,
    collector: Collector,
    data: bytes,
    message: str,
) -> None:
    collector.answer(data)
    assert message in fails("switch", path, "on")
    collector.thread.join()


def test_nobody_listens(fails: Callable[..., str], path: Path, tmp_path: Path) -> None:
    assert "does not listen at" in fails("switch", path, "on")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "socket"))
    assert "does not listen at" in fails("switch", path, "on")
    no_socket = running(tmp_path / "old.neap", "")
    assert "does not say where it listens" in fails("switch", no_socket, "on")


def test_no_permission(tmp_path: Path, path: Path, collector: Collector) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can ask as another user")
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == 0 and place != Path("/"):
            os.chmod(place, place.stat().st_mode | 0o055)
    path.chmod(0o644)
    os.chmod(tmp_path / "socket", 0o600)
    done = subprocess.run(
        [str(ROOT / "build/bin/neap"), "switch", str(path), "on"],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Permission denied" in done.stderr and "cannot start" in done.stderr:
        pytest.skip("another user cannot run neap here")
    assert done.returncode == 2
    assert "does not listen to this user" in done.stderr


def test_no_collector(fails: Callable[..., str], tmp_path: Path) -> None:
    done = running(tmp_path / "done.neap", "x", finished=1)
    assert "is finished" in fails("switch", done, "on")
    lost = running(tmp_path / "lost.neap", "x", boot_id="another")
    assert "the collector of" in fails("switch", lost, "off")
    assert "no recording at" in fails("switch", tmp_path / "none.neap", "on")
