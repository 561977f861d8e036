# SPDX-License-Identifier: Apache-2.0
"""A recorded program cannot tell: descriptors, signals, limits, words, errno."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import Any

import pytest
from harness import NEAPD, Record, Result, execute, target


def visible(result: Result) -> list[str]:
    """What the program saw, without what a recorder must add."""
    hidden = ("variable LD_PRELOAD=", "variable NEAP_")
    return [x for x in result.stdout.splitlines() if not x.startswith(hidden)]


def umask() -> None:
    os.umask(0o137)


def ignored_and_blocked() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGALRM])


def child_ignored() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 22))


def nice() -> None:
    os.nice(5)


def no_stdin() -> None:
    os.close(0)


def stray_descriptors() -> None:
    os.dup2(1, 57)
    os.set_inheritable(57, True)


def elsewhere() -> None:
    os.chdir("/")


SETTINGS = [
    None,
    umask,
    ignored_and_blocked,
    child_ignored,
    limits,
    nice,
    no_stdin,
    stray_descriptors,
    elsewhere,
]


@pytest.mark.parametrize(
    "setting", SETTINGS, ids=lambda s: s.__name__ if s else "plain"
)
def test_same_world(
    setting: Callable[[], None] | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("world") / "0.neap"
    words = target("environment", "a b", "", "--", "-o", "*")
    env = {"EMPTY": "", "WITH SPACE": "x=y"}
    how: dict[str, Any] = {"env": env, "stdin": b"some input", "preexec": setting}
    how["own_session"] = False  # CMD would lead it, which it cannot under us
    bare = execute(words, **how).expect(0)
    argv = [NEAPD, "run", "--quiet", "-o", path, "--", *words]
    recorded = execute(argv, **how).expect(0)
    assert visible(recorded) == visible(bare)
    assert recorded.stderr == bare.stderr
    assert "errno after malloc 33 realloc 33 free 33 calloc 33" in bare.stdout


def test_preload_of_the_user_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """LD_PRELOAD of before comes after ours, and is all the program has beside it."""
    path = tmp_path_factory.mktemp("preload") / "0.neap"
    libc = "libpthread.so.0"
    argv = [NEAPD, "run", "--quiet", "-o", path, "--", *target("environment")]
    result = execute(argv, env={"LD_PRELOAD": libc}).expect(0)
    (preload,) = [
        line.split("=", 1)[1]
        for line in result.stdout.splitlines()
        if line.startswith("variable LD_PRELOAD=")
    ]
    first, *rest = preload.split(":")
    assert first.endswith("libneap.so")
    assert rest == [libc]


@pytest.mark.parametrize("allocator", ["app", "neap"])
def test_statistics_of_the_allocator(record: Record, allocator: str) -> None:
    """mallinfo and its like stand before the C library's, and speak of what serves."""
    run = record(target("statistics"), options=["--allocator", allocator]).expect(0)
    said = dict(line.split() for line in run.stdout.splitlines())
    assert list(said) == [
        *("mallopt", "mallinfo2", "mallinfo", "malloc_info", "malloc_trim")
    ]
    assert set(said.values()) == {"1"}
    assert "in use bytes" in run.stderr
