/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What help() says of the extension. Made from bindings/neaptide/_neap.pyi by
 * bindings/ext/docstrings.py: change the stub and run that, not this.
 */
#ifndef NEAP_BINDINGS_EXT_DOCSTRINGS_H
#define NEAP_BINDINGS_EXT_DOCSTRINGS_H

/* clang-format off */

#define NEAP_DOC_Error \
    "What Neaptide could not do, in one line: what, on what, why, and what " \
    "next."

#define NEAP_DOC_UsageError \
    "A question that makes no sense, such as an unknown metric or process."

#define NEAP_DOC_MissingFileError \
    "There is no such file."

#define NEAP_DOC_ForeignFileError \
    "The file is not a recording."

#define NEAP_DOC_DamagedFileError \
    "The file is a recording that cannot be read, or not in full."

#define NEAP_DOC_NewerFileError \
    "The recording was made by a later release."

#define NEAP_DOC_SqlError \
    "SQLite refused a statement given to Recording.sql()."

#define NEAP_DOC_open \
    "open($module, /, path)\n" \
    "--\n" \
    "\n" \
    "Open a recording for reading, finished or still being written."

#define NEAP_DOC_Recording \
    "An open recording; a context manager that closes it.\n" \
    "\n" \
    "Every question is answered from the last commit of its writer. Questions" \
    " release\n" \
    "the GIL, can be interrupted by Ctrl-C, and are answered one after the " \
    "other."

#define NEAP_DOC_Recording_path \
    "The path it was opened by."

#define NEAP_DOC_Recording_state \
    "Whole, still being written, or left behind when the collector ended " \
    "early."

#define NEAP_DOC_Recording_recording \
    "The program, its times and its end, as in the JSON of a report."

#define NEAP_DOC_Recording_processes \
    "One dictionary for each program image, with the columns of the view " \
    "process.\n" \
    "\n" \
    "A process that execs has two images under one pid. The command is a " \
    "list."

#define NEAP_DOC_Recording_loss \
    "What is missing. All zero and complete: the recording is exact.\n" \
    "\n" \
    "It is not complete if the collector ended early: what came later is " \
    "missing; nor\n" \
    "if it was switched off for a while: what was allocated then is."

#define NEAP_DOC_Recording_report \
    "report($self, /, metric='peak', limit=20, pid=None, at=None, start=None," \
    " end=None, tid=None, min_size=None, max_size=None, by='stack')\n" \
    "--\n" \
    "\n" \
    "The stacks with the largest metric; None as a limit means all of them.\n" \
    "\n" \
    "Times are seconds since the recording's start. At a time counts what had\n" \
    "happened up to it. From start to end counts what happened after start " \
    "and up to\n" \
    "end: what was allocated there and was still live at the end of it, or " \
    "the\n" \
    "highest point in it. tid, min_size and max_size count only blocks that " \
    "this\n" \
    "thread allocated, and of these sizes. With by=\"thread\" or by=\"size\" a " \
    "row is a\n" \
    "thread, or sizes from one power of two to the next, instead of a stack.\n" \
    "\n" \
    "All of these read the events, which a recording may hold only the last " \
    "of, or\n" \
    "not at all; then it is a UsageError that says what is left."

#define NEAP_DOC_Recording_leaks \
    "leaks($self, /, suppressions=None, limit=None, pid=None, builtin=True)\n" \
    "--\n" \
    "\n" \
    "The stacks whose blocks were never freed.\n" \
    "\n" \
    "suppressions is the text of a LeakSanitizer suppression file. Unless " \
    "builtin is\n" \
    "false, what the C and C++ runtimes keep on purpose is suppressed as " \
    "well."

#define NEAP_DOC_Recording_maps \
    "maps($self, /, source=None, limit=None, pid=None)\n" \
    "--\n" \
    "\n" \
    "Growth and shrinkage of address spaces, by stack.\n" \
    "\n" \
    "source is \"hook\" for calls of the program, \"heap\" for what Neaptide's " \
    "own\n" \
    "allocator did, None for both."

#define NEAP_DOC_Recording_errors \
    "errors($self, /, limit=None, pid=None)\n" \
    "--\n" \
    "\n" \
    "Mistakes with memory that Neaptide's own allocator found."

#define NEAP_DOC_Recording_sql \
    "sql($self, /, statement, parameters=())\n" \
    "--\n" \
    "\n" \
    "The answer to one SQL statement that reads, with a parameter for each ?.\n" \
    "\n" \
    "Parameters are bound by position; a mapping is a TypeError."

#define NEAP_DOC_Recording_events \
    "events($self, /, start=None, end=None, pid=None, tid=None)\n" \
    "--\n" \
    "\n" \
    "The events after start and up to end, in seconds: the view event.\n" \
    "\n" \
    "tid is the thread that did it. The table is in memory as a whole, some " \
    "200 bytes\n" \
    "an event. Asking for events that were dropped is a UsageError that says " \
    "from\n" \
    "when they are there."

#define NEAP_DOC_Recording_live \
    "live($self, /)\n" \
    "--\n" \
    "\n" \
    "The blocks that were never freed: the view live."

#define NEAP_DOC_Recording_map_events \
    "map_events($self, /)\n" \
    "--\n" \
    "\n" \
    "Changes of address spaces one by one: the view map_event."

#define NEAP_DOC_Recording_threads \
    "threads($self, /)\n" \
    "--\n" \
    "\n" \
    "The threads of all processes: the view thread."

#define NEAP_DOC_Recording_modules \
    "modules($self, /)\n" \
    "--\n" \
    "\n" \
    "The files that code came from: the view module."

#define NEAP_DOC_Recording_close \
    "close($self, /)\n" \
    "--\n" \
    "\n" \
    "Close the file. Answers stay valid; closing twice does nothing."

#define NEAP_DOC_Recording___enter__ \
    "__enter__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Recording___exit__ \
    "__exit__($self, exception_type=None, exception=None, traceback=None, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Total \
    "A value in bytes, its uncertainty, and how many blocks or calls it is " \
    "of."

#define NEAP_DOC_Total_value \
    "Bytes."

#define NEAP_DOC_Total_ci95 \
    "Half the width of the 95 % interval; 0 in exact mode."

#define NEAP_DOC_Total_count \
    "Blocks for live and peak, calls for allocated and temporary."

#define NEAP_DOC_Report \
    "A sequence of rows, the largest first, with the totals of all stacks."

#define NEAP_DOC_Report_metric \
    "What the values measure."

#define NEAP_DOC_Report_by \
    "What a row stands for."

#define NEAP_DOC_Report_unit \
    "What the values count."

#define NEAP_DOC_Report_total \
    "Over all stacks and processes asked about, not the rows only."

#define NEAP_DOC_Report_suppressed \
    "What suppressions took out of the total and the rows."

#define NEAP_DOC_Report_stacks \
    "How many stacks, threads or classes the total is of, shown or not."

#define NEAP_DOC_Report_processes \
    "How many processes the total covers."

#define NEAP_DOC_Report_images \
    "How many program images the processes ran: one more with each exec."

#define NEAP_DOC_Report_collapsed \
    "collapsed($self, /)\n" \
    "--\n" \
    "\n" \
    "The rows as collapsed stacks, one line each, for flame graph tools."

#define NEAP_DOC_Report___len__ \
    "__len__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Report___getitem__ \
    "__getitem__($self, index, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Report___iter__ \
    "__iter__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Row \
    "One stack of a report, or one thread, or sizes up to the next power of " \
    "two."

#define NEAP_DOC_Row_value \
    "Bytes."

#define NEAP_DOC_Row_count \
    "Blocks for live and peak, calls for allocated and temporary."

#define NEAP_DOC_Row_ci95 \
    "Half the width of the 95 % interval; 0 in exact mode."

#define NEAP_DOC_Row_stack_id \
    "The stack in the views frame, site, live, event and map_event, else " \
    "None."

#define NEAP_DOC_Row_truncated \
    "Outer frames are missing."

#define NEAP_DOC_Row_frames \
    "The stack, the caller of the allocation function first; else empty."

#define NEAP_DOC_Row_pid \
    "The thread's process; None unless rows are threads."

#define NEAP_DOC_Row_tid \
    "The thread that allocated; None unless rows are threads."

#define NEAP_DOC_Row_thread \
    "The thread's name; None unless rows are threads and it is known."

#define NEAP_DOC_Row_min_size \
    "The smallest size of the row's blocks; None unless rows are sizes."

#define NEAP_DOC_Row_max_size \
    "The largest size of the row's blocks; None unless rows are sizes."

#define NEAP_DOC_MapBytes \
    "Bytes of the address space, in whole pages."

#define NEAP_DOC_MapBytes_grown \
    "Mapped, or added to the break."

#define NEAP_DOC_MapBytes_returned \
    "Given back, whoever had mapped it."

#define NEAP_DOC_MapBytes_kept \
    "Of the grown, still mapped at the end of the process."

#define NEAP_DOC_MapReport \
    "A sequence of rows, the most grown first, with the total of all stacks."

#define NEAP_DOC_MapReport_total \
    "Over all stacks and processes asked about, not the rows only; no stack."

#define NEAP_DOC_MapReport_stacks \
    "How many stacks the total is of, shown or not."

#define NEAP_DOC_MapReport_processes \
    "How many processes the total covers."

#define NEAP_DOC_MapReport_images \
    "How many program images the processes ran: one more with each exec."

#define NEAP_DOC_MapReport___len__ \
    "__len__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_MapReport___getitem__ \
    "__getitem__($self, index, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_MapReport___iter__ \
    "__iter__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_MapRow \
    "What one stack did to address spaces."

#define NEAP_DOC_MapRow_anonymous \
    "Memory of the process's own, the break included."

#define NEAP_DOC_MapRow_reserved \
    "Anonymous memory without access, PROT_NONE."

#define NEAP_DOC_MapRow_file \
    "Files."

#define NEAP_DOC_MapRow_net \
    "Anonymous bytes grown less those given back."

#define NEAP_DOC_MapRow_unseen \
    "Given back without having been seen to grow; not in the other numbers."

#define NEAP_DOC_MapRow_advised \
    "Bytes that madvise gave back: MADV_DONTNEED and MADV_FREE."

#define NEAP_DOC_MapRow_grow_count \
    "Calls that mapped or grew."

#define NEAP_DOC_MapRow_return_count \
    "Calls that gave back."

#define NEAP_DOC_MapRow_advise_count \
    "Calls of madvise that gave back."

#define NEAP_DOC_MapRow_stack_id \
    "The stack in the views frame and map_event; None where it is not known."

#define NEAP_DOC_MapRow_truncated \
    "Outer frames are missing."

#define NEAP_DOC_MapRow_frames \
    "The stack, the caller first; empty where it is not known."

#define NEAP_DOC_ErrorReport \
    "A sequence of memory errors, as they happened."

#define NEAP_DOC_ErrorReport_total \
    "How many there are, shown or not."

#define NEAP_DOC_ErrorReport_processes \
    "How many processes were asked about."

#define NEAP_DOC_ErrorReport_images \
    "How many program images the processes ran: one more with each exec."

#define NEAP_DOC_ErrorReport___len__ \
    "__len__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_ErrorReport___getitem__ \
    "__getitem__($self, index, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_ErrorReport___iter__ \
    "__iter__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_ErrorRow \
    "One memory error: a row of the view memory_error, with its stacks."

#define NEAP_DOC_ErrorRow_kind \
    "double-free, invalid-free, interior-free, overflow and so on."

#define NEAP_DOC_ErrorRow_ts_ns \
    "When it was found."

#define NEAP_DOC_ErrorRow_pid \
    "The process."

#define NEAP_DOC_ErrorRow_tid \
    "The thread that found it."

#define NEAP_DOC_ErrorRow_address \
    "What was freed, or the first byte that was written."

#define NEAP_DOC_ErrorRow_block \
    "The start of the block it belongs to; None: it belongs to none."

#define NEAP_DOC_ErrorRow_size \
    "The size of that block."

#define NEAP_DOC_ErrorRow_alloc_stack_id \
    "The stack that allocated the block; None where it is not known."

#define NEAP_DOC_ErrorRow_free_stack_id \
    "The stack that freed the block first; None where it is not known."

#define NEAP_DOC_ErrorRow_stack_id \
    "The stack of the call that found it."

#define NEAP_DOC_ErrorRow_alloc_frames \
    "Who allocated the block; empty where it is not known."

#define NEAP_DOC_ErrorRow_free_frames \
    "Who freed the block first; empty where it is not known."

#define NEAP_DOC_ErrorRow_frames \
    "The call that found it, the caller of the allocation function first."

#define NEAP_DOC_Frame \
    "One frame of a stack."

#define NEAP_DOC_Frame_function \
    "Its name, None where no name is known."

#define NEAP_DOC_Frame_file \
    "The source file, None where it is not known."

#define NEAP_DOC_Frame_line \
    "The line in the source file, None where it is not known."

#define NEAP_DOC_Frame_module \
    "The program or library, None where no file is mapped."

#define NEAP_DOC_Frame_offset \
    "The address in the module's own addresses; without a module, the " \
    "address."

#define NEAP_DOC_Frame_kind \
    "Whose frame it is."

#define NEAP_DOC_Frame_inlined \
    "It was inlined into the next frame."

#define NEAP_DOC_Table \
    "A sequence of tuples under named columns."

#define NEAP_DOC_Table_columns \
    "The names of the columns."

#define NEAP_DOC_Table___len__ \
    "__len__($self, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Table___getitem__ \
    "__getitem__($self, index, /)\n" \
    "--\n" \
    "\n"

#define NEAP_DOC_Table___iter__ \
    "__iter__($self, /)\n" \
    "--\n" \
    "\n"

/* clang-format on */

#endif
