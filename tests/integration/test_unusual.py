# SPDX-License-Identifier: Apache-2.0
"""Programs that cannot be recorded, outputs that cannot be written, uninvited peers.

Each time one line that says what is wrong, the promised status, and no traceback.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import (
    NEAP,
    NEAPD,
    Record,
    Recording,
    Result,
    clean_environment,
    collector_of,
    execute,
    require_root,
    target,
    wait_until,
)

HELLO = 'int puts(const char *); int main(void) { puts("hello"); return 3; }\n'
NOBODY = 65534
Compile = Callable[..., Path]


def one_line(result: Result) -> str:
    """The one line for people on standard error."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("neap"), lines[0]
    assert "Traceback" not in result.stderr
    return lines[0]


def refused(record: Record, command: list[str | Path], status: int) -> str:
    """CMD is not started, no recording is left; both commands say so alike."""
    run = record(command, settle=False).expect(status)
    assert run.stdout == ""
    assert not run.path.exists(), "a recording of nothing was left behind"
    line = one_line(run)
    again = execute([NEAP, "run", "-o", run.path, "--", *command]).expect(status)
    assert not run.path.exists()
    assert one_line(again) == line
    return line


def elf32(path: Path) -> Path:
    """A 32-bit executable that would exit with 0, as small as they come."""
    base, entry = 0x08048000, 0x08048000 + 52 + 32
    code = bytes.fromhex("b801000000 31db cd80")
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    fields = (2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header = ident + struct.pack("<HHIIIIIHHHHHH", *fields)
    size = 52 + 32 + len(code)
    load = struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
    path.write_bytes(header + load + code)
    path.chmod(0o755)
    return path


def test_static_program(record: Record, compile_c: Compile) -> None:
    try:
        program = compile_c(HELLO, "-static")
    except AssertionError:
        pytest.skip("no static libc here")
    line = refused(record, [program], 125)
    assert str(program) in line
    assert "static" in line


def test_32_bit_program(record: Record, tmp_path: Path) -> None:
    line = refused(record, [elf32(tmp_path / "old")], 125)
    assert "32-bit" in line


def test_script_of_a_static_interpreter(
    record: Record, compile_c: Compile, tmp_path: Path
) -> None:
    try:
        program = compile_c(HELLO, "-static")
    except AssertionError:
        pytest.skip("no static libc here")
    script = tmp_path / "script"
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    assert "static" in refused(record, [script], 125)


@pytest.mark.parametrize("kind", ["address", "thread", "leak"])
def test_sanitizer(record: Record, compile_c: Compile, kind: str) -> None:
    """gcc's sanitizers bring an allocator that insists on being the first."""
    try:
        program = compile_c(HELLO, f"-fsanitize={kind}", compiler="gcc")
    except AssertionError:
        pytest.skip(f"no library for -fsanitize={kind} here")
    line = refused(record, [program], 125)
    assert str(program) in line
    assert f"-fsanitize={kind}" in line


def test_missing_interpreter(
    record: Record, compile_c: Compile, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\r\nexit 0\r\n")
    script.chmod(0o755)
    assert "/bin/sh\\r" in refused(record, [script], 127)
    script.write_text(f"#!{tmp_path}\n")
    assert f"'{tmp_path}'" in refused(record, [script], 126)
    program = compile_c(HELLO, "-Wl,--dynamic-linker=/nowhere/ld.so")
    assert "/nowhere/ld.so" in refused(record, [program], 127)


def test_missing_program(record: Record, tmp_path: Path) -> None:
    assert "no-such-program" in refused(record, ["no-such-program"], 127)
    refused(record, [tmp_path / "none"], 127)
    refused(record, ["./none"], 127)


def test_not_executable(record: Record, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\nexit 0\n")
    plain.chmod(0o644)
    assert str(plain) in refused(record, [plain], 126)
    refused(record, [tmp_path], 126)


def test_damaged_programs(record: Record, tmp_path: Path) -> None:
    """Refused, or the same failure that execvp's caller would have had."""
    good = Path(target("peak")[0]).read_bytes()
    for name, data in {
        "header-only": good[:64],
        "cut": good[:100],
        "far-headers": good[:32] + b"\xff" * 8 + good[40:4096],
        "other-machine": good[:18] + b"\xf3\x00" + good[20:],
    }.items():
        program = tmp_path / name
        program.write_bytes(data)
        program.chmod(0o755)
        run = record([program], settle=False)
        bare = execute(["/usr/bin/env", program])
        assert run.status in (125, 126, bare.status), f"{name}: {run.stderr}"
        assert run.status != 0, name
        assert run.stdout == ""
        assert "Traceback" not in run.stderr


def test_script_without_interpreter_line(record: Record, tmp_path: Path) -> None:
    """As execvp does: such a file is the shell's."""
    script = tmp_path / "script"
    script.write_text("echo $0 $1; exit 6\n")
    script.chmod(0o755)
    run = record([script, "word"]).expect(6)
    assert run.stdout == f"{script} word\n"
    assert run.rec.expect_whole().process()["exe"].endswith(("/dash", "/bash", "/sh"))


def test_script_with_interpreter_line(record: Record, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\necho $1; exit 7\n")
    script.chmod(0o755)
    assert record([script, "word"]).expect(7).stdout == "word\n"


def test_found_in_path(record: Record, tmp_path: Path) -> None:
    """The first executable of that name in PATH, which may lack the earlier ones."""
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, mode in ((first, 0o644), (second, 0o755)):
        directory.mkdir()
        (directory / "thing").write_text("#!/bin/sh\necho here\n")
        (directory / "thing").chmod(mode)
    env = {"PATH": f"{first}:/nonexistent:{second}:/usr/bin:/bin"}
    assert record(["thing"], env=env).expect(0).stdout == "here\n"


def test_setuid_program(record: Record, compile_c: Compile, tmp_path: Path) -> None:
    """The kernel drops LD_PRELOAD there: it runs, unrecorded, and that is said."""
    require_root("a setuid program must belong to another user")
    program = compile_c(HELLO)
    os.chown(program, NOBODY, NOBODY)
    program.chmod(0o4755)
    run = record([program], settle=False)
    run.expect(3)
    assert run.stdout == "hello\n"
    argv = [NEAPD, "run", "-o", tmp_path / "loud.neap", "--", program]
    assert "unhooked" in execute(argv).expect(3).stderr


def test_output_exists(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "there.neap"
    argv = [NEAPD, "run", "--quiet", "-o", path, "--", *target("peak", "phases")]
    execute(argv).expect(0)
    before = path.read_bytes()
    again = execute(argv).expect(125)
    assert "--force" in one_line(again)
    assert again.stdout == ""
    assert path.read_bytes() == before
    argv.insert(2, "--force")
    execute(argv).expect(0)
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Recording(path).expect_whole()
    assert rec.site("phase_d")["alloc_count"] == 1
    rec.close()


def test_force_spares_what_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear all")
    words = ["--force", "-o", path, "--", *target("peak", "phases")]
    result = execute([NEAPD, "run", "--quiet", *words]).expect(125)
    assert str(path) in one_line(result)
    assert path.read_text() == "dear all"


@pytest.mark.parametrize("place", ["missing/x.neap", ".", "file/x.neap"])
def test_output_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / place
    argv = [NEAPD, "run", "-o", out, "--", *target("peak", "phases")]
    result = execute(argv).expect(125)
    assert result.stdout == "", "the program was started"
    assert str(out) in one_line(result)


def test_output_directory_is_read_only(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    if os.geteuid() == 0:
        place = Path("/proc/neap-test.neap")  # not even root may write there
    else:
        closed.chmod(0o500)
        place = closed / "x.neap"
    argv = [NEAPD, "run", "-o", place, "--", *target("peak", "phases")]
    result = execute(argv).expect(125)
    assert result.stdout == ""
    assert str(place) in one_line(result)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--no-such-option", "--", "/bin/true"],
        ["--policy", "never", "--", "/bin/true"],
        ["-o"],
        ["--interval", "three", "--", "/bin/true"],
    ],
    ids=" ".join,
)
def test_wrong_usage(tmp_path: Path, words: list[str]) -> None:
    for command in (NEAPD, NEAP):
        result = execute([command, "run", *words], cwd=tmp_path).expect(2)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith(("neap", "usage"))
    assert list(tmp_path.iterdir()) == []


def test_says_where_and_what_next(tmp_path: Path) -> None:
    """Before the start, where to; at the end, a tally and the next commands."""
    words = ["run", "-o", tmp_path / "x.neap", "--", *target("ends", "return")]
    for command in (NEAP, NEAPD):
        result = execute([command, *words], cwd=tmp_path).expect(5)
        assert str(tmp_path / "x.neap") in result.stderr.splitlines()[0]
        assert "neap report" in result.stderr
        assert "neap leaks" in result.stderr
        assert result.stdout == ""
        (tmp_path / "x.neap").unlink()


def test_default_output(tmp_path: Path) -> None:
    argv = [NEAPD, "run", "--", *target("peak", "phases")]
    execute(argv, cwd=tmp_path).expect(0)
    (path,) = tmp_path.glob("*.neap")
    assert path.name.startswith("peak.")


def test_paths_with_everything(record: Record, tmp_path: Path) -> None:
    """Names that shells, URIs and LD_PRELOAD would all take apart."""
    directory = tmp_path / "a b?c%41#d'e:f"
    directory.mkdir()
    program = directory / "p q"
    shutil.copy(target("peak")[0], program)
    path = directory / "out ?mode=memory.neap"
    argv = [NEAPD, "run", "--quiet", "-o", path, "--", program, "phases"]
    execute(argv).expect(0)
    copy = tmp_path / "copy.neap"
    shutil.copy(path, copy)
    rec = Recording(copy).expect_whole()
    assert rec.site("phase_d")["alloc_count"] == 1
    assert rec.process()["exe"] == str(program)
    rec.close()


def test_tool_in_a_strange_place(tmp_path: Path) -> None:
    """The library's own path may hold what LD_PRELOAD takes for a separator."""
    home = tmp_path / "a b:c"
    for source in (NEAPD, NEAPD.parents[1] / "lib" / "libneap.so"):
        place = home / source.parent.name
        place.mkdir(parents=True)
        shutil.copy(source, place)
    path = tmp_path / "x.neap"
    argv = [home / "bin/neapd", "run", "--quiet", "-o", path, "--"]
    result = execute([*argv, *target("ends", "return")]).expect(5)
    assert result.stderr == ""
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Recording(path).expect_whole()
    assert rec.site("last_words")["alloc_count"] == 1000
    rec.close()


class Running:
    """A recorded program that waits, with the socket it would talk to."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "x.neap"
        script = 'echo "$NEAP_SOCKET"; read line; exit 9'
        argv = [NEAPD, "run", "--quiet", "-o", self.path, "--", "/bin/sh", "-c", script]
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.socket = Path(self.process.stdout.readline().decode().rstrip("\n"))

    def end(self) -> Recording:
        self.process.communicate(b"go\n", timeout=60)
        assert self.process.returncode == 9
        wait_until(lambda: collector_of(self.path) is None, "the collector's end")
        return Recording(self.path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_modes(tmp_path: Path) -> None:
    """Whatever the umask: the recording is 0600, the socket's directory 0700."""
    old = os.umask(0)
    try:
        running = Running(tmp_path)
    finally:
        os.umask(old)
    assert running.socket.is_socket()
    assert mode_of(running.socket.parent) == 0o700
    for path in tmp_path.glob("x.neap*"):
        assert mode_of(path) == 0o600, path
    running.end().expect_whole().close()
    assert mode_of(running.path) == 0o600
    assert [p.name for p in tmp_path.glob("x.neap*")] == ["x.neap"]
    assert not running.socket.parent.exists()


def in_child(uid: int, act: Callable[[], None]) -> int:
    """Run something as another user; gives its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            act()
            os._exit(0)
        except PermissionError:
            os._exit(13)
        except BaseException:  # the child must not go on as a second pytest
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hello() -> bytes:
    magic, version = 0x4F4C4C4548504E45, 1
    return struct.pack("=QIIII32s", magic, version, 2, os.getpid(), 1, b"glibc")


def say_hello(path: Path, message: bytes) -> bytes:
    """The collector's answer, b"" if it hung up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        try:
            peer.send(message)
            return peer.recv(4096)
        except (ConnectionError, BrokenPipeError):
            return b""


def test_other_users_are_refused(tmp_path: Path) -> None:
    require_root("only root can act as another user")
    running = Running(tmp_path)

    def knock() -> None:
        answer = say_hello(running.socket, hello())
        status = struct.unpack_from("=I", answer, 12)[0] if answer else 3
        os._exit(0 if status == 3 else 2)  # 3 = NEAP_WELCOME_REFUSED

    assert in_child(NOBODY, knock) == 13, "the directory let another user in"
    running.socket.parent.chmod(0o755)
    running.socket.chmod(0o777)
    assert in_child(NOBODY, knock) == 0, "the collector welcomed another user"
    rec = running.end()
    assert [row["pid"] for row in rec.processes()] == [rec.main_pid]
    rec.close()


def test_bad_peers(tmp_path: Path) -> None:
    """Peers that talk nonsense, or nothing, are no concern of the recording."""
    running = Running(tmp_path)
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    silent.connect(str(running.socket))
    good = hello()
    for message in (b"x", b"\0" * 56, good[:55], good + b"x", b"\xff" * 4096):
        answer = say_hello(running.socket, message)
        assert answer == b"" or struct.unpack_from("=I", answer, 12)[0] != 1
    wrong_version = good[:8] + struct.pack("=I", 999) + good[12:]
    answer = say_hello(running.socket, wrong_version)
    assert answer == b"" or struct.unpack_from("=I", answer, 12)[0] == 2
    rec = running.end()
    assert [row["pid"] for row in rec.processes()] == [rec.main_pid]
    rec.close()
    silent.close()


def test_interrupt_at_the_terminal(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole foreground group: CMD decides what it means."""
    path = tmp_path / "x.neap"
    words = target("steady", "100000", "4", "1000")
    argv = [str(w) for w in (NEAPD, "run", "--quiet", "-o", path, "--", *words)]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, env=clean_environment(), start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    wait_until(lambda: collector_of(path) is None, "the collector's end")
    rec = Recording(path).expect_whole()
    assert rec.process()["exit_code"] == signal.SIGINT
    rec.close()
