# SPDX-License-Identifier: Apache-2.0
"""Recordings of Neaptide, read by C code.

This file describes the extension in full; the rest of the documentation is made from
it. Sizes are bytes, times are nanoseconds since the recording's start.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict, final, type_check_only

from _typeshed import structseq

__version__: str

_Metric = Literal["live", "peak", "allocated", "temporary"]
_Cell = int | float | str | bytes | None

@type_check_only
class _Exit(TypedDict):
    kind: Literal["exited", "signaled", "running", "lost"]
    code: int | None

@type_check_only
class _Recording(TypedDict):
    path: str
    version: str
    command: list[str]
    pid: int | None
    start_ns: int
    duration_ns: int
    mode: Literal["exact", "sampled"]
    interval: int
    allocator: Literal["app", "neap"]
    exit: _Exit

@type_check_only
class _Loss(TypedDict):
    events: int
    bytes: int
    stacks: int
    complete: bool

class Error(Exception):
    """What Neaptide could not do, in one line: what, on what, why, and what next."""

class UsageError(Error, ValueError):
    """A question that makes no sense, such as an unknown metric or process."""

class MissingFileError(Error, FileNotFoundError):
    """There is no such file."""

class ForeignFileError(Error):
    """The file is not a recording."""

class DamagedFileError(Error):
    """The file is a recording that cannot be read, or not in full."""

class NewerFileError(Error):
    """The recording was made by a later release."""

class SqlError(Error):
    """SQLite refused a statement given to Recording.sql()."""

def open(path: str | bytes | PathLike[str] | PathLike[bytes]) -> Recording:
    """Open a recording for reading, finished or still being written."""
@final
class Recording:
    """An open recording; a context manager that closes it.

    Every question is answered from the last commit of its writer. Questions release
    the GIL, can be interrupted by Ctrl-C, and are answered one after the other.
    """

    @property
    def path(self) -> str:
        """The path it was opened by."""
    @property
    def state(self) -> Literal["finished", "running", "lost"]:
        """Whole, still being written, or left behind when the collector ended early."""
    @property
    def recording(self) -> _Recording:
        """The program, its times and its end, as in the JSON of a report."""
    @property
    def processes(self) -> list[dict[str, Any]]:
        """One dictionary for each program image, with the columns of the view process.

        A process that execs has two images under one pid. The command is a list.
        """
    @property
    def loss(self) -> _Loss:
        """What is missing. All zero and complete: the recording is exact.

        It is not complete if the collector ended early: what came later is missing.
        """
    def report(
        self,
        metric: _Metric | str = "peak",
        limit: int | None = 20,
        pid: int | None = None,
    ) -> Report:
        """The stacks with the largest metric; None as a limit means all of them."""
    def leaks(
        self,
        suppressions: str | None = None,
        limit: int | None = None,
        pid: int | None = None,
        builtin: bool = True,
    ) -> Report:
        """The stacks whose blocks were never freed.

        suppressions is the text of a LeakSanitizer suppression file. Unless builtin is
        false, what the C and C++ runtimes keep on purpose is suppressed as well.
        """
    def sql(self, statement: str, parameters: Sequence[_Cell] = ()) -> Table:
        """The answer to one SQL statement that reads, with a parameter for each ?.

        Parameters are bound by position; a mapping is a TypeError.
        """
    def live(self) -> Table:
        """The blocks that were never freed: the view live."""
    def maps(self) -> Table:
        """Calls that changed the address space: the view map_event."""
    def threads(self) -> Table:
        """The threads of all processes: the view thread."""
    def modules(self) -> Table:
        """The files that code came from: the view module."""
    def close(self) -> None:
        """Close the file. Answers stay valid; closing twice does nothing."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Total(structseq[int | float], tuple[int, float, int]):
    """A value in bytes, its uncertainty, and how many blocks or calls it is of."""

    __match_args__: Final = ("value", "ci95", "count")
    @property
    def value(self) -> int:
        """Bytes."""
    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval; 0 in exact mode."""
    @property
    def count(self) -> int:  # type: ignore[override]
        """Blocks for live and peak, calls for allocated and temporary."""

@final
class Report:
    """A sequence of rows, the largest first, with the totals of all stacks."""

    @property
    def metric(self) -> _Metric:
        """What the values measure."""
    @property
    def unit(self) -> Literal["bytes"]:
        """What the values count."""
    @property
    def total(self) -> Total:
        """Over all stacks and processes asked about, not the rows only."""
    @property
    def suppressed(self) -> Total:
        """What suppressions took out of the total and the rows."""
    @property
    def stacks(self) -> int:
        """How many stacks the total is of; the limit may show fewer."""
    @property
    def processes(self) -> int:
        """How many processes the total covers."""
    @property
    def images(self) -> int:
        """How many program images the processes ran: one more with each exec."""
    def collapsed(self) -> str:
        """The rows as collapsed stacks, one line each, for flame graph tools."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Row: ...
    def __iter__(self) -> Iterator[Row]: ...

@final
class Row:
    """One stack of a report."""

    @property
    def value(self) -> int:
        """Bytes."""
    @property
    def count(self) -> int:
        """Blocks for live and peak, calls for allocated and temporary."""
    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval; 0 in exact mode."""
    @property
    def stack_id(self) -> int:
        """The stack in the views frame, site, live and map_event."""
    @property
    def truncated(self) -> bool:
        """Outer frames are missing."""
    @property
    def frames(self) -> tuple[Frame, ...]:
        """The stack, the caller of the allocation function first."""

@final
class Frame:
    """One frame of a stack."""

    @property
    def function(self) -> str | None:
        """Its name, None where no name is known."""
    @property
    def file(self) -> str | None:
        """The source file, None where it is not known."""
    @property
    def line(self) -> int | None:
        """The line in the source file, None where it is not known."""
    @property
    def module(self) -> str | None:
        """The program or library, None where no file is mapped."""
    @property
    def offset(self) -> int:
        """The address in the module's own addresses; without a module, the address."""
    @property
    def kind(self) -> Literal["native", "python"]:
        """Whose frame it is."""
    @property
    def inlined(self) -> bool:
        """It was inlined into the next frame."""

@final
class Table:
    """A sequence of tuples under named columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Any, ...]: ...
    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...
