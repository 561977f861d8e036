/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a neaptide.Recording is about: its summary as the dictionaries that the JSON of
 * every report opens with, and its processes.
 */
#include "bindings/ext/py_recording.h"

/* The words of CMD, one a row. */
static PyObject *words(const struct neap_table *command)
{
    PyObject *list = PyList_New(0);

    for (size_t i = 0; list && i < command->rows; i++) {
        const struct neap_cell *cell = neap_table_row(command, i);
        bool text = cell->type == NEAP_CELL_TEXT;
        PyObject *word =
            neap_py_text_length(text ? cell->bytes : "", text ? cell->length : 0);

        if (!word || PyList_Append(list, word) < 0)
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

static PyObject *number_or_none(bool known, int64_t number)
{
    if (!known)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(number);
}

static PyObject *exit_dict(const struct neap_summary *summary)
{
    PyObject *dict = PyDict_New();

    if (dict &&
        (neap_py_put(dict, "kind", neap_py_text(summary->exit_kind)) < 0 ||
         neap_py_put(dict, "code",
                     number_or_none(summary->has_exit_code, summary->exit_code)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *summary_dict(const struct neap_summary *summary,
                              const struct neap_table *command)
{
    PyObject *dict = PyDict_New();

    if (dict &&
        (neap_py_put(dict, "path", neap_py_text(summary->path)) < 0 ||
         neap_py_put(dict, "version", neap_py_text(summary->version)) < 0 ||
         neap_py_put(dict, "command", words(command)) < 0 ||
         neap_py_put(dict, "pid", number_or_none(summary->pid != 0, summary->pid)) <
             0 ||
         neap_py_put(dict, "start_ns", PyLong_FromLongLong(summary->start_ns)) < 0 ||
         neap_py_put(dict, "duration_ns", PyLong_FromLongLong(summary->duration_ns)) <
             0 ||
         neap_py_put(dict, "on_ns", PyLong_FromLongLong(summary->on_ns)) < 0 ||
         neap_py_put(dict, "mode", neap_py_text(summary->mode)) < 0 ||
         neap_py_put(dict, "interval", PyLong_FromLongLong(summary->interval)) < 0 ||
         neap_py_put(dict, "allocator", neap_py_text(summary->allocator)) < 0 ||
         neap_py_put(dict, "exit", exit_dict(summary)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *loss_dict(const struct neap_summary *summary)
{
    PyObject *dict = PyDict_New();

    if (dict &&
        (neap_py_put(dict, "events", PyLong_FromLongLong(summary->loss_events)) < 0 ||
         neap_py_put(dict, "bytes", PyLong_FromLongLong(summary->loss_bytes)) < 0 ||
         neap_py_put(dict, "stacks", PyLong_FromLongLong(summary->loss_stacks)) < 0 ||
         neap_py_put(dict, "complete",
                     PyBool_FromLong(summary->state != NEAP_RECORDING_LOST &&
                                     summary->on_ns >= summary->duration_ns)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static bool summarize(PyObject *self, struct neap_summary *ret)
{
    struct neap_error *error;
    struct neap_py_ask ask;

    if (!neap_py_ask_begin(&ask, self))
        return false;
    error = neap_recording_summary(ask.self->recording, ret);
    neap_py_ask_end(&ask);
    if (error)
        neap_py_raise(neap_py_state_of(self), error);
    return !error;
}

PyObject *neap_py_get_recording(PyObject *self, void *closure)
{
    /* The words of CMD; SQLite reads the JSON, so that nothing need be imported. */
    static const char *command =
        "SELECT value FROM json_each((SELECT iif(json_valid(command), command, '[]')"
        " FROM recording))";
    struct neap_summary summary;
    struct neap_table *table;
    PyObject *dict = NULL;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    table = neap_py_ask_sql(self, command, NULL, 0);
    if (table)
        dict = summary_dict(&summary, table);
    neap_table_destroy(table);
    neap_summary_deinit(&summary);
    return dict;
}

PyObject *neap_py_get_loss(PyObject *self, void *closure)
{
    struct neap_summary summary;
    PyObject *dict;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    dict = loss_dict(&summary);
    neap_summary_deinit(&summary);
    return dict;
}

PyObject *neap_py_get_state(PyObject *self, void *closure)
{
    static const char *const words[] = {
        [NEAP_RECORDING_FINISHED] = "finished",
        [NEAP_RECORDING_RUNNING] = "running",
        [NEAP_RECORDING_LOST] = "lost",
    };
    struct neap_summary summary;
    PyObject *word;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    word = PyUnicode_FromString(words[summary.state]);
    neap_summary_deinit(&summary);
    return word;
}

/* The row as a dictionary whose command is a list again, as long as it was JSON. */
static PyObject *process_dict(const struct neap_table *table, size_t row,
                              PyObject *loads)
{
    PyObject *dict = neap_py_table_dict(table, row);
    PyObject *command = dict ? PyDict_GetItemString(dict, "command") : NULL;
    PyObject *list;

    if (!command)
        return dict;
    list = PyObject_CallFunctionObjArgs(loads, command, NULL);
    if (!list && PyErr_ExceptionMatches(PyExc_ValueError))
        PyErr_Clear();
    else if (neap_py_put(dict, "command", list) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *process_list(const struct neap_table *table)
{
    PyObject *json = PyImport_ImportModule("json");
    PyObject *loads = json ? PyObject_GetAttrString(json, "loads") : NULL;
    PyObject *list = loads ? PyList_New(0) : NULL;

    for (size_t i = 0; list && i < table->rows; i++) {
        PyObject *dict = process_dict(table, i, loads);

        if (!dict || PyList_Append(list, dict) < 0)
            Py_CLEAR(list);
        Py_XDECREF(dict);
    }
    Py_XDECREF(loads);
    Py_XDECREF(json);
    return list;
}

PyObject *neap_py_get_processes(PyObject *self, void *closure)
{
    /* The view, but what ran when the collector ended is lost, not running. */
    static const char *processes =
        "SELECT pid, ppid, exe, command, start_ns, end_ns,"
        " iif(exit_kind = 'running' AND ?1, 'lost', exit_kind) AS exit_kind, exit_code,"
        " allocator, interval, unwinder, live_bytes, live_count, peak_bytes, "
        "peak_count,"
        " peak_ns, foreign_free_count, truncated_stacks, verified, verify_differences,"
        " waits, fallbacks, event_count, event_first, event_first_ns, peak_event,"
        " live_variance, peak_variance FROM process";
    struct neap_cell lost = {.type = NEAP_CELL_INTEGER};
    struct neap_summary summary;
    struct neap_table *table;
    PyObject *list;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    lost.integer = summary.state != NEAP_RECORDING_RUNNING;
    neap_summary_deinit(&summary);
    table = neap_py_ask_sql(self, processes, &lost, 1);
    if (!table)
        return NULL;
    list = process_list(table);
    neap_table_destroy(table);
    return list;
}
