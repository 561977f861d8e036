# SPDX-License-Identifier: Apache-2.0
"""Files that are no good recordings: one line, status 2, never a traceback."""

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import neaptide
import pytest
from made import ROOT, Maker, make_sample

NEAP = str(ROOT / "build/bin/neap")
COMMANDS: list[list[str]] = [
    ["report", "FILE"],
    ["report", "FILE", "--json"],
    ["leaks", "FILE"],
    ["sql", "FILE", "SELECT * FROM site"],
    ["export", "FILE", "--format", "collapsed"],
]
NOBODY = 65534
Answer = subprocess.CompletedProcess[str]


def missing(path: Path) -> None:
    assert not path.exists()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("hello " * 1000)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(65536))


def program(path: Path) -> None:
    shutil.copy("/bin/true", path)


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recording (x)")
    db.close()


def newer(path: Path) -> None:
    make_sample(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()


def no_migration(path: Path) -> None:
    make_sample(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 0")
    db.close()


def header_only(path: Path) -> None:
    make_sample(path)
    os.truncate(path, 100)


def half(path: Path) -> None:
    make_sample(path)
    os.truncate(path, path.stat().st_size // 2)


def no_rows(path: Path) -> None:
    make_sample(path)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM raw_recording")
    db.close()


def no_tables(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA application_id = {0x4E656170}")
        db.execute("PRAGMA user_version = 1")
    db.close()


def missing_frame(path: Path) -> None:
    make_sample(path)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM raw_frame")
    db.close()


def no_list(path: Path) -> None:
    make_sample(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE raw_stack SET frames = '{\"a\": 1}'")
    db.close()


CASES = {
    missing: (neaptide.MissingFileError, "there is no such file"),
    dangling: (neaptide.MissingFileError, "there is no such file"),
    empty: (neaptide.Error, ""),
    text: (neaptide.ForeignFileError, ""),
    zeros: (neaptide.ForeignFileError, ""),
    program: (neaptide.ForeignFileError, ""),
    directory: (neaptide.Error, "directory"),
    fifo: (neaptide.Error, ""),
    unix_socket: (neaptide.Error, ""),
    foreign: (neaptide.ForeignFileError, ""),
    newer: (neaptide.NewerFileError, ""),
    no_migration: (neaptide.Error, ""),
    header_only: (neaptide.DamagedFileError, ""),
    half: (neaptide.DamagedFileError, ""),
    no_tables: (neaptide.DamagedFileError, ""),
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_files(
    fails: Callable[..., str], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "bad.neap"
    make(path)
    exception, words = CASES[make]
    with pytest.raises(exception) as caught, neaptide.open(path) as rec:
        rec.report()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for command in COMMANDS:
        line = fails(*[str(path) if word == "FILE" else word for word in command])
        assert str(path) in line
        assert words in line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_rows, "holds nothing yet"),
        (missing_frame, "names a frame that is missing"),
        (no_list, "is no list of frames"),
    ],
)
def test_rows_that_contradict_each_other(
    fails: Callable[..., str],
    tmp_path: Path,
    make: Callable[[Path], None],
    message: str,
) -> None:
    path = tmp_path / "bad.neap"
    make(path)
    for command in ("report", "leaks"):
        assert message in fails(command, path)
        assert message in fails(command, path, "--json")


@pytest.mark.parametrize(
    "frames",
    ["", "[", "[1", "[1,", "[1,]", "[1 2]", "[1]]", "1", "[a]", "[1.5]", "[,]"],
)
def test_stacks_that_are_no_lists(tmp_path: Path, frames: str) -> None:
    with Maker(tmp_path / "x.neap") as make:
        make.frame("f")
        make.db.execute("INSERT INTO raw_stack VALUES (1, ?, 0)", [frames])
        make.site(make.process(1), 1, peak=(1, 1))
    with neaptide.open(make.path) as rec, pytest.raises(neaptide.DamagedFileError):
        rec.report()


def test_every_page_corrupted(tmp_path: Path) -> None:
    """Any answer but a crash, a traceback or a hang will do; most are errors."""
    good = make_sample(tmp_path / "good.neap").read_bytes()
    path = tmp_path / "bad.neap"
    page, errors = 8192, 0
    for start in range(0, len(good), page):
        for fill in (b"\xff", b"\0"):
            # The first page keeps its header, or it would be no recording at all.
            keep = 100 if start == 0 else 0
            path.write_bytes(
                good[: start + keep] + fill * (page - keep) + good[start + page :]
            )
            try:
                with neaptide.open(path) as rec:
                    rec.report("live", limit=None).collapsed()
                    rec.leaks()
                    list(rec.processes)
                    list(rec.live())
            except (neaptide.DamagedFileError, neaptide.ForeignFileError):
                errors += 1
    assert errors >= len(good) // page


def test_every_command_on_corrupted_pages(
    fails: Callable[..., str], tmp_path: Path
) -> None:
    good = make_sample(tmp_path / "good.neap").read_bytes()
    path = tmp_path / "bad.neap"
    path.write_bytes(good[:8192] + b"\xff" * (len(good) - 8192))
    for command in COMMANDS:
        line = fails(*[str(path) if word == "FILE" else word for word in command])
        assert str(path) in line


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that another user can look into."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o700)
    shutil.rmtree(path)


def as_other_user(*words: str) -> subprocess.CompletedProcess[str]:
    """Run neap without root's privileges."""
    user = NOBODY if os.geteuid() == 0 else None
    answer = subprocess.run(
        ["true"] if user is None else [NEAP, "--version"],
        user=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip("another user may not enter the build directory")
    return subprocess.run(
        [NEAP, *words],
        user=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_permission(public_directory: Path) -> None:
    path = make_sample(public_directory / "x.neap")
    path.chmod(0)
    answer = as_other_user("report", str(path))
    assert answer.returncode == 2
    assert answer.stderr.startswith("neap: ")
    assert answer.stderr.count("\n") == 1
    assert "ermission denied" in answer.stderr


def test_read_only_directory(public_directory: Path) -> None:
    path = make_sample(public_directory / "x.neap")
    path.chmod(0o444)
    public_directory.chmod(0o555)
    answer = as_other_user("report", str(path))
    assert answer.stderr == ""
    assert answer.returncode == 0
    assert "Peak: 1.1 KiB" in answer.stdout


def test_wal_file_that_was_left_behind(tmp_path: Path) -> None:
    """The writer was killed: what it committed lies in the log."""
    path = make_sample(tmp_path / "x.neap")
    copy = tmp_path / "copy.neap"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("UPDATE raw_site SET peak_bytes = peak_bytes + 1 WHERE peak_bytes")
        db.commit()
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{copy}{end}")
    db.close()
    with neaptide.open(copy) as rec:
        assert rec.report().total.value == 1154


def test_copy_of_a_recording_that_goes_on(
    fails: Callable[..., str], neap: Callable[..., Answer], tmp_path: Path
) -> None:
    """All but the first page lies in the log: a copy without it holds nothing."""
    source = sqlite3.connect(make_sample(tmp_path / "source.neap"))
    live, copy = tmp_path / "live.neap", tmp_path / "copy.neap"
    with sqlite3.connect(live) as db:
        db.execute("PRAGMA page_size = 8192")
        db.execute(f"PRAGMA application_id = {0x4E656170}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        source.backup(db)
    source.close()
    shutil.copy(live, copy)
    line = fails("report", copy)
    assert f"{copy} holds nothing: if it was copied during the recording" in line
    assert "-wal file" in line
    assert '.backup COPY"' in line
    shutil.copy(f"{live}-wal", f"{copy}-wal")
    assert "Peak: 1.1 KiB" in neap("report", copy).stdout
    copy.unlink()
    Path(f"{copy}-wal").unlink()
    Path(f"{copy}-shm").unlink(missing_ok=True)
    with sqlite3.connect(copy) as into:
        db.backup(into)
    into.close()
    db.close()
    assert "Peak: 1.1 KiB" in neap("report", copy).stdout
