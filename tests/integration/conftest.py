# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests; what they stand on is in harness.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("harness")

from harness import (  # noqa: E402
    LIBNEAP,
    NEAPD,
    ROOT,
    TARGETS,
    Record,
    Run,
    collector_of,
    execute,
    wait_until,
)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """record(CMD, options=[…], **how to execute) -> Run"""
    runs: list[Run] = []

    def call(
        command: Sequence[str | Path],
        *,
        options: Sequence[str] = (),
        settle: bool = True,
        **how: Any,
    ) -> Run:
        path = tmp_path / f"{len(runs)}.neap"
        argv = [NEAPD, "run", "--quiet", "-o", path, *options, "--", *command]
        result = execute(argv, **how)
        run = Run(**vars(result), path=path)
        runs.append(run)
        if settle:  # processes that outlive the command are recorded to their end
            assert path.exists(), result.stderr
            wait_until(lambda: collector_of(path) is None, "the collector's end")
        return run

    yield call
    for run in runs:
        if run.recording is not None:
            run.recording.close()


@pytest.fixture
def compile_c(tmp_path: Path) -> Callable[..., Path]:
    """Compile one source file; skips where there is no compiler for it."""

    def call(
        source: str | Path, *flags: str, name: str = "program", compiler: str = "cc"
    ) -> Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"no {compiler} here")
        if isinstance(source, str):
            file = tmp_path / f"{name}.c"
            file.write_text(source)
            source = file
        out = tmp_path / name
        words = [compiler, "-O1", "-g", "-D_GNU_SOURCE", f"-I{ROOT}", "-fno-builtin"]
        words += ["-pthread", str(source), "-o", str(out), *flags]
        result = execute(words)
        assert result.status == 0, result.stderr
        return out

    return call


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    for path in (NEAPD, LIBNEAP, TARGETS):
        if not path.exists():
            pytest.exit(f"{path} is not built: make all targets", returncode=2)
