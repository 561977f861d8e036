# SPDX-License-Identifier: Apache-2.0
"""neap doctor: one row a check, and each check sees what it is there for."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from neaptide import checks, elf

Run = Callable[..., subprocess.CompletedProcess[str]]


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_rows(neap: Run) -> None:
    answer = neap("doctor")
    assert answer.returncode == 0
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    rows = [line.split()[:2] for line in lines[:-1] if not line.startswith(" ")]
    assert [name for name, _ in rows] == list(checks.CHECKS)
    assert {status for _, status in rows} <= {"ok", "warn", "fail"}
    fixes = [line for line in lines if line.lstrip().startswith("fix: ")]
    assert len(fixes) <= sum(status != "ok" for _, status in rows)


def test_this_machine_can_record() -> None:
    for name in ("hook", "collector", "recording", "memfd", "pidfd", "kernel"):
        status, meaning, fix = checks.run_check(checks.CHECKS[name])
        assert (status, fix) == ("ok", None), (name, meaning)


def test_missing_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEAP_HOOK", str(tmp_path / "none.so"))
    monkeypatch.setenv("NEAP_NEAPD", str(tmp_path / "none"))
    for name in ("hook", "collector", "recording"):
        status, _, fix = checks.run_check(checks.CHECKS[name])
        assert status == "fail", name
        assert fix is not None, name


def test_a_collector_that_cannot_be_started(neap: Run, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("text")
    for path, reason in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Permission denied"),
        (text, "Permission denied"),
    ):
        answer = neap("doctor", NEAP_NEAPD=str(path))
        assert answer.stderr == ""
        assert "Error" not in answer.stdout
        lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
        row = lines.index(f"collector fail {path} cannot be started: {reason}")
        assert lines[row + 1] == (
            "fix: set NEAP_NEAPD to its path, or unset it to use neap's own"
        )
        row = lines.index("recording fail nothing can be recorded without neapd")
        assert lines[row + 1] == "fix: see the row collector"
        assert lines[-1] == "2 rows must be put right to record"


def test_a_library_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = tmp_path / "with space.so"
    bad.write_text("no library")
    monkeypatch.setenv("NEAP_HOOK", str(bad))
    status, meaning, fix = checks.check_hook()
    assert status == "fail"
    assert str(bad) in meaning
    assert fix is not None


def test_another_collector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = program(tmp_path / "neapd", "echo neapd 99.0")
    monkeypatch.setenv("NEAP_NEAPD", path)
    status, meaning, _ = checks.check_collector()
    assert status == "warn"
    assert "of release 99.0" in meaning
    program(tmp_path / "neapd", "echo it is broken >&2; exit 1")
    status, meaning, _ = checks.check_collector()
    assert status == "fail"
    assert "it is broken" in meaning
    status, meaning, _ = checks.check_recording()
    assert status == "fail"
    assert "it is broken" in meaning


def test_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    status, meaning, _ = checks.check_socket()
    assert status == "warn"
    assert "nowhere" in meaning
    long = tmp_path / ("x" * 200)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert checks.check_socket()[0] == "fail"
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert checks.check_socket()[0] == "ok"


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    unlimited = resource.RLIM_INFINITY
    limits: dict[int, int] = {}

    def getrlimit(what: int) -> tuple[int, int]:
        value = limits.get(what, unlimited)
        return value, value

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    assert checks.check_limits()[0] == "ok"
    limits = {resource.RLIMIT_AS: 1 << 28}
    assert checks.check_limits()[0] == "fail"
    limits = {resource.RLIMIT_FSIZE: 1 << 20}
    assert checks.check_limits()[:2] == (
        "warn",
        "a recording may grow to 1,048,576 bytes only",
    )
    limits = {resource.RLIMIT_NOFILE: 256}
    assert checks.check_limits()[0] == "warn"


def test_a_check_that_breaks() -> None:
    def broken() -> checks.Outcome:
        raise RuntimeError("what it did not foresee")

    assert checks.run_check(broken) == (
        "fail",
        "RuntimeError: what it did not foresee",
        None,
    )


def test_versions() -> None:
    assert checks.version_of("6.1.0-13-amd64") == (6, 1, 0)
    assert checks.version_of("5.15") == (5, 15)
    assert checks.version_of("6.8.0+deb") == (6, 8)
    assert checks.version_of("x") == ()


def test_debug_file(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int main(void) { return 0; }\n")
    plain, debug = tmp_path / "plain", tmp_path / "debug"
    subprocess.run(["gcc", "-o", plain, source], check=True)
    subprocess.run(["gcc", "-g", "-o", debug, source], check=True)
    assert elf.debug_file(str(debug)) == str(debug)
    assert elf.debug_file(str(plain)) is None
    notes = subprocess.run(
        ["readelf", "-n", plain], capture_output=True, text=True, check=True
    )
    build_id = elf.Elf(str(plain)).build_id
    assert len(build_id) == 40
    assert f"Build ID: {build_id}" in notes.stdout
    for data in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 58, b"x" * 64):
        plain.write_bytes(data)
        with pytest.raises(ValueError, match="ELF"):
            elf.Elf(str(plain))
