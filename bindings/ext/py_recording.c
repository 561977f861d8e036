/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Recording: an open recording and the questions to it.
 *
 * Questions release the GIL. One is answered at a time: others wait at the lock, and
 * a signal handler that asks in the middle of its own thread's question is told so
 * instead of waiting for ever. While a question runs the interpreter's signals are
 * looked at every few milliseconds, so Ctrl-C ends it.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct recording {
    PyObject ob_base;
    struct neap_recording *recording; /* NULL: closed; changed under the lock only */
    PyObject *path;
    pthread_mutex_t lock; /* error checking; taken without the GIL */
};

/* A question under way: between ask_begin and ask_end the GIL is not held. */
struct ask {
    struct recording *self;
    PyThreadState *thread;
};

static bool check_signals(void *data)
{
    struct ask *ask = data;
    bool stop;

    PyEval_RestoreThread(ask->thread);
    stop = PyErr_CheckSignals() != 0;
    ask->thread = PyEval_SaveThread();
    return stop;
}

static PyObject *raise_usage(PyObject *self, const char *message)
{
    PyErr_SetString(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError], message);
    return NULL;
}

/* Lock without the GIL. On false an exception is set and the GIL is held. */
static bool lock(struct recording *self, PyThreadState **thread)
{
    *thread = PyEval_SaveThread();
    if (pthread_mutex_lock(&self->lock) == 0)
        return true;
    PyEval_RestoreThread(*thread);
    raise_usage((PyObject *)self, "the recording is being asked by this very thread: "
                                  "wait for the answer before asking again");
    return false;
}

static bool ask_begin(struct ask *ask, PyObject *self)
{
    ask->self = (struct recording *)self;
    if (!lock(ask->self, &ask->thread))
        return false;
    if (ask->self->recording) {
        neap_recording_watch(ask->self->recording, check_signals, ask);
        return true;
    }
    pthread_mutex_unlock(&ask->self->lock);
    PyEval_RestoreThread(ask->thread);
    raise_usage(self, "the recording is closed: open it again with neaptide.open()");
    return false;
}

static void ask_end(struct ask *ask)
{
    neap_recording_watch(ask->self->recording, NULL, NULL);
    pthread_mutex_unlock(&ask->self->lock);
    PyEval_RestoreThread(ask->thread);
}

PyObject *neap_py_recording_open(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", NULL};
    struct neap_py_state *state = PyModule_GetState(module);
    struct neap_recording *recording = NULL;
    pthread_mutexattr_t checking;
    struct neap_error *error;
    struct recording *self;
    PyObject *path = NULL;
    const char *bytes;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:open", names,
                                     PyUnicode_FSConverter, &path))
        return NULL;
    bytes = PyBytes_AsString(path);
    Py_BEGIN_ALLOW_THREADS error = neap_recording_open(bytes, &recording);
    Py_END_ALLOW_THREADS self =
        error ? NULL : PyObject_New(struct recording, state->recording);
    if (!self) {
        Py_DECREF(path);
        neap_recording_close(recording);
        return error ? neap_py_raise(state, error) : NULL;
    }
    self->recording = recording;
    self->path = path;
    pthread_mutexattr_init(&checking);
    pthread_mutexattr_settype(&checking, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&self->lock, &checking);
    pthread_mutexattr_destroy(&checking);
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    struct recording *self = (struct recording *)object;
    PyTypeObject *type = Py_TYPE(object);

    neap_recording_close(self->recording);
    pthread_mutex_destroy(&self->lock);
    Py_DECREF(self->path);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *close_recording(PyObject *object, PyObject *unused)
{
    struct recording *self = (struct recording *)object;
    PyThreadState *thread;

    (void)unused;
    if (!lock(self, &thread))
        return NULL;
    neap_recording_close(self->recording);
    self->recording = NULL;
    pthread_mutex_unlock(&self->lock);
    PyEval_RestoreThread(thread);
    Py_RETURN_NONE;
}

static PyObject *enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *leave(PyObject *self, PyObject *args)
{
    (void)args;
    return close_recording(self, NULL);
}

/* Ask a report and wrap it. */
static PyObject *ask_report(PyObject *self, const struct neap_report_query *query)
{
    struct neap_report *report = NULL;
    struct neap_error *error;
    struct ask ask;

    if (!ask_begin(&ask, self))
        return NULL;
    error = neap_recording_report(ask.self->recording, query, &report);
    ask_end(&ask);
    if (error)
        return neap_py_raise(neap_py_state_of(self), error);
    return neap_py_report_wrap(neap_py_state_of(self), report);
}

/* A whole number, or None for `otherwise`. */
static bool whole_number(PyObject *self, PyObject *object, const char *what,
                         int64_t otherwise, int64_t *ret)
{
    int64_t number = otherwise;

    if (object != Py_None) {
        number = PyLong_AsLongLong(object);
        if (number == -1 && PyErr_Occurred())
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

static PyObject *report(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"metric", "limit", "pid", NULL};
    struct neap_report_query query = {0};
    PyObject *limit = NULL, *pid = Py_None;
    const char *metric = "peak";
    struct neap_error *error;

    query.limit = 20;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|sOO:report", names, &metric,
                                     &limit, &pid) ||
        (limit && !whole_number(self, limit, "limit", -1, &query.limit)) ||
        !whole_number(self, pid, "pid", 0, &query.pid))
        return NULL;
    query.has_pid = pid != Py_None;
    error = neap_metric_parse(metric, &query.metric);
    if (error)
        return neap_py_raise(neap_py_state_of(self), error);
    return ask_report(self, &query);
}

static PyObject *leaks(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"suppressions", "limit", "pid", "builtin", NULL};
    struct neap_report_query query = {.metric = NEAP_METRIC_LIVE};
    PyObject *limit = Py_None, *pid = Py_None;
    int builtin = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zOOp:leaks", names,
                                     &query.suppressions, &limit, &pid, &builtin) ||
        !whole_number(self, limit, "limit", -1, &query.limit) ||
        !whole_number(self, pid, "pid", 0, &query.pid))
        return NULL;
    query.has_pid = pid != Py_None;
    query.builtin_suppressions = builtin != 0;
    return ask_report(self, &query);
}

/* One parameter of SQL. What it points to is alive as long as the caller's tuple. */
static bool parameter(PyObject *self, PyObject *value, struct neap_cell *ret)
{
    Py_ssize_t length = 0;
    char *bytes = NULL;

    if (value == Py_None)
        return true;
    if (PyLong_Check(value)) {
        ret->type = NEAP_CELL_INTEGER;
        ret->integer = PyLong_AsLongLong(value);
        return ret->integer != -1 || !PyErr_Occurred();
    }
    if (PyFloat_Check(value)) {
        ret->type = NEAP_CELL_REAL;
        ret->real = PyFloat_AsDouble(value);
        return true;
    }
    if (PyUnicode_Check(value)) {
        ret->type = NEAP_CELL_TEXT;
        ret->bytes = PyUnicode_AsUTF8AndSize(value, &length);
        ret->length = (uint32_t)length;
        return ret->bytes && length <= INT32_MAX;
    }
    if (PyBytes_Check(value)) {
        ret->type = NEAP_CELL_BLOB;
        if (PyBytes_AsStringAndSize(value, &bytes, &length) < 0)
            return false;
        ret->bytes = bytes;
        ret->length = (uint32_t)length;
        return length <= INT32_MAX;
    }
    raise_usage(self, "a parameter of SQL must be int, float, str, bytes or None");
    return false;
}

/* Ask SQL. NULL: an exception is set. */
static struct neap_table *ask_sql(PyObject *self, const char *sql,
                                  const struct neap_cell *parameters, size_t count)
{
    struct neap_table *table = NULL;
    struct neap_error *error;
    struct ask ask;

    if (!ask_begin(&ask, self))
        return NULL;
    error = neap_recording_sql(ask.self->recording, sql, parameters, count, &table);
    ask_end(&ask);
    if (error)
        neap_py_raise(neap_py_state_of(self), error);
    return error ? NULL : table;
}

static PyObject *table_or_null(PyObject *self, struct neap_table *table)
{
    return table ? neap_py_table_wrap(neap_py_state_of(self), table) : NULL;
}

static PyObject *sql(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"statement", "parameters", NULL};
    PyObject *values = NULL, *tuple, *result = NULL;
    struct neap_cell *cells;
    const char *statement;
    Py_ssize_t count, i;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|O:sql", names, &statement,
                                     &values))
        return NULL;
    tuple = values ? PySequence_Tuple(values) : PyTuple_New(0);
    if (!tuple)
        return NULL;
    count = PyTuple_Size(tuple);
    cells = calloc((size_t)count + 1, sizeof(*cells));
    for (i = 0; cells && i < count; i++) {
        if (!parameter(self, PyTuple_GetItem(tuple, i), &cells[i]))
            break;
    }
    if (!cells)
        PyErr_NoMemory();
    else if (i == count)
        result = table_or_null(self, ask_sql(self, statement, cells, (size_t)count));
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_OverflowError, "a parameter of SQL is too long");
    free(cells);
    Py_DECREF(tuple);
    return result;
}

static PyObject *live(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, ask_sql(self, "SELECT * FROM live", NULL, 0));
}

static PyObject *maps(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, ask_sql(self, "SELECT * FROM map_event", NULL, 0));
}

static PyObject *threads(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, ask_sql(self, "SELECT * FROM thread", NULL, 0));
}

static PyObject *modules(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, ask_sql(self, "SELECT * FROM module", NULL, 0));
}

static bool summarize(PyObject *self, struct neap_summary *ret)
{
    struct neap_error *error;
    struct ask ask;

    if (!ask_begin(&ask, self))
        return false;
    error = neap_recording_summary(ask.self->recording, ret);
    ask_end(&ask);
    if (error)
        neap_py_raise(neap_py_state_of(self), error);
    return !error;
}

static PyObject *get_recording(PyObject *self, void *closure)
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
    table = ask_sql(self, command, NULL, 0);
    if (table)
        dict = neap_py_summary_dict(&summary, table);
    neap_table_destroy(table);
    neap_summary_deinit(&summary);
    return dict;
}

static PyObject *get_loss(PyObject *self, void *closure)
{
    struct neap_summary summary;
    PyObject *dict;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    dict = neap_py_summary_loss(&summary);
    neap_summary_deinit(&summary);
    return dict;
}

static PyObject *get_state(PyObject *self, void *closure)
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

static PyObject *get_processes(PyObject *self, void *closure)
{
    /* The view, but what ran when the collector ended is lost, not running. */
    static const char *processes =
        "SELECT pid, ppid, exe, command, start_ns, end_ns,"
        " iif(exit_kind = 'running' AND ?1, 'lost', exit_kind) AS exit_kind, exit_code,"
        " allocator, interval, unwinder, live_bytes, live_count, peak_bytes, "
        "peak_count,"
        " peak_ns, foreign_free_count, truncated_stacks, verified, verify_differences,"
        " waits FROM process";
    struct neap_cell lost = {.type = NEAP_CELL_INTEGER};
    struct neap_summary summary;
    struct neap_table *table;
    PyObject *list;

    (void)closure;
    if (!summarize(self, &summary))
        return NULL;
    lost.integer = summary.state != NEAP_RECORDING_RUNNING;
    neap_summary_deinit(&summary);
    table = ask_sql(self, processes, &lost, 1);
    if (!table)
        return NULL;
    list = process_list(table);
    neap_table_destroy(table);
    return list;
}

static PyObject *get_path(PyObject *self, void *closure)
{
    PyObject *path = ((struct recording *)self)->path;

    (void)closure;
    return PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(path), PyBytes_Size(path));
}

static PyObject *repr(PyObject *self)
{
    PyObject *path = get_path(self, NULL);
    PyObject *text = path ? PyUnicode_FromFormat("<Recording %R>", path) : NULL;

    Py_XDECREF(path);
    return text;
}

static PyGetSetDef getters[] = {
    {"path", get_path, NULL, NEAP_DOC_Recording_path, NULL},
    {"state", get_state, NULL, NEAP_DOC_Recording_state, NULL},
    {"recording", get_recording, NULL, NEAP_DOC_Recording_recording, NULL},
    {"processes", get_processes, NULL, NEAP_DOC_Recording_processes, NULL},
    {"loss", get_loss, NULL, NEAP_DOC_Recording_loss, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef methods[] = {
    {"report", KEYWORDS(report), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_report},
    {"leaks", KEYWORDS(leaks), METH_VARARGS | METH_KEYWORDS, NEAP_DOC_Recording_leaks},
    {"sql", KEYWORDS(sql), METH_VARARGS | METH_KEYWORDS, NEAP_DOC_Recording_sql},
    {"live", live, METH_NOARGS, NEAP_DOC_Recording_live},
    {"maps", maps, METH_NOARGS, NEAP_DOC_Recording_maps},
    {"threads", threads, METH_NOARGS, NEAP_DOC_Recording_threads},
    {"modules", modules, METH_NOARGS, NEAP_DOC_Recording_modules},
    {"close", close_recording, METH_NOARGS, NEAP_DOC_Recording_close},
    {"__enter__", enter, METH_NOARGS, NEAP_DOC_Recording___enter__},
    {"__exit__", leave, METH_VARARGS, NEAP_DOC_Recording___exit__},
    {NULL, NULL, 0, NULL},
};

int neap_py_recording_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_Recording},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)repr},
        {Py_tp_getset, getters},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.Recording",
        .basicsize = sizeof(struct recording),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->recording);
}
