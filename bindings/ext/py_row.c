/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Row: one stack, thread or class of sizes of a report, with its numbers.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

struct row {
    PyObject ob_base;
    PyObject *report; /* keeps `row` alive */
    const struct neap_row *row;
};

PyObject *neap_py_row_wrap(struct neap_py_state *state, PyObject *report,
                           const struct neap_row *row)
{
    struct row *self = PyObject_New(struct row, state->row);

    if (!self)
        return NULL;
    self->report = Py_NewRef(report);
    self->row = row;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_DECREF(((struct row *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_row *row_of(PyObject *object)
{
    return ((struct row *)object)->row;
}

static PyObject *get_value(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(row_of(self)->value);
}

static PyObject *get_count(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(row_of(self)->count);
}

static PyObject *get_ci95(PyObject *self, void *closure)
{
    (void)closure;
    return PyFloat_FromDouble(row_of(self)->ci95);
}

static PyObject *get_stack_id(PyObject *self, void *closure)
{
    (void)closure;
    if (neap_py_report_by(((struct row *)self)->report) != NEAP_BY_STACK)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(row_of(self)->stack_id);
}

static PyObject *get_truncated(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(row_of(self)->truncated);
}

static PyObject *get_frames(PyObject *self, void *closure)
{
    const struct neap_row *row = row_of(self);

    (void)closure;
    return neap_py_frames(self, ((struct row *)self)->report, row->frames, row->depth);
}

static enum neap_report_by by_of(PyObject *self)
{
    return neap_py_report_by(((struct row *)self)->report);
}

static PyObject *get_pid(PyObject *self, void *closure)
{
    (void)closure;
    if (by_of(self) != NEAP_BY_THREAD)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(row_of(self)->pid);
}

static PyObject *get_tid(PyObject *self, void *closure)
{
    (void)closure;
    if (by_of(self) != NEAP_BY_THREAD)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(row_of(self)->tid);
}

static PyObject *get_thread(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_text(row_of(self)->name);
}

static PyObject *get_min_size(PyObject *self, void *closure)
{
    (void)closure;
    if (by_of(self) != NEAP_BY_SIZE)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(row_of(self)->min_size);
}

static PyObject *get_max_size(PyObject *self, void *closure)
{
    (void)closure;
    if (by_of(self) != NEAP_BY_SIZE)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(row_of(self)->max_size);
}

static PyObject *repr(PyObject *self)
{
    const struct neap_row *row = row_of(self);
    const char *function = row->depth ? row->frames[0]->function : NULL;
    PyObject *name = neap_py_text(function ? function : "?");
    PyObject *text;

    if (!name)
        return NULL;
    if (by_of(self) == NEAP_BY_THREAD)
        text = PyUnicode_FromFormat("<Row %lld bytes, count %lld, of thread %lld>",
                                    (long long)row->value, (long long)row->count,
                                    (long long)row->tid);
    else if (by_of(self) == NEAP_BY_SIZE)
        text = PyUnicode_FromFormat("<Row %lld bytes, count %lld, of sizes %llu to "
                                    "%llu>",
                                    (long long)row->value, (long long)row->count,
                                    (unsigned long long)row->min_size,
                                    (unsigned long long)row->max_size);
    else
        text = PyUnicode_FromFormat("<Row %lld bytes, count %lld, allocated by %U>",
                                    (long long)row->value, (long long)row->count, name);
    Py_DECREF(name);
    return text;
}

static PyGetSetDef getters[] = {
    {"value", get_value, NULL, NEAP_DOC_Row_value, NULL},
    {"count", get_count, NULL, NEAP_DOC_Row_count, NULL},
    {"ci95", get_ci95, NULL, NEAP_DOC_Row_ci95, NULL},
    {"stack_id", get_stack_id, NULL, NEAP_DOC_Row_stack_id, NULL},
    {"truncated", get_truncated, NULL, NEAP_DOC_Row_truncated, NULL},
    {"frames", get_frames, NULL, NEAP_DOC_Row_frames, NULL},
    {"pid", get_pid, NULL, NEAP_DOC_Row_pid, NULL},
    {"tid", get_tid, NULL, NEAP_DOC_Row_tid, NULL},
    {"thread", get_thread, NULL, NEAP_DOC_Row_thread, NULL},
    {"min_size", get_min_size, NULL, NEAP_DOC_Row_min_size, NULL},
    {"max_size", get_max_size, NULL, NEAP_DOC_Row_max_size, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int neap_py_row_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_Row},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)repr},
        {Py_tp_getset, getters},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.Row",
        .basicsize = sizeof(struct row),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->row);
}
