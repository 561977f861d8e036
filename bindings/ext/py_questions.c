/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording.report(), leaks() and events(): from Python's arguments to a question.
 *
 * None stands for "not asked". Times come as seconds since the recording's start and
 * are asked as nanoseconds.
 */
#include "bindings/ext/py_recording.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- arguments ---- */

bool neap_py_int64(PyObject *self, PyObject *object, const char *what, int64_t *ret)
{
    int64_t number = PyLong_AsLongLong(object);

    if (number == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return false;
        PyErr_Clear();
        PyErr_Format(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError],
                     "%s must fit in 64 bits: from -2**63 to 2**63 - 1", what);
        return false;
    }
    *ret = number;
    return true;
}

bool neap_py_whole_number(PyObject *self, PyObject *object, const char *what,
                          int64_t otherwise, int64_t *ret)
{
    int64_t number = otherwise;

    if (object != Py_None) {
        if (!neap_py_int64(self, object, what, &number))
            return false;
        if (number < 0) {
            PyErr_Format(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError],
                         "%s must be 0 or more, or None", what);
            return false;
        }
    }
    *ret = number;
    return true;
}

bool neap_py_maybe_number(PyObject *self, PyObject *object, const char *what,
                          int64_t *ret, bool *has)
{
    *has = object != Py_None;
    return neap_py_whole_number(self, object, what, 0, ret);
}

/* Seconds, which may be left out, as ns. */
static bool maybe_time(PyObject *self, PyObject *object, const char *what, int64_t *ret,
                       bool *has)
{
    double seconds;

    *has = object != Py_None;
    if (!*has)
        return true;
    seconds = PyFloat_AsDouble(object);
    if (PyErr_Occurred())
        return false;
    if (!(fabs(seconds) < 9e9)) {
        PyErr_Format(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError],
                     "%s must be a number of seconds since the recording's start",
                     what);
        return false;
    }
    *ret = llround(seconds * 1e9);
    return true;
}

/* Ask a report and wrap it. */
static PyObject *ask_report(PyObject *self, const struct neap_report_query *query)
{
    struct neap_report *report = NULL;
    struct neap_error *error;
    struct neap_py_ask ask;

    if (!neap_py_ask_begin(&ask, self))
        return NULL;
    error = neap_recording_report(ask.self->recording, query, &report);
    neap_py_ask_end(&ask);
    if (error)
        return neap_py_raise(neap_py_state_of(self), error);
    return neap_py_report_wrap(neap_py_state_of(self), report);
}

/* ---- questions ---- */

PyObject *neap_py_report(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"metric", "limit",    "pid",      "at", "start", "end",
                            "tid",    "min_size", "max_size", "by", NULL};
    struct neap_report_query query = {.limit = 20};
    PyObject *limit = NULL, *pid = Py_None, *at = Py_None, *start = Py_None,
             *end = Py_None, *tid = Py_None, *min_size = Py_None, *max_size = Py_None;
    const char *metric = "peak", *by = "stack";
    struct neap_error *error;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|sOOOOOOOOs:report", names, &metric,
                                     &limit, &pid, &at, &start, &end, &tid, &min_size,
                                     &max_size, &by) ||
        (limit && !neap_py_whole_number(self, limit, "limit", -1, &query.limit)) ||
        !neap_py_maybe_number(self, pid, "pid", &query.pid, &query.has_pid) ||
        !maybe_time(self, at, "at", &query.at_ns, &query.has_at) ||
        !maybe_time(self, start, "start", &query.from_ns, &query.has_from) ||
        !maybe_time(self, end, "end", &query.to_ns, &query.has_to) ||
        !neap_py_maybe_number(self, tid, "tid", &query.tid, &query.has_tid) ||
        !neap_py_maybe_number(self, min_size, "min_size", &query.min_size,
                              &query.has_min_size) ||
        !neap_py_maybe_number(self, max_size, "max_size", &query.max_size,
                              &query.has_max_size))
        return NULL;
    error = neap_metric_parse(metric, &query.metric);
    if (!error)
        error = neap_by_parse(by, &query.by);
    if (error)
        return neap_py_raise(neap_py_state_of(self), error);
    return ask_report(self, &query);
}

PyObject *neap_py_leaks(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"suppressions", "limit", "pid", "builtin", NULL};
    struct neap_report_query query = {.metric = NEAP_METRIC_LIVE};
    PyObject *limit = Py_None, *pid = Py_None;
    int builtin = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zOOp:leaks", names,
                                     &query.suppressions, &limit, &pid, &builtin) ||
        !neap_py_whole_number(self, limit, "limit", -1, &query.limit) ||
        !neap_py_maybe_number(self, pid, "pid", &query.pid, &query.has_pid))
        return NULL;
    query.builtin_suppressions = builtin != 0;
    return ask_report(self, &query);
}

/* The statement of neap_py_events; each condition that is asked takes a parameter. */
#define EVENTS_SQL 160

/* True: none of the events asked for has been dropped. Else an exception is set. */
static bool all_held(PyObject *self, const int64_t numbers[3], const bool has[3])
{
    static const char *const sql =
        "SELECT pid, printf('%d.%09d', event_first_ns / 1000000000,"
        " event_first_ns % 1000000000) FROM process"
        " WHERE event_first > 0 AND event_first_ns > ? AND start_ns < ?"
        " AND (? OR pid = ?) ORDER BY event_first_ns DESC LIMIT 1";
    const struct neap_cell parameters[] = {
        {.type = NEAP_CELL_INTEGER, .integer = has[0] ? numbers[0] : -1},
        {.type = NEAP_CELL_INTEGER, .integer = has[1] ? numbers[1] : INT64_MAX},
        {.type = NEAP_CELL_INTEGER, .integer = !has[2]},
        {.type = NEAP_CELL_INTEGER, .integer = has[2] ? numbers[2] : 0},
    };
    struct neap_table *table =
        neap_py_ask_sql(self, sql, parameters, NEAP_ARRAY_LEN(parameters));
    bool held;

    if (!table)
        return false;
    held = table->rows == 0;
    if (!held) {
        const struct neap_cell *cells = neap_table_row(table, 0);

        PyErr_Format(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError],
                     "the recording no longer holds the events of process %lld before "
                     "%s s: give that or more as start, or record again with a larger "
                     "--max-size",
                     (long long)cells[0].integer, cells[1].bytes);
    }
    neap_table_destroy(table);
    return held;
}

PyObject *neap_py_events(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"start", "end", "pid", "tid", NULL};
    static const char *const conditions[] = {"ts_ns > ?", "ts_ns <= ?", "pid = ?",
                                             "tid = ?"};
    PyObject *start = Py_None, *end = Py_None, *pid = Py_None, *tid = Py_None;
    char sql[EVENTS_SQL] = "SELECT * FROM event";
    struct neap_cell parameters[4];
    size_t length = strlen(sql), count = 0;
    struct neap_table *table;
    int64_t numbers[4];
    bool has[4];

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOO:events", names, &start, &end,
                                     &pid, &tid) ||
        !maybe_time(self, start, "start", &numbers[0], &has[0]) ||
        !maybe_time(self, end, "end", &numbers[1], &has[1]) ||
        !neap_py_maybe_number(self, pid, "pid", &numbers[2], &has[2]) ||
        !neap_py_maybe_number(self, tid, "tid", &numbers[3], &has[3]))
        return NULL;
    if (has[0] && has[1] && numbers[0] > numbers[1])
        return neap_py_raise_usage(self, "start is after end: give the earlier time as "
                                         "start");
    /* From the start is all of it, also what happened at 0. */
    has[0] = has[0] && numbers[0] > 0;
    if (!all_held(self, numbers, has))
        return NULL;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(conditions); i++) {
        if (!has[i])
            continue;
        length += (size_t)snprintf(sql + length, sizeof(sql) - length, " %s %s",
                                   count ? "AND" : "WHERE", conditions[i]);
        parameters[count++] =
            (struct neap_cell){.type = NEAP_CELL_INTEGER, .integer = numbers[i]};
    }
    table = neap_py_ask_sql(self, sql, parameters, count);
    return table ? neap_py_table_wrap(neap_py_state_of(self), table) : NULL;
}
