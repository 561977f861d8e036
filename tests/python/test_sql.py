# SPDX-License-Identifier: Apache-2.0
"""Recording.sql(): values both ways, what is refused, signals and threads."""

import signal
import threading
import time
from collections import UserDict
from pathlib import Path

import neaptide
import pytest


def test_sql(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        table = rec.sql("SELECT 1 AS a, 'x', 2.5, NULL, x'00ff'")
        assert table.columns[0] == "a"
        assert list(table) == [(1, "x", 2.5, None, b"\x00\xff")]
        assert table[-1] == table[0]
        with pytest.raises(IndexError):
            table[1]
        values = (1, 2.5, "a\0b", b"\0", None, -(2**63))
        assert rec.sql("SELECT ?, ?, ?, ?, ?, ?", values)[0] == values
        assert repr(rec.sql("SELECT 1 AS one")) == "<Table ('one',), rows: 1>"
        assert len(rec.sql("SELECT 1 WHERE 0; -- nothing")) == 0
        many = rec.sql(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 5000)"
            " SELECT x, 'row ' || x FROM n"
        )
        assert list(many) == [(i, f"row {i}") for i in range(1, 5001)]
        assert rec.sql("SELECT count(*) FROM frame")[0] == (8,)
        assert len(rec.sql("PRAGMA table_info(site)")) == 16
        assert len(rec.sql("EXPLAIN SELECT 1")) > 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM raw_site",
        "UPDATE raw_site SET live_count = 0",
        "INSERT INTO raw_module VALUES (99, '', '')",
        "CREATE TABLE t (x)",
        "CREATE TEMP TABLE t (x)",
        "DROP VIEW site",
        "ATTACH ':memory:' AS other",
        "VACUUM INTO '/dev/null'",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = 0",
        "BEGIN",
        "SAVEPOINT s",
        "SELECT load_extension('x')",
    ],
)
def test_sql_only_reads(sample: Path, statement: str) -> None:
    before = sample.read_bytes()
    with neaptide.open(sample) as rec, pytest.raises(neaptide.SqlError, match="SQL:"):
        rec.sql(statement)
    assert sample.read_bytes() == before
    assert [p.name for p in sample.parent.iterdir()] == [sample.name]


@pytest.mark.parametrize(
    ("statement", "values", "message"),
    [
        ("SELEC 1", (), "syntax error"),
        ("SELECT * FROM nowhere", (), "no such table: nowhere"),
        ("", (), "no statement"),
        ("-- nothing", (), "no statement"),
        ("/* open", (), "no statement"),
        ("SELECT 1; SELECT 2", (), "one statement"),
        ("SELECT ?", (), "has 1 parameters and 0"),
        ("SELECT 1", (1,), "has 0 parameters and 1"),
        ("SELECT abs(-9223372036854775808)", (), "overflow"),
    ],
)
def test_bad_sql(
    sample: Path, statement: str, values: tuple[int, ...], message: str
) -> None:
    with neaptide.open(sample) as rec:
        with pytest.raises(neaptide.SqlError, match=message):
            rec.sql(statement, values)
        assert rec.sql("SELECT 1")[0] == (1,)


def test_bad_parameters(sample: Path) -> None:
    with neaptide.open(sample) as rec:
        with pytest.raises(neaptide.UsageError, match="must be int, float"):
            rec.sql("SELECT ?", [object()])
        for number in (2**63, -(2**63) - 1, 10**40):
            with pytest.raises(neaptide.UsageError, match="must fit in 64 bits"):
                rec.sql("SELECT ?", [number])
            with pytest.raises(neaptide.UsageError, match="limit must fit in 64 bits"):
                rec.report(limit=number)
            with pytest.raises(neaptide.UsageError, match="pid must fit in 64 bits"):
                rec.leaks(pid=number)
        with pytest.raises(TypeError):
            rec.sql("SELECT ?", 5)
        for mapping in ({"a": 1}, UserDict(a=1)):
            with pytest.raises(TypeError, match="bound by position"):
                rec.sql("SELECT :a", mapping)
        assert rec.sql("SELECT :a", [1])[0] == (1,)
        with pytest.raises(ValueError, match="null"):
            rec.sql("SELECT '\0'")


ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
    " SELECT count(*) FROM n"
)


class Stop(Exception):
    """What the handler of a signal raises."""


def test_a_signal_ends_a_query(sample: Path) -> None:
    def stop(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with neaptide.open(sample) as rec:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Stop):
                rec.sql(ENDLESS)
            assert rec.sql("SELECT 1")[0] == (1,)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_asking_from_within_a_question(sample: Path) -> None:
    said = []

    def ask(number: int, frame: object) -> None:
        try:
            rec.report()
        except neaptide.UsageError as error:
            said.append(str(error))
        raise Stop

    before = signal.signal(signal.SIGALRM, ask)
    try:
        with neaptide.open(sample) as rec:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Stop):
                rec.sql(ENDLESS)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(said) == 1
    assert "this very thread" in said[0]


def test_queries_release_the_gil(sample: Path) -> None:
    # The main thread can only get to its last line while the other one is asking.
    asking = threading.Event()
    answers = []

    def ask() -> None:
        asking.set()
        answers.append(
            rec.sql(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n"
                " LIMIT 3000000) SELECT count(*) FROM n"
            )[0]
        )

    with neaptide.open(sample) as rec:
        thread = threading.Thread(target=ask)
        thread.start()
        asking.wait()
        time.sleep(0.01)
        turns = 0
        while thread.is_alive():
            turns += 1
            thread.join(0.001)
    assert answers == [(3000000,)]
    assert turns > 1


def test_many_threads_ask_one_recording(sample: Path) -> None:
    answers = []

    def ask() -> None:
        for _ in range(50):
            answers.append(rec.report("live").total.value)

    with neaptide.open(sample) as rec:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [1431] * 400
