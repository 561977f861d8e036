# SPDX-License-Identifier: Apache-2.0
"""neap and what it writes to: pipes that close, full disks, terminals, locales."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_cli import NEAP, REPORT

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_reader_that_goes_away(sample: Path) -> None:
    for words in (["report", str(sample), "--json"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        answer = subprocess.run(
            [NEAP, *words], stdout=write, stderr=subprocess.PIPE, check=False
        )
        os.close(write)
        assert answer.stderr == b""
        assert answer.returncode == 128 + signal.SIGPIPE


def test_a_full_disk(sample: Path) -> None:
    with open("/dev/full", "wb") as full:
        answer = subprocess.run(
            [NEAP, "report", str(sample)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert answer.returncode == 2
    assert answer.stderr == b"neap: cannot write the answer: No space left on device\n"


def test_closed_standard_output(sample: Path) -> None:
    answer = subprocess.run(
        ["sh", "-c", 'exec "$0" report "$1" >&-', NEAP, str(sample)],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert b"Traceback" not in answer.stderr


def test_ctrl_c(sample: Path) -> None:
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT count(*) FROM n"
    )
    neap = subprocess.Popen(
        [NEAP, "sql", str(sample), endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # It is asking once it has used more processor time than its start takes.
        while int(Path(f"/proc/{neap.pid}/stat").read_text().split()[13]) < 30:
            assert neap.poll() is None
            time.sleep(0.02)
        neap.send_signal(signal.SIGINT)
        out, err = neap.communicate(timeout=60)
    finally:
        neap.kill()
    assert (out, err) == (b"", b"")
    assert neap.returncode == 128 + signal.SIGINT


def on_terminal(*words: str, **environment: str) -> str:
    """What `neap WORDS` says on a terminal, both streams."""
    try:
        main, terminal = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be made here: {error}")
    variables = {"TERM": "xterm", **os.environ, **environment}
    if "NO_COLOR" not in environment:
        variables.pop("NO_COLOR", None)
    neap = subprocess.Popen(
        [NEAP, *words], stdout=terminal, stderr=terminal, env=variables
    )
    os.close(terminal)
    said = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        said += data
    os.close(main)
    assert neap.wait(timeout=60) == 0
    return said.decode().replace("\r\n", "\n")


def test_colour_and_hints_are_for_terminals(sample: Path) -> None:
    said = on_terminal("report", str(sample), TERM="xterm")
    assert "\033[1m" in said
    assert said.endswith(f"never freed: neap leaks {sample}\n")
    plain = on_terminal("report", str(sample), NO_COLOR="1")
    assert "\033" not in plain
    assert plain.startswith(REPORT.format(path=sample))
    said = on_terminal("leaks", str(sample), TERM="dumb")
    assert "\033" not in said
    assert said.endswith(f"what held the most: neap report {sample}\n")


def test_any_locale(neap: Run, sample: Path) -> None:
    for locale in ("C", "POSIX", "C.UTF-8"):
        answer = neap("leaks", sample, LC_ALL=locale)
        assert answer.returncode == 0
        assert "Never freed: 407 B" in answer.stdout


def test_words_that_are_no_text(fails: Callable[..., str], sample: Path) -> None:
    word = os.fsdecode(b"\xff")
    assert "no UTF-8 text" in fails("sql", sample, f"SELECT '{word}'")
    assert "no UTF-8 text" in fails("report", sample, "--metric", word)
    assert "there is no such file" in fails("report", sample.parent / word)
    odd = sample.rename(sample.parent / f"{word}.neap")
    answer = subprocess.run([NEAP, "leaks", odd], capture_output=True, check=True)
    assert b"\\udcff.neap: ./app" in answer.stdout
