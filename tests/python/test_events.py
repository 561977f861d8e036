# SPDX-License-Identifier: Apache-2.0
"""Questions that take the events, against a model that goes through them one by one."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neaptide
import pytest
from model import Block, Model, make_process

METRICS = ("live", "peak", "allocated", "temporary")
CHUNK = 100


@pytest.fixture(scope="module")
def model() -> Model:
    """Two processes, the second later than the first."""
    return Model(make_process(100, 2000, 1), make_process(200, 1111, 2, start=10**8))


@pytest.fixture(scope="module")
def path(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.write(tmp_path_factory.mktemp("events") / "events.neap", CHUNK)


def rows(answer: neaptide.Report) -> dict[object, list[int]]:
    """A report as the model has it."""
    key: Callable[[neaptide.Row], object] = {
        "stack": lambda row: row.stack_id,
        "thread": lambda row: (row.pid, row.tid),
        "size": lambda row: row.min_size,
    }[answer.by]
    found = {key(row): [row.value, row.count] for row in answer}
    values = [row.value for row in answer]
    assert values == sorted(values, reverse=True)
    assert answer.total.value == sum(values)
    assert answer.total.count == sum(row.count for row in answer)
    assert answer.stacks == len(answer) == len(found)
    return found


def seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def times(model: Model) -> list[int]:
    """Moments of all kinds: none, between, on an event, at a peak, the end."""
    events = [e for p in model.processes for e in p.events]
    stamps = sorted({e.ts for e in events})
    peak = max(
        p.events[model.peak(p, 0, len(p.events)) - 1].ts for p in model.processes
    )
    spread = stamps[:: len(stamps) // 8]
    return [0, *spread, spread[3] + 1, peak, peak - 1, stamps[-1], model.end()]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("by", ["stack", "thread", "size"])
def test_at_a_time(path: Path, model: Model, metric: str, by: str) -> None:
    with neaptide.open(path) as rec:
        for at in times(model):
            answer = rec.report(metric, None, at=seconds(at), by=by)
            assert rows(answer) == model.ask(metric, by, end=at), at
        assert rows(rec.report(metric, None, by=by)) == model.ask(metric, by)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("by", ["stack", "thread", "size"])
def test_between_two_times(path: Path, model: Model, metric: str, by: str) -> None:
    moments = times(model)
    with neaptide.open(path) as rec:
        for start in [None, *moments[::2]]:
            for end in [None, *moments[1::2]]:
                if start is not None and end is not None and start > end:
                    continue
                answer = rec.report(
                    metric, None, start=seconds(start), end=seconds(end), by=by
                )
                expected = model.ask(metric, by, start=start, end=end)
                assert rows(answer) == expected, (start, end)


CHOICES: list[tuple[dict[str, Any], Callable[[Block], bool]]] = [
    ({"tid": 101}, lambda b: b.owner == 101),
    ({"tid": 200}, lambda b: b.owner == 200),
    ({"min_size": 2}, lambda b: b.size >= 2),
    ({"max_size": 24}, lambda b: b.size <= 24),
    ({"min_size": 24, "max_size": 24}, lambda b: b.size == 24),
    ({"max_size": 0}, lambda b: b.size == 0),
    ({"tid": 102, "min_size": 100}, lambda b: b.owner == 102 and b.size >= 100),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("choice", "wants"), CHOICES, ids=[str(c) for c, _ in CHOICES])
def test_some_blocks(
    path: Path,
    model: Model,
    metric: str,
    choice: dict[str, Any],
    wants: Callable[[Block], bool],
) -> None:
    moments = times(model)
    with neaptide.open(path) as rec:
        assert rows(rec.report(metric, None, **choice)) == model.ask(
            metric, wants=wants
        )
        for at in moments[1::3]:
            answer = rec.report(metric, None, at=seconds(at), by="size", **choice)
            assert rows(answer) == model.ask(metric, "size", wants, end=at)
            start, end = moments[1], moments[-2]
            answer = rec.report(
                metric, None, start=seconds(start), end=seconds(end), **choice
            )
            assert rows(answer) == model.ask(metric, "stack", wants, start, end)


def test_one_process(path: Path, model: Model) -> None:
    at = times(model)[6]
    with neaptide.open(path) as rec:
        for metric in METRICS:
            answer = rec.report(metric, None, at=seconds(at), pid=200)
            assert rows(answer) == model.ask(metric, end=at, pid=200)


def test_what_rows_tell(path: Path) -> None:
    with neaptide.open(path) as rec:
        by_thread = rec.report("live", None, by="thread")
        row = next(row for row in by_thread if row.tid == 101)
        assert (row.pid, row.thread, row.frames, row.stack_id) == (
            100,
            "thread 1",
            (),
            None,
        )
        assert (row.min_size, row.max_size) == (None, None)
        assert "of thread 101>" in repr(row)
        assert "3 of 6 threads" in repr(rec.report("live", 3, by="thread"))
        sizes = rec.report("live", None, by="size")
        assert {(r.min_size, r.max_size) for r in sizes} <= {
            (0, 0),
            (1, 1),
            (2, 3),
            (16, 31),
            (64, 127),
            (4096, 8191),
            (65536, 131071),
        }
        assert "of sizes " in repr(sizes[0])
        assert sizes[0].tid is None
        assert sizes[0].pid is None
        assert sizes[0].thread is None


def cut(
    path: Path, tmp_path: Path, chunks: int, blocks: bool = True
) -> tuple[Path, int]:
    """A copy without the first chunks of process 1, and from when it holds events."""
    copy = tmp_path / "cut.neap"
    copy.write_bytes(path.read_bytes())
    with sqlite3.connect(copy) as db:
        first = chunks * CHUNK
        db.execute("DELETE FROM raw_events WHERE process = 1 AND first < ?", [first])
        ((t0,),) = db.execute(
            "SELECT coalesce(min(t0), 0) FROM raw_events WHERE process = 1"
        )
        db.execute(
            "UPDATE raw_process SET event_first = ?, event_first_ns = ? WHERE id = 1",
            [first, t0],
        )
        if not blocks:
            db.execute("DELETE FROM raw_live")
    return copy, t0


def test_backwards_is_forwards(path: Path, model: Model, tmp_path: Path) -> None:
    """After retention only the way from the end is open: it finds the same."""
    copy, t0 = cut(path, tmp_path, 10)
    moments = [t for t in times(model) if t >= t0]
    assert len(moments) > 4
    with neaptide.open(copy) as rec:
        for at in moments:
            for metric in ("live", "allocated", "temporary"):
                answer = rec.report(metric, None, at=seconds(at))
                assert rows(answer) == model.ask(metric, end=at)
            for by in ("thread", "size"):
                answer = rec.report("live", None, at=seconds(at), by=by)
                assert rows(answer) == model.ask("live", by, end=at)
            answer = rec.report("live", None, at=seconds(at), tid=101, min_size=2)
            assert rows(answer) == model.ask(
                "live", wants=lambda b: b.owner == 101 and b.size >= 2, end=at
            )
        for metric in METRICS:
            answer = rec.report(
                metric, None, start=seconds(moments[0]), end=seconds(moments[-3])
            )
            assert rows(answer) == model.ask(metric, start=moments[0], end=moments[-3])
            assert rows(rec.report(metric, None)) == model.ask(metric)


def test_what_retention_took_is_said(path: Path, model: Model, tmp_path: Path) -> None:
    copy, t0 = cut(path, tmp_path, 19)
    left = f"what process 100 did before {t0 / 1e9:.9f}".rstrip("0")
    with neaptide.open(copy) as rec:
        for question in (
            {"at": (t0 - 1) / 1e9},
            {"at": t0 / 2e9},
            {"start": t0 / 2e9},
            {"end": t0 / 2e9},
            {"at": t0 / 1e9, "metric": "allocated", "by": "thread"},
            {"metric": "temporary", "by": "size"},
        ):
            with pytest.raises(neaptide.UsageError, match=left) as error:
                rec.report(**question)  # type: ignore[arg-type]
            assert "--max-size" in str(error.value)
            assert "\n" not in str(error.value)
        held = f"{t0 / 1e9:.9f}"
        for times in ((), (t0 / 2e9,), (None, t0 / 2e9), (None, None, 100)):
            with pytest.raises(neaptide.UsageError, match=f"before {held} s: give"):
                rec.events(*times)
        assert len(rec.events(t0 / 1e9)) > 0
        assert len(rec.events(pid=200)) == len(model.processes[1].events)
        # The other process has all of it, and this one's peak is known.
        expected = model.ask("live", end=t0 // 2, pid=200)
        assert rows(rec.report("live", None, at=t0 / 2e9, pid=200)) == expected
        assert rows(rec.report("peak", None, at=model.end() / 1e9)) == model.ask("peak")


def test_without_any_events(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "none.neap"
    copy.write_bytes(path.read_bytes())
    with sqlite3.connect(copy) as db:
        db.execute("DELETE FROM raw_events")
    with neaptide.open(copy) as rec:
        with pytest.raises(
            neaptide.UsageError, match="no single events of process 100"
        ):
            rec.report(at=0.5)
        # Blocks that were never freed are there one by one.
        assert sum(row.value for row in rec.report("live", None, by="thread")) == (
            rec.report("live").total.value
        )
    with sqlite3.connect(copy) as db:
        db.execute("UPDATE raw_process SET event_count = 0")
    with (
        neaptide.open(copy) as rec,
        pytest.raises(neaptide.UsageError, match=r"dormant all the time.*neap switch"),
    ):
        rec.report(at=0.5)
    with sqlite3.connect(copy) as db:
        db.execute("INSERT INTO raw_switch VALUES (1, 0, 'off'), (2, 9, 'exact')")
    with neaptide.open(copy) as rec:
        assert rec.report(at=0.5).total.value == 0


def test_running_processes_have_no_blocks_yet(
    path: Path, model: Model, tmp_path: Path
) -> None:
    copy, t0 = cut(path, tmp_path, 0, blocks=False)
    with neaptide.open(copy) as rec:
        for at in times(model):
            answer = rec.report("live", None, at=seconds(at), by="size")
            assert rows(answer) == model.ask("live", "size", end=at)
    copy, t0 = cut(path, tmp_path, 5, blocks=False)
    with neaptide.open(copy) as rec:
        with pytest.raises(neaptide.UsageError, match="no longer holds"):
            rec.report("live", at=model.end() / 1e9, by="thread")
        assert rows(rec.report("live", None, at=t0 / 1e9)) == model.ask("live", end=t0)


def damage(path: Path, tmp_path: Path, change: str) -> Path:
    copy = tmp_path / "damaged.neap"
    copy.write_bytes(path.read_bytes())
    with sqlite3.connect(copy) as db:
        assert db.execute(change).rowcount > 0
    return copy


DAMAGES = [
    "UPDATE raw_events SET data = substr(data, 1, length(data) - 9) WHERE id = 8",
    "UPDATE raw_events SET data = x'' WHERE id = 8",
    "UPDATE raw_events SET data = (SELECT data FROM raw_events WHERE id = 9)"
    " WHERE id = 8",
    "UPDATE raw_events SET t1 = t1 - 1 WHERE id = 8",
    "UPDATE raw_events SET t0 = 0 WHERE id = 8",
    "UPDATE raw_events SET count = 99 WHERE id = 8",
    "UPDATE raw_events SET count = -5 WHERE id = 8",
    "UPDATE raw_events SET count = 1 << 40 WHERE id = 8",
    "DELETE FROM raw_events WHERE id = 8",
]


@pytest.mark.parametrize("change", DAMAGES)
def test_damage(path: Path, model: Model, tmp_path: Path, change: str) -> None:
    """One of 20 chunks of the first process: what goes around it still answers."""
    copy = damage(path, tmp_path, change)
    with sqlite3.connect(path) as db:
        ((t0, t1),) = db.execute("SELECT t0, t1 FROM raw_events WHERE id = 8")
    with neaptide.open(copy) as rec:
        for metric in METRICS:
            assert rows(rec.report(metric, None)) == model.ask(metric)
        for at in (t0 - 1, t1 + 1, model.end()):
            answer = rec.report("live", None, at=seconds(at))
            assert rows(answer) == model.ask("live", end=at), at
        for question in (
            {"metric": "live", "at": (t0 + 1) / 1e9},
            {"metric": "peak", "start": (t0 - 1) / 1e9, "end": (t1 + 1) / 1e9},
            {"metric": "allocated", "by": "thread"},
            {"metric": "live", "start": 0.000001},
        ):
            with pytest.raises(
                neaptide.DamagedFileError, match=r"events 7\d\d to \d+ of process 100 "
            ) as error:
                rec.report(**question)  # type: ignore[arg-type]
            assert "\n" not in str(error.value)
            assert str(copy) in str(error.value)
        assert rec.report("live", at=(t0 + 1) / 1e9, pid=200).total.value > 0


OPS = {
    "a": "alloc",
    "f": "free",
    "x": "free",
    "ar": "realloc_alloc",
    "fr": "realloc_free",
    "xr": "realloc_free",
    "ur": "realloc_fail",
}


def table(model: Model) -> list[tuple[Any, ...]]:
    """The view event as it must be."""
    found: list[tuple[Any, ...]] = []
    for process in model.processes:
        for number, event in enumerate(process.events):
            block = event.block
            op = OPS[event.op.replace("t", "").replace("i", "")]
            head = (event.ts, process.pid, event.tid, op, block.address)
            if event.op[0] == "x":
                found.append((*head, None, None, None, None, 0, number))
                continue
            stack = model.stack_of.get(block.site, model.unknown)
            rest = (block.size, stack, block.size, block.owner)
            found.append((*head, *rest, int("t" in event.op), number))
    return found


def test_view(path: Path, model: Model) -> None:
    expected = table(model)
    with neaptide.open(path) as rec:
        assert list(rec.sql("SELECT * FROM event")) == expected
        assert list(rec.events()) == expected
        assert rec.events().columns == (
            *("ts_ns", "pid", "tid", "op", "address", "size", "stack_id"),
            *("weight", "owner_tid", "temporary", "number"),
        )
        low, high = times(model)[3], times(model)[6]
        chosen = [row for row in expected if low < row[0] <= high]
        assert chosen
        assert list(rec.events(low / 1e9, high / 1e9)) == chosen
        assert list(rec.events(low / 1e9, high / 1e9, pid=200)) == [
            row for row in chosen if row[1] == 200
        ]
        assert list(rec.events(low / 1e9, tid=101)) == [
            row for row in expected if row[0] > low and row[2] == 101
        ]
        assert list(rec.events(0, 0)) == [row for row in expected if row[0] == 0]
        with pytest.raises(neaptide.UsageError, match="start is after end"):
            rec.events(2, 1)


@pytest.mark.parametrize(
    ("condition", "keeps"),
    [
        ("ts_ns = {t}", lambda row, t: row[0] == t),
        ("ts_ns < {t}", lambda row, t: row[0] < t),
        ("ts_ns <= {t}", lambda row, t: row[0] <= t),
        ("ts_ns > {t}", lambda row, t: row[0] > t),
        ("ts_ns >= {t} AND ts_ns <= {t}", lambda row, t: row[0] == t),
        ("ts_ns = {t} AND ts_ns > 0", lambda row, t: row[0] == t),
        ("ts_ns > {t} - 0.5", lambda row, t: row[0] >= t),
        ("ts_ns < {t} + 0.5", lambda row, t: row[0] <= t),
        ("ts_ns > 1e300", lambda row, t: False),
        ("ts_ns < 1e300", lambda row, t: True),
        ("ts_ns > '{t}'", lambda row, t: row[0] > t),
        ("ts_ns > NULL", lambda row, t: False),
        ("ts_ns < 'word'", lambda row, t: True),
        ("pid = 200", lambda row, t: row[1] == 200),
        ("pid = 200.0 AND ts_ns > {t}", lambda row, t: row[1] == 200 and row[0] > t),
        ("pid = 200.5", lambda row, t: False),
        ("pid IN (100, 200) AND ts_ns <= {t}", lambda row, t: row[0] <= t),
        ("pid > 100", lambda row, t: row[1] == 200),
    ],
)
def test_conditions(
    path: Path, model: Model, condition: str, keeps: Callable[[Any, int], bool]
) -> None:
    """What chooses chunks chooses the same rows as a look at each of them."""
    t = times(model)[5]
    expected = [row for row in table(model) if keeps(row, t)]
    with neaptide.open(path) as rec:
        where = condition.format(t=t)
        assert list(rec.sql(f"SELECT * FROM event WHERE {where}")) == expected
        in_order = rec.sql(f"SELECT ts_ns FROM event WHERE {where} ORDER BY ts_ns")
        assert list(in_order) == sorted((row[0],) for row in expected)


def test_order_without_a_sort(model: Model, tmp_path: Path) -> None:
    one = Model(model.processes[0])
    path = one.write(tmp_path / "one.neap")
    statement = "EXPLAIN QUERY PLAN SELECT * FROM event ORDER BY ts_ns"
    with neaptide.open(path) as rec:
        plan = str(list(rec.sql(statement)))
        assert "TEMP B-TREE" not in plan
        plan = str(list(rec.sql(f"{statement} DESC")))
        assert "TEMP B-TREE" in plan
        assert list(rec.sql("SELECT * FROM event ORDER BY ts_ns")) == table(one)
        joined = "SELECT count(*) FROM event e JOIN event f ON f.ts_ns = e.ts_ns"
        stamps = [e.ts for e in one.processes[0].events]
        assert list(rec.sql(joined)) == [(sum(stamps.count(t) for t in stamps),)]


@pytest.mark.parametrize("change", DAMAGES)
def test_view_of_damage(path: Path, model: Model, tmp_path: Path, change: str) -> None:
    copy = damage(path, tmp_path, change)
    with sqlite3.connect(path) as db:
        ((t0, t1),) = db.execute("SELECT t0, t1 FROM raw_events WHERE id = 8")
    with neaptide.open(copy) as rec:
        with pytest.raises(neaptide.DamagedFileError, match="events 7"):
            rec.sql("SELECT * FROM event")
        for where, keeps in (
            (f"ts_ns > {t1 + 1}", lambda row: row[0] > t1 + 1),
            (f"ts_ns < {t0}", lambda row: row[0] < t0),
            ("pid = 200", lambda row: row[1] == 200),
        ):
            if "t0 = 0" in change and where.startswith("ts_ns <"):
                continue  # the row says that it reaches from there
            answer = rec.sql(f"SELECT * FROM event WHERE {where}")
            assert list(answer) == [row for row in table(model) if keeps(row)]


def test_nonsense(path: Path, model: Model) -> None:
    end = f"{model.end() / 1e9:.9f}".rstrip("0")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"at": -1}, f"-1 s is outside the recording: .* covers 0 to {end} s"),
        ({"at": -0.25}, "-0.25 s is outside the recording"),
        ({"at": 1000}, f"1000 s is outside the recording: .* covers 0 to {end} s"),
        ({"start": -2}, "-2 s is outside"),
        ({"end": 1e6}, "1000000 s is outside"),
        ({"start": 0.5, "end": 0.25}, "from 0.5 s to 0.25 s runs backwards"),
        ({"at": 0.1, "start": 0.1}, "one time or about what lies between two"),
        ({"at": float("nan")}, "at must be a number of seconds"),
        ({"at": float("inf")}, "at must be a number of seconds"),
        ({"tid": 7}, "no thread 7 in .*: choose one of 100, 101, 102, 200, 201, 202"),
        ({"tid": 100, "pid": 200}, "no thread 100 in .*: choose one of 200, 201, 202"),
        ({"tid": -1}, "tid must be 0 or more"),
        ({"min_size": 9, "max_size": 8}, "at least 9 and at most 8 bytes"),
        ({"min_size": -1}, "min_size must be 0 or more"),
        ({"max_size": 2**64}, "max_size must fit in 64 bits"),
        ({"by": "module"}, "rows cannot be by 'module': choose stack, thread or size"),
        ({"pid": 7, "at": 0.1}, "no process 7"),
    ]
    with neaptide.open(path) as rec:
        for question, words in wrong:
            with pytest.raises(neaptide.UsageError, match=words) as error:
                rec.report(**question)
            assert "\n" not in str(error.value)
        with pytest.raises(TypeError):
            rec.report(at="now")  # type: ignore[arg-type]
        assert rec.report(at=model.end() / 1e9, metric="live").total.value > 0


QUESTIONS: list[dict[str, Any]] = [
    {"metric": "live", "at": 0.2},
    {"metric": "peak", "at": 0.2},
    {"metric": "live", "start": 0.1, "end": 0.3},
    {"metric": "peak", "start": 0.1, "end": 0.3, "by": "size"},
    {"metric": "temporary", "by": "thread"},
    {"metric": "live", "tid": 101},
]


def check_line(error: Exception) -> None:
    assert "\n" not in str(error)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_by_chance(path: Path, tmp_path: Path, seed: int) -> None:
    """A file with wrong bytes in it: answers or errors of ours, nothing else."""
    whole = path.read_bytes()
    chance = random.Random(seed)
    copy = tmp_path / "wrong.neap"
    answers = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 30)):
            data[chance.randrange(100, len(data))] = chance.randrange(256)
        copy.write_bytes(data)
        try:
            rec = neaptide.open(copy)
        except neaptide.Error as error:
            check_line(error)
            continue
        with rec:
            for question in QUESTIONS:
                try:
                    rec.report(**question)
                    rec.sql("SELECT count(*), sum(size) FROM event")
                    answers += 1
                except neaptide.Error as error:
                    check_line(error)
    assert answers


FORGERIES = [
    "UPDATE raw_events SET first = first + 9223372036854770000 WHERE id = 8",
    "UPDATE raw_events SET first = -9223372036854775808 WHERE id = 8",
    "UPDATE raw_events SET t0 = -5, t1 = 9223372036854775807 WHERE id = 8",
    "UPDATE raw_events SET process = 77",
    "UPDATE raw_process SET event_first = 9223372036854775807",
    "UPDATE raw_process SET event_first = -9223372036854775808",
    "UPDATE raw_process SET event_count = 9223372036854775807",
    "UPDATE raw_process SET event_count = -1",
    "UPDATE raw_process SET peak_event = 9223372036854775807",
    "UPDATE raw_process SET peak_event = -9223372036854775808",
    "UPDATE raw_process SET start_ns = -9223372036854775808",
    "UPDATE raw_process SET event_first = 5, event_first_ns = -9223372036854775808",
    "UPDATE raw_process SET pid = -9223372036854775808",
    "UPDATE raw_recording SET interval = 9223372036854775807",
    "UPDATE raw_recording SET interval = -9223372036854775808",
    "UPDATE raw_recording SET duration_ns = 9223372036854775807",
    "UPDATE raw_live SET size = -1, weight = -1, interval = -9223372036854775808",
    "UPDATE raw_live SET weight = 9223372036854775807",
    "UPDATE raw_site SET live_bytes = -9223372036854775808",
    "UPDATE raw_site SET live_count = 9223372036854775807",
    "UPDATE raw_event_site SET stack = -9223372036854775808",
    "UPDATE raw_event_site SET site = site + 16000000",
    "DELETE FROM raw_process",
    "DELETE FROM raw_recording",
]


@pytest.mark.parametrize("change", FORGERIES)
def test_forged_numbers(path: Path, tmp_path: Path, change: str) -> None:
    copy = damage(path, tmp_path, change)
    with neaptide.open(copy) as rec:
        for question in QUESTIONS:
            try:
                answer = rec.report(**question)
                assert answer.total.value >= 0
                assert all(row.value >= 0 and row.count >= 0 for row in answer)
            except neaptide.Error as error:
                check_line(error)
        try:
            rec.sql("SELECT *, process FROM neap_events ORDER BY ts_ns")
        except neaptide.Error as error:
            check_line(error)
