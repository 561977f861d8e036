# SPDX-License-Identifier: Apache-2.0
"""What the documentation says, held against the real thing."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from made import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MAN_PAGES = sorted((ROOT / "docs/man").glob("*.[18]"))
SQL = (ROOT / "docs/reference/sql.md").read_text()
Neap = Callable[..., CompletedProcess[str]]


def sections() -> dict[str, str]:
    """The text of each view's section in the reference."""
    parts = re.split(r"^## (\w+)\n", SQL, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_view_is_described(sample: Path) -> None:
    with sqlite3.connect(sample) as db:
        rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'view'")
        assert sorted(sections()) == sorted(name for (name,) in rows)


@pytest.mark.parametrize("view", sections())
def test_columns(sample: Path, view: str) -> None:
    """Names in their order, and the types of the values there are."""
    described = re.findall(r"^\| `(\w+)` \| (\w+) \|", sections()[view], re.MULTILINE)
    with sqlite3.connect(sample) as db:
        if view == "event":
            if not hasattr(db, "enable_load_extension"):
                pytest.skip("this Python's sqlite3 cannot load extensions")
            db.enable_load_extension(True)
            db.load_extension(str(ROOT / "build/lib/libneapsql.so"))
        cursor = db.execute(f"SELECT * FROM {view}")
        assert [name for name, _ in described] == [d[0] for d in cursor.description]
        for row in cursor:
            for (name, kind), value in zip(described, row, strict=True):
                expected = {"integer": int, "text": str, "real": float}[kind]
                assert value is None or type(value) is expected, name


@pytest.mark.parametrize("statement", re.findall(r"```sql\n(.*?)```", SQL, re.DOTALL))
def test_examples(sample: Path, neap: Neap, statement: str) -> None:
    answer = neap("sql", sample, statement)
    assert answer.returncode == 0, answer.stderr


def keys(value: object, path: str = "") -> set[str]:
    """The ways to all leaves of a JSON value, as the reference writes them."""
    if isinstance(value, dict):
        inner = [keys(v, f"{path}.{k}" if path else k) for k, v in value.items()]
    elif isinstance(value, list) and path != "recording.command":
        inner = [keys(v, f"{path}[]") for v in value]
    else:
        return {path}
    return set().union(*inner)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("neap report, neap leaks", ["leaks", "FILE"]),
        ("neap sql", ["sql", "FILE", "SELECT pid, exe, NULL FROM process"]),
        ("neap doctor", ["doctor"]),
    ],
)
def test_keys(sample: Path, neap: Neap, section: str, words: list[str]) -> None:
    text = (ROOT / "docs/reference/json.md").read_text()
    part = text.split(f"## {section}\n")[1].split("\n## ")[0]
    answer = neap(*[sample if w == "FILE" else w for w in words], "--json")
    described = set(re.findall(r"^\| `([\w.\[\]]+)` \|", part, re.MULTILINE))
    assert keys(json.loads(answer.stdout)) == described


@pytest.mark.parametrize("command", ["maps", "errors"])
def test_own_keys(sample: Path, neap: Neap, command: str) -> None:
    """What these have beside recording, loss and frames. Rows of maps are as totals."""
    text = (ROOT / "docs/reference/json.md").read_text()
    part = text.split(f"## neap {command}\n")[1].split("\n## ")[0]
    described = set(re.findall(r"^\| `([\w.\[\]]+)` \|", part, re.MULTILINE))
    answer = json.loads(neap(command, sample, "--json").stdout)
    own = {
        re.sub(r"(frames)\[\].*", r"\1", way)
        for way in keys(answer)
        if not way.startswith(("recording.", "loss."))
    }
    if command == "maps":
        rows = {way for way in own if way.startswith("rows[]")}
        own -= rows
        totals = {way for way in own if way.startswith("total.")}
        expected = {f"rows[].{way.removeprefix('total.')}" for way in totals}
        assert rows == expected | {"rows[].frames"}
    assert own == described


def test_words_of_loss() -> None:
    """The words that the reference explains are those of the code."""
    table = SQL[SQL.index("| word of `what` | counts |") :]
    state = (ROOT / "daemon/ingest/ingest.h").read_text()
    macro = state[state.index("define NEAP_LOSSES") :]
    macro = macro[: macro.index("enum ")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == re.findall(
        r"X\([A-Z]+, (\w+)\)", macro
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links to files of this tree lead somewhere."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets(page: Path) -> None:
    """Each `make WORD` in the pages is a target that `make help` lists."""
    words = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    text = page.read_text()
    for target in re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE):
        assert re.search(rf"^ +make {target}\b", words, re.MULTILINE), target


@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_page_is_clean(page: Path) -> None:
    if mandoc := shutil.which("mandoc"):
        words = [mandoc, "-Tlint", "-Wwarning"]
    elif groff := shutil.which("groff"):
        words = [groff, "-mdoc", "-ww", "-Tutf8", "-z"]
    else:
        pytest.skip("neither mandoc nor groff is installed")
    answer = subprocess.run(
        [*words, str(page)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def build_tutorial(name: str, directory: Path, *flags: str) -> None:
    """Compile one of the tutorial's programs, as it is printed there."""
    text = (ROOT / "docs/tutorial.md").read_text()
    (source,) = re.findall(rf"^```c {name}\.c\n(.*?)^```", text, re.DOTALL | re.M)
    (directory / f"{name}.c").write_text(source)
    subprocess.run(
        ["gcc", "-g", *flags, f"{name}.c", "-o", name],
        cwd=directory,
        timeout=60,
        check=True,
    )


def record(directory: Path, command: list[str], given: str = "") -> Path:
    output = directory / "tutorial.neap"
    subprocess.run(
        [str(ROOT / "build/bin/neap"), "run", "-q", "-o", str(output), "--", *command],
        cwd=directory,
        input=given,
        text=True,
        timeout=60,
        check=True,
    )
    return output


def test_tutorial_leak(tmp_path: Path, neap: Neap) -> None:
    build_tutorial("words", tmp_path, "-O2")
    lines = "".join(f"{i}\n" for i in range(1, 1001))
    recording = record(tmp_path, ["./words"], lines)
    out = neap("leaks", recording).stdout
    assert "Never freed: 4.8 KiB in 1,000 blocks, by 1 stack, 1 process\n" in out
    assert "/words.c:14 (words) [inlined]\n" in out
    assert "/words.c:35 (words)\n" in out
    out = neap("leaks", recording, "--json").stdout
    assert json.loads(out)["total"]["value"] == 4893
    text = (ROOT / "docs/tutorial.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, "-c", code.replace("words.neap", str(recording))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "build/python")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "\n4893\n" in answer.stdout


def test_tutorial_peak(tmp_path: Path, neap: Neap) -> None:
    build_tutorial("peak", tmp_path, "-O1", "-fno-inline", "-fno-builtin")
    recording = record(tmp_path, ["./peak"])
    out = neap("report", recording).stdout
    assert "Peak: 8.0 MiB in 2 blocks, 1 process\n" in out
    assert "/peak.c:6 (peak)\n" in out
    assert "/peak.c:20 (peak)\n" not in out
    out = neap("report", recording, "--metric", "allocated").stdout
    assert "/peak.c:20 (peak)\n" in out


def test_tutorial_moments(tmp_path: Path, neap: Neap) -> None:
    build_tutorial("cache", tmp_path, "-O1", "-fno-inline", "-fno-builtin")
    recording = record(tmp_path, ["./cache"])
    out = neap("report", recording, "--metric", "allocated", "--by", "size").stdout
    text = (ROOT / "docs/tutorial.md").read_text()
    assert out.split("\n", 1)[1] in text
    about = "SELECT duration_ns / 2e9 FROM recording"
    half = neap("sql", recording, about, "--csv").stdout.splitlines()[1]
    out = neap("report", recording, "--metric", "live", "--at", half).stdout
    assert "/cache.c:9 (cache)\n" in out
    out = neap("report", recording, "--metric", "live", "--from", half).stdout
    assert f"Allocated after {float(half):g} s and still live at the end: " in out


def test_tutorial_extension(tmp_path: Path, neap: Neap) -> None:
    include = sysconfig.get_path("include")
    build_tutorial("shout", tmp_path, "-O2", "-shared", "-fPIC", f"-I{include}")
    (tmp_path / "shout").rename(tmp_path / "shout.so")
    code = "import shout\nfor i in range(1000): shout.upper('a line of text ' * 10)"
    recording = record(tmp_path, [sys.executable, "-c", code])
    statement = """SELECT sum(s.live_bytes), sum(s.live_count) FROM site s
        JOIN frame f ON f.stack_id = s.stack_id AND f.depth = 0
        WHERE f.module LIKE '%/shout.so'"""
    rows = neap("sql", recording, statement, "--csv").stdout.splitlines()
    assert rows[1] == "151000,1000"


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.mark.parametrize(
    "command",
    ["report", "leaks", "maps", "errors", "sql", "switch", "export", "doctor", "run"],
)
def test_man_page_has_every_option(neap: Neap, command: str) -> None:
    """Its section names what --help of the command names, and nothing else."""
    source = (ROOT / "docs/man/neap.1").read_text()
    section = re.split(r"^\.Ss ", source, flags=re.MULTILINE)
    (text,) = [part for part in section if part.split("\n", 1)[0] == f"neap {command}"]
    described = {
        "--" + name
        for line in re.findall(r"^\.It (.*Fl .*)$", text, re.MULTILINE)
        for name in re.findall(r"Fl Fl ([a-z-]+)", line)
    }
    shown = options_of(neap(command, "--help").stdout.split("\nexample:")[0])
    shown -= {"--help", "--version"}
    assert described == shown


def test_session_of_readme(neap: Neap) -> None:
    """The first screen shows lines as the program writes them."""
    readme = (ROOT / "README.md").read_text()
    assert "exact: every event counted, nothing lost" in readme
    tally = (ROOT / "daemon/tally.c").read_text()
    for words in (" in all", "peak ", "never freed: ", "written to "):
        assert words in tally
        assert words in readme
    shown = re.findall(r"^\| `neap (\w+)", readme, re.MULTILINE)
    listed = re.findall(r"^  (\w+) ", neap("--help").stdout, re.MULTILINE)
    assert set(shown) <= set(listed)
