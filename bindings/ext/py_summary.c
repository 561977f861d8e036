/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording's summary as the dictionaries that the JSON of every report opens with.
 */
#include "bindings/ext/py.h"

#include <string.h>

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

PyObject *neap_py_summary_dict(const struct neap_summary *summary,
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
         neap_py_put(dict, "mode", neap_py_text(summary->mode)) < 0 ||
         neap_py_put(dict, "interval", PyLong_FromLongLong(summary->interval)) < 0 ||
         neap_py_put(dict, "allocator", neap_py_text(summary->allocator)) < 0 ||
         neap_py_put(dict, "exit", exit_dict(summary)) < 0))
        Py_CLEAR(dict);
    return dict;
}

PyObject *neap_py_summary_loss(const struct neap_summary *summary)
{
    PyObject *dict = PyDict_New();

    if (dict &&
        (neap_py_put(dict, "events", PyLong_FromLongLong(summary->loss_events)) < 0 ||
         neap_py_put(dict, "bytes", PyLong_FromLongLong(summary->loss_bytes)) < 0 ||
         neap_py_put(dict, "stacks", PyLong_FromLongLong(summary->loss_stacks)) < 0))
        Py_CLEAR(dict);
    return dict;
}
