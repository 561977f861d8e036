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
_By = Literal["stack", "thread", "size"]
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
    on_ns: int
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

        It is not complete if the collector ended early: what came later is missing; nor
        if it was switched off for a while: what was allocated then is.
        """
    def report(
        self,
        metric: _Metric | str = "peak",
        limit: int | None = 20,
        pid: int | None = None,
        at: float | None = None,
        start: float | None = None,
        end: float | None = None,
        tid: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        by: _By | str = "stack",
    ) -> Report:
        """The stacks with the largest metric; None as a limit means all of them.

        Times are seconds since the recording's start. At a time counts what had
        happened up to it. From start to end counts what happened after start and up to
        end: what was allocated there and was still live at the end of it, or the
        highest point in it. tid, min_size and max_size count only blocks that this
        thread allocated, and of these sizes. With by="thread" or by="size" a row is a
        thread, or sizes from one power of two to the next, instead of a stack.

        All of these read the events, which a recording may hold only the last of, or
        not at all; then it is a UsageError that says what is left.
        """
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
    def maps(
        self,
        source: Literal["hook", "heap"] | str | None = None,
        limit: int | None = None,
        pid: int | None = None,
    ) -> MapReport:
        """Growth and shrinkage of address spaces, by stack.

        source is "hook" for calls of the program, "heap" for what Neaptide's own
        allocator did, None for both.
        """
    def errors(self, limit: int | None = None, pid: int | None = None) -> ErrorReport:
        """Mistakes with memory that Neaptide's own allocator found."""
    def sql(self, statement: str, parameters: Sequence[_Cell] = ()) -> Table:
        """The answer to one SQL statement that reads, with a parameter for each ?.

        Parameters are bound by position; a mapping is a TypeError.
        """
    def events(
        self,
        start: float | None = None,
        end: float | None = None,
        pid: int | None = None,
        tid: int | None = None,
    ) -> Table:
        """The events after start and up to end, in seconds: the view event.

        tid is the thread that did it. The table is in memory as a whole, some 200 bytes
        an event. Asking for events that were dropped is a UsageError that says from
        when they are there.
        """
    def live(self) -> Table:
        """The blocks that were never freed: the view live."""
    def map_events(self) -> Table:
        """Changes of address spaces one by one: the view map_event."""
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
    def by(self) -> _By:
        """What a row stands for."""
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
        """How many stacks, threads or classes the total is of, shown or not."""
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
    """One stack of a report, or one thread, or sizes up to the next power of two."""

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
    def stack_id(self) -> int | None:
        """The stack in the views frame, site, live, event and map_event, else None."""
    @property
    def truncated(self) -> bool:
        """Outer frames are missing."""
    @property
    def frames(self) -> tuple[Frame, ...]:
        """The stack, the caller of the allocation function first; else empty."""
    @property
    def pid(self) -> int | None:
        """The thread's process; None unless rows are threads."""
    @property
    def tid(self) -> int | None:
        """The thread that allocated; None unless rows are threads."""
    @property
    def thread(self) -> str | None:
        """The thread's name; None unless rows are threads and it is known."""
    @property
    def min_size(self) -> int | None:
        """The smallest size of the row's blocks; None unless rows are sizes."""
    @property
    def max_size(self) -> int | None:
        """The largest size of the row's blocks; None unless rows are sizes."""

@final
class MapBytes(structseq[int], tuple[int, int, int]):
    """Bytes of the address space, in whole pages."""

    __match_args__: Final = ("grown", "returned", "kept")
    @property
    def grown(self) -> int:
        """Mapped, or added to the break."""
    @property
    def returned(self) -> int:
        """Given back, whoever had mapped it."""
    @property
    def kept(self) -> int:
        """Of the grown, still mapped at the end of the process."""

@final
class MapReport:
    """A sequence of rows, the most grown first, with the total of all stacks."""

    @property
    def total(self) -> MapRow:
        """Over all stacks and processes asked about, not the rows only; no stack."""
    @property
    def stacks(self) -> int:
        """How many stacks the total is of, shown or not."""
    @property
    def processes(self) -> int:
        """How many processes the total covers."""
    @property
    def images(self) -> int:
        """How many program images the processes ran: one more with each exec."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> MapRow: ...
    def __iter__(self) -> Iterator[MapRow]: ...

@final
class MapRow:
    """What one stack did to address spaces."""

    @property
    def anonymous(self) -> MapBytes:
        """Memory of the process's own, the break included."""
    @property
    def reserved(self) -> MapBytes:
        """Anonymous memory without access, PROT_NONE."""
    @property
    def file(self) -> MapBytes:
        """Files."""
    @property
    def net(self) -> int:
        """Anonymous bytes grown less those given back."""
    @property
    def unseen(self) -> int:
        """Given back without having been seen to grow; not in the other numbers."""
    @property
    def advised(self) -> int:
        """Bytes that madvise gave back: MADV_DONTNEED and MADV_FREE."""
    @property
    def grow_count(self) -> int:
        """Calls that mapped or grew."""
    @property
    def return_count(self) -> int:
        """Calls that gave back."""
    @property
    def advise_count(self) -> int:
        """Calls of madvise that gave back."""
    @property
    def stack_id(self) -> int | None:
        """The stack in the views frame and map_event; None where it is not known."""
    @property
    def truncated(self) -> bool:
        """Outer frames are missing."""
    @property
    def frames(self) -> tuple[Frame, ...]:
        """The stack, the caller first; empty where it is not known."""

@final
class ErrorReport:
    """A sequence of memory errors, as they happened."""

    @property
    def total(self) -> int:
        """How many there are, shown or not."""
    @property
    def processes(self) -> int:
        """How many processes were asked about."""
    @property
    def images(self) -> int:
        """How many program images the processes ran: one more with each exec."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ErrorRow: ...
    def __iter__(self) -> Iterator[ErrorRow]: ...

@final
class ErrorRow:
    """One memory error: a row of the view memory_error, with its stacks."""

    @property
    def kind(self) -> str:
        """double-free, invalid-free, interior-free, overflow and so on."""
    @property
    def ts_ns(self) -> int:
        """When it was found."""
    @property
    def pid(self) -> int:
        """The process."""
    @property
    def tid(self) -> int:
        """The thread that found it."""
    @property
    def address(self) -> int:
        """What was freed, or the first byte that was written."""
    @property
    def block(self) -> int | None:
        """The start of the block it belongs to; None: it belongs to none."""
    @property
    def size(self) -> int | None:
        """The size of that block."""
    @property
    def alloc_stack_id(self) -> int | None:
        """The stack that allocated the block; None where it is not known."""
    @property
    def free_stack_id(self) -> int | None:
        """The stack that freed the block first; None where it is not known."""
    @property
    def stack_id(self) -> int | None:
        """The stack of the call that found it."""
    @property
    def alloc_frames(self) -> tuple[Frame, ...]:
        """Who allocated the block; empty where it is not known."""
    @property
    def free_frames(self) -> tuple[Frame, ...]:
        """Who freed the block first; empty where it is not known."""
    @property
    def frames(self) -> tuple[Frame, ...]:
        """The call that found it, the caller of the allocation function first."""

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
