# SPDX-License-Identifier: Apache-2.0
"""What recording needs of a machine, one function a row of ``neap doctor``.

Each check really does what it asks about, as far as that is possible, rather than
guess from a version. It returns a status, what that means, and the fix or None.
"""

import fcntl
import os
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable

from neaptide import __version__, elf, paths

Outcome = tuple[str, str, str | None]
OK, WARN, FAIL = "ok", "warn", "fail"

F_ADD_SEALS = 1033
F_SEAL_FUTURE_WRITE = 0x0010
LANES_BYTES = 260 << 20  # of address space in each target
SOCKET_PATH_MAX = 107
PATIENCE = 20  # seconds until a program that does not answer counts as broken


def version_of(text: str) -> tuple[int, ...]:
    """The numbers in front of a version such as 6.1.0-13-amd64."""
    numbers = []
    for word in text.split("-")[0].split("."):
        if not word.isdigit():
            break
        numbers.append(int(word))
    return tuple(numbers)


def check_kernel() -> Outcome:
    release = os.uname().release
    if version_of(release) >= (5, 3):
        return OK, f"Linux {release}", None
    return FAIL, f"Linux {release} is too old", "use Linux 5.3 or newer"


def check_machine() -> Outcome:
    machine = os.uname().machine
    if machine == "x86_64":
        return OK, machine, None
    return (
        FAIL,
        f"{machine}: stacks are read on x86_64 only",
        "record on an x86_64 machine; recordings can be read anywhere",
    )


def check_glibc() -> Outcome:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        name = ""
    if not name.startswith("glibc "):
        return FAIL, "the C library is not glibc", "record on a system with glibc"
    if version_of(name.split()[1]) >= (2, 35):
        return OK, f"{name}: stacks are read by the fast walker", None
    return (
        WARN,
        f"{name} lacks _dl_find_object: stacks are read by libunwind, slower",
        "use glibc 2.35 or newer, or install libunwind.so.8",
    )


def check_libunwind() -> Outcome:
    import ctypes

    try:
        ctypes.CDLL("libunwind.so.8")
    except OSError:
        return (
            WARN,
            "libunwind.so.8 is missing: NEAP_VERIFY cannot compare stacks, and"
            " programs on glibc before 2.35 get none",
            "install it (Debian: apt install libunwind8)",
        )
    return OK, "libunwind.so.8 can be loaded", None


def check_hook() -> Outcome:
    path = paths.libneap()
    if path is None or not os.path.isfile(path):
        return FAIL, "libneap.so is missing", "run make, or set NEAP_HOOK to its path"
    true = shutil.which("true") or "/bin/true"
    with tempfile.TemporaryDirectory() as directory:
        # LD_PRELOAD parts its words at spaces and colons.
        link = os.path.join(directory, "libneap.so")
        os.symlink(os.path.abspath(path), link)
        environment = {**os.environ, "LD_PRELOAD": link, "LC_ALL": "C"}
        environment.pop("NEAP_SOCKET", None)
        answer = subprocess.run(
            [true], env=environment, capture_output=True, timeout=PATIENCE, check=False
        )
    if answer.returncode == 0 and not answer.stderr:
        return OK, f"{path} loads into programs", None
    reason = answer.stderr.decode(errors="replace").strip().split("\n")[0]
    return (
        FAIL,
        f"{true} fails with {path}: {reason or answer.returncode}",
        "build libneap.so on this machine: make hook",
    )


def check_collector() -> Outcome:
    path = paths.neapd()
    if path is None:
        return FAIL, "neapd is missing", paths.neapd_fix()
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, timeout=PATIENCE, check=False
        )
    except OSError as error:
        return FAIL, f"{path} cannot be started: {error.strerror}", paths.neapd_fix()
    words = answer.stdout.decode(errors="replace").split()
    if answer.returncode != 0 or not words:
        reason = answer.stderr.decode(errors="replace").strip().split("\n")[0]
        return FAIL, f"{path} does not run: {reason}", "build it here: make neapd"
    if words[-1] != __version__:
        return (
            WARN,
            f"{path} is of release {words[-1]}, neap of {__version__}",
            "build both from one tree: make",
        )
    return OK, f"{path} runs", None


def check_recording() -> Outcome:
    import neaptide

    path, true = paths.neapd(), shutil.which("true") or "/bin/true"
    if path is None or not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return FAIL, "nothing can be recorded without neapd", "see the row collector"
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "doctor.neap")
        answer = subprocess.run(
            [path, "run", "--quiet", "-o", out, "--", true],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        reason = answer.stderr.decode(errors="replace").strip().split("\n")[-1]
        fix = f"try: {path} run -- {true}"
        if answer.returncode != 0:
            return FAIL, f"recording {true} failed: {reason}", fix
        with neaptide.open(out) as rec:
            if not rec.processes:
                return FAIL, f"{true} ran, but was not recorded: {reason}", fix
            unwinder = rec.processes[0]["unwinder"]
    if unwinder == "none":
        return WARN, f"{true} was recorded without stacks", "see the row libunwind"
    return OK, f"{true} was recorded, stacks by {unwinder}", None


def check_memfd() -> Outcome:
    try:
        fd = os.memfd_create("neap-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, 4096)
            fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        finally:
            os.close(fd)
    except OSError as error:
        return (
            FAIL,
            f"no sealed shared memory: {error.strerror}",
            "allow memfd_create and F_ADD_SEALS (Linux 5.1 or newer, no seccomp"
            " filter against them)",
        )
    return OK, "shared memory can be made and sealed", None


def check_pidfd() -> Outcome:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return (
            FAIL,
            f"no pidfd_open: {error.strerror}",
            "use Linux 5.3 or newer, or a seccomp filter that allows it",
        )
    return OK, "the end of a process can be awaited", None


def check_exit_status() -> Outcome:
    release = os.uname().release
    if version_of(release) >= (6, 15):
        return OK, "the kernel tells how children ended", None
    return (
        WARN,
        f"Linux {release} does not tell how other processes' children ended: of"
        " those that die by a signal only that they ended is known",
        "nothing to do for CMD itself; else use Linux 6.15 or newer",
    )


def check_socket() -> Outcome:
    # mkdtemp of the collector looks here as well.
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        with tempfile.TemporaryDirectory(dir=base) as directory:
            path = os.path.join(directory, "socket")
            if len(os.fsencode(path)) > SOCKET_PATH_MAX:
                return FAIL, f"{base} is too long for a socket", "set TMPDIR to /tmp"
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(path)
    except OSError as error:
        return (
            WARN,
            f"no socket can be made in {base}: {error.strerror}",
            "set XDG_RUNTIME_DIR or TMPDIR to a directory of yours",
        )
    return OK, f"sockets can be made in {base}", None


def check_clock() -> Outcome:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((x for x in file if x.startswith("flags")), "").split()
    except OSError as error:
        return WARN, f"/proc/cpuinfo: {error.strerror}", "mount /proc"
    if "nonstop_tsc" in flags and "constant_tsc" in flags:
        return OK, "the time stamp counter runs evenly", None
    return (
        WARN,
        "the time stamp counter may differ between processors: the peak of a program"
        " with several threads may be off by what happened at once",
        "pass the flags constant_tsc and nonstop_tsc to the virtual machine, or run"
        " the program on one processor: taskset -c 0",
    )


def check_ptrace() -> Outcome:
    return OK, "not used: any kernel.yama.ptrace_scope will do", None


def check_debug_info() -> Outcome:
    python = shutil.which("python3")
    if python is None:
        return WARN, "no python3 in PATH to look at", None
    # What is in PATH may be a script that chooses one.
    asked = subprocess.run(
        [python, "-I", "-S", "-c", "import os; print(os.readlink('/proc/self/exe'))"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    path = os.fsdecode(asked.stdout).strip() or os.path.realpath(python)
    try:
        found = elf.debug_file(path)
    except (OSError, ValueError) as error:
        return WARN, f"{path} cannot be examined: {error}", None
    if found:
        return OK, f"files and lines of {path} are in {found}", None
    return (
        WARN,
        f"{path} has no debug information: functions without files and lines",
        "install its debug symbols (Debian: the -dbgsym package of its package)",
    )


def limit_text(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value:,}"


def check_limits() -> Outcome:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    unlimited = resource.RLIM_INFINITY
    if space != unlimited and space < 2 * LANES_BYTES:
        return (
            FAIL,
            f"programs may map {limit_text(space)} bytes, and recording maps"
            f" {LANES_BYTES:,} of them",
            "ulimit -v unlimited",
        )
    if size != unlimited:
        return (
            WARN,
            f"a recording may grow to {limit_text(size)} bytes only",
            "ulimit -f unlimited",
        )
    if files != unlimited and files < 1024:
        return (
            WARN,
            f"{limit_text(files)} open files: about as many processes at once",
            "ulimit -Hn 65536",
        )
    return OK, f"open files {limit_text(files)}, address space unlimited", None


# In the order of the report.
CHECKS: dict[str, Callable[[], Outcome]] = {
    "kernel": check_kernel,
    "machine": check_machine,
    "glibc": check_glibc,
    "libunwind": check_libunwind,
    "hook": check_hook,
    "collector": check_collector,
    "recording": check_recording,
    "memfd": check_memfd,
    "pidfd": check_pidfd,
    "exit-status": check_exit_status,
    "socket": check_socket,
    "clock": check_clock,
    "ptrace": check_ptrace,
    "debug-info": check_debug_info,
    "limits": check_limits,
}


def run_check(check: Callable[[], Outcome]) -> Outcome:
    """A check's outcome, also when it fails in a way it did not foresee."""
    try:
        return check()
    except subprocess.TimeoutExpired as error:
        command = " ".join(map(str, error.cmd))
        return FAIL, f"no answer in {PATIENCE} s", f"try: {command}"
    except Exception as error:
        return FAIL, f"{type(error).__name__}: {error}", None
