/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Recording: an open recording and the questions to it.
 *
 * Questions release the GIL. One is answered at a time: others wait at the lock, and
 * a signal handler that asks in the middle of its own thread's question is told so
 * instead of waiting for ever. While a question runs the interpreter's signals are
 * looked at every few milliseconds, so Ctrl-C ends it.
 */
#include "bindings/ext/py_recording.h"
#include "bindings/ext/docstrings.h"

#include <stdlib.h>

static bool check_signals(void *data)
{
    struct neap_py_ask *ask = data;
    bool stop;

    PyEval_RestoreThread(ask->thread);
    stop = PyErr_CheckSignals() != 0;
    ask->thread = PyEval_SaveThread();
    return stop;
}

PyObject *neap_py_raise_usage(PyObject *self, const char *message)
{
    PyErr_SetString(neap_py_state_of(self)->exceptions[NEAP_PY_UsageError], message);
    return NULL;
}

/* Lock without the GIL. On false an exception is set and the GIL is held. */
static bool lock(struct neap_py_recording *self, PyThreadState **thread)
{
    *thread = PyEval_SaveThread();
    if (pthread_mutex_lock(&self->lock) == 0)
        return true;
    PyEval_RestoreThread(*thread);
    neap_py_raise_usage((PyObject *)self,
                        "the recording is being asked by this very thread: wait for "
                        "the answer before asking again");
    return false;
}

bool neap_py_ask_begin(struct neap_py_ask *ask, PyObject *self)
{
    ask->self = (struct neap_py_recording *)self;
    if (!lock(ask->self, &ask->thread))
        return false;
    if (ask->self->recording) {
        neap_recording_watch(ask->self->recording, check_signals, ask);
        return true;
    }
    pthread_mutex_unlock(&ask->self->lock);
    PyEval_RestoreThread(ask->thread);
    neap_py_raise_usage(self,
                        "the recording is closed: open it again with neaptide.open()");
    return false;
}

void neap_py_ask_end(struct neap_py_ask *ask)
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
    struct neap_py_recording *self;
    PyThreadState *thread;
    PyObject *path = NULL;
    const char *bytes;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:open", names,
                                     PyUnicode_FSConverter, &path))
        return NULL;
    bytes = PyBytes_AsString(path);
    thread = PyEval_SaveThread();
    error = neap_recording_open(bytes, &recording);
    PyEval_RestoreThread(thread);
    self = error ? NULL : PyObject_New(struct neap_py_recording, state->recording);
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
    struct neap_py_recording *self = (struct neap_py_recording *)object;
    PyTypeObject *type = Py_TYPE(object);

    neap_recording_close(self->recording);
    pthread_mutex_destroy(&self->lock);
    Py_DECREF(self->path);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *close_recording(PyObject *object, PyObject *unused)
{
    struct neap_py_recording *self = (struct neap_py_recording *)object;
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

/* One parameter of SQL. What it points to is alive as long as the caller's tuple. */
static bool parameter(PyObject *self, PyObject *value, struct neap_cell *ret)
{
    Py_ssize_t length = 0;
    char *bytes = NULL;

    if (value == Py_None)
        return true;
    if (PyLong_Check(value)) {
        ret->type = NEAP_CELL_INTEGER;
        return neap_py_int64(self, value, "an int as a parameter of SQL",
                             &ret->integer);
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
    neap_py_raise_usage(self,
                        "a parameter of SQL must be int, float, str, bytes or None");
    return false;
}

struct neap_table *neap_py_ask_sql(PyObject *self, const char *sql,
                                   const struct neap_cell *parameters, size_t count)
{
    struct neap_table *table = NULL;
    struct neap_error *error;
    struct neap_py_ask ask;

    if (!neap_py_ask_begin(&ask, self))
        return NULL;
    error = neap_recording_sql(ask.self->recording, sql, parameters, count, &table);
    neap_py_ask_end(&ask);
    if (error)
        neap_py_raise(neap_py_state_of(self), error);
    return error ? NULL : table;
}

static PyObject *table_or_null(PyObject *self, struct neap_table *table)
{
    return table ? neap_py_table_wrap(neap_py_state_of(self), table) : NULL;
}

/* The parameters as a tuple. A mapping's keys would be bound in place of its values. */
static PyObject *parameters_of(PyObject *values)
{
    if (!values)
        return PyTuple_New(0);
    if (!PyDict_Check(values) && !PyObject_HasAttrString(values, "keys"))
        return PySequence_Tuple(values);
    PyErr_SetString(PyExc_TypeError,
                    "the parameters of SQL are a sequence, bound by position: write ? "
                    "in the statement and give a list or tuple instead of a mapping");
    return NULL;
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
    tuple = parameters_of(values);
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
        result =
            table_or_null(self, neap_py_ask_sql(self, statement, cells, (size_t)count));
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_OverflowError, "a parameter of SQL is too long");
    free(cells);
    Py_DECREF(tuple);
    return result;
}

static PyObject *live(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, neap_py_ask_sql(self, "SELECT * FROM live", NULL, 0));
}

static PyObject *map_events(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self,
                         neap_py_ask_sql(self, "SELECT * FROM map_event", NULL, 0));
}

static PyObject *threads(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, neap_py_ask_sql(self, "SELECT * FROM thread", NULL, 0));
}

static PyObject *modules(PyObject *self, PyObject *unused)
{
    (void)unused;
    return table_or_null(self, neap_py_ask_sql(self, "SELECT * FROM module", NULL, 0));
}

static PyObject *get_path(PyObject *self, void *closure)
{
    PyObject *path = ((struct neap_py_recording *)self)->path;

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
    {"state", neap_py_get_state, NULL, NEAP_DOC_Recording_state, NULL},
    {"recording", neap_py_get_recording, NULL, NEAP_DOC_Recording_recording, NULL},
    {"processes", neap_py_get_processes, NULL, NEAP_DOC_Recording_processes, NULL},
    {"loss", neap_py_get_loss, NULL, NEAP_DOC_Recording_loss, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef methods[] = {
    {"report", KEYWORDS(neap_py_report), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_report},
    {"leaks", KEYWORDS(neap_py_leaks), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_leaks},
    {"maps", KEYWORDS(neap_py_maps), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_maps},
    {"errors", KEYWORDS(neap_py_errors), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_errors},
    {"events", KEYWORDS(neap_py_events), METH_VARARGS | METH_KEYWORDS,
     NEAP_DOC_Recording_events},
    {"sql", KEYWORDS(sql), METH_VARARGS | METH_KEYWORDS, NEAP_DOC_Recording_sql},
    {"live", live, METH_NOARGS, NEAP_DOC_Recording_live},
    {"map_events", map_events, METH_NOARGS, NEAP_DOC_Recording_map_events},
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
        .basicsize = sizeof(struct neap_py_recording),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->recording);
}
