# SPDX-License-Identifier: Apache-2.0
"""The view event in other programs' SQLite, by libneapsql.so."""

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from made import ROOT
from model import Model, make_process

LIBRARY = ROOT / "build/lib/libneapsql.so"

needs_loading = pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"),
    reason="this Python's sqlite3 cannot load extensions",
)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(make_process(100, 1000, 3), make_process(200, 300, 4, start=5000))


@pytest.fixture(scope="module")
def path(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.write(tmp_path_factory.mktemp("loadable") / "app.neap")


def connect(path: str | Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.enable_load_extension(True)
    return db


@needs_loading
@pytest.mark.parametrize("name", [LIBRARY, LIBRARY.with_suffix("")])
def test_python(path: Path, model: Model, name: Path) -> None:
    db = connect(path)
    db.load_extension(str(name))
    count = sum(len(process.events) for process in model.processes)
    assert db.execute("SELECT count(*) FROM event").fetchone() == (count,)
    rows = db.execute("SELECT * FROM event WHERE pid = 200").fetchall()
    assert [row[0] for row in rows] == [e.ts for e in model.processes[1].events]
    # What every event adds up to is what the aggregates say.
    live = db.execute(
        "SELECT stack_id, sum(iif(op IN ('free', 'realloc_free'), -size, size)) AS live"
        " FROM event WHERE size IS NOT NULL GROUP BY stack_id HAVING live > 0"
    ).fetchall()
    sites = db.execute(
        "SELECT stack_id, sum(live_bytes) AS live FROM site GROUP BY stack_id"
        " HAVING live > 0"
    ).fetchall()
    assert sorted(live) == sorted(sites)
    db.close()


@needs_loading
def test_the_table_cannot_be_changed_or_made_again(path: Path) -> None:
    db = connect(path)
    db.load_extension(str(LIBRARY))
    for statement in (
        "DELETE FROM event",
        "INSERT INTO neap_events (pid) VALUES (1)",
        "CREATE VIRTUAL TABLE mine USING neap_events",
    ):
        with pytest.raises(sqlite3.Error):
            db.execute(statement)
    db.execute("PRAGMA trusted_schema = OFF")
    assert db.execute("SELECT count(*) FROM event").fetchone()[0] > 0
    db.close()


@needs_loading
@pytest.mark.parametrize("name", [":memory:", "other.db"])
def test_no_recording(tmp_path: Path, name: str) -> None:
    db = connect(name if name.startswith(":") else tmp_path / name)
    db.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError, match="this database is no recording"):
        db.load_extension(str(LIBRARY))
    db.close()


@needs_loading
def test_recordings_of_other_kinds(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.neap"
    copy.write_bytes(path.read_bytes())
    with sqlite3.connect(copy) as plain:
        plain.execute("PRAGMA user_version = 99")
    db = connect(copy)
    with pytest.raises(sqlite3.OperationalError, match="has format 99"):
        db.load_extension(str(LIBRARY))
    db.execute("PRAGMA user_version = 1")
    db.execute("DROP TABLE raw_events")
    with pytest.raises(sqlite3.OperationalError, match="no table of events"):
        db.load_extension(str(LIBRARY))
    db.close()


@needs_loading
def test_damage_is_named(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.neap"
    copy.write_bytes(path.read_bytes())
    db = connect(copy)
    db.execute("UPDATE raw_events SET data = x'0102' WHERE id = 2")
    db.load_extension(str(LIBRARY))
    with pytest.raises(
        sqlite3.DatabaseError, match=r"copy\.neap: events 100 to 199 of process 100 \("
    ):
        db.execute("SELECT count(*) FROM event").fetchone()
    assert db.execute("SELECT count(*) FROM event WHERE pid = 200").fetchone()[0] > 0
    db.close()


def shell(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("sqlite3")
    if program is None:
        pytest.skip("sqlite3 is not installed")
    return subprocess.run(
        [program, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_shell_loads_it(path: Path, model: Model) -> None:
    load = f".load {LIBRARY.with_suffix('')}"
    answer = shell(path, "-cmd", load, "SELECT count(*) FROM event WHERE pid = 100")
    assert answer.stderr == ""
    assert answer.stdout == f"{len(model.processes[0].events)}\n"
    answer = shell(":memory:", "-cmd", load, "SELECT 1")
    assert "this database is no recording: open one that 'neap run'" in answer.stderr


def test_other_views_need_nothing(path: Path) -> None:
    answer = shell(path, "SELECT count(*) FROM process; SELECT count(*) FROM event")
    assert answer.stdout == "2\n"
    assert "neap_events" in answer.stderr
