/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Report: a sequence of rows with their totals; and neaptide.Total, a tuple
 * with names.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

#include <stdlib.h>

struct report {
    PyObject ob_base;
    struct neap_report *report;
};

static PyStructSequence_Field total_fields[] = {
    {"value", NEAP_DOC_Total_value},
    {"ci95", NEAP_DOC_Total_ci95},
    {"count", NEAP_DOC_Total_count},
    {NULL, NULL},
};

static PyStructSequence_Desc total_desc = {
    .name = "neaptide.Total",
    .doc = NEAP_DOC_Total,
    .fields = total_fields,
    .n_in_sequence = 3,
};

PyObject *neap_py_report_wrap(struct neap_py_state *state, struct neap_report *report)
{
    struct report *self = PyObject_New(struct report, state->report);

    if (!self) {
        neap_report_destroy(report);
        return NULL;
    }
    self->report = report;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    neap_report_destroy(((struct report *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_report *report_of(PyObject *object)
{
    return ((struct report *)object)->report;
}

static PyObject *total(PyObject *self, int64_t value, double ci95, int64_t count)
{
    PyObject *items[] = {PyLong_FromLongLong(value), PyFloat_FromDouble(ci95),
                         PyLong_FromLongLong(count)};
    PyObject *tuple = NULL;

    if (items[0] && items[1] && items[2])
        tuple = PyStructSequence_New(neap_py_state_of(self)->total);
    for (Py_ssize_t i = 0; i < 3; i++) {
        if (tuple)
            PyStructSequence_SetItem(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return tuple;
}

static PyObject *get_metric(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(neap_metric_name(report_of(self)->metric));
}

enum neap_report_by neap_py_report_by(PyObject *report)
{
    return report_of(report)->by;
}

static PyObject *get_by(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(neap_by_name(report_of(self)->by));
}

static PyObject *get_unit(PyObject *self, void *closure)
{
    (void)self, (void)closure;
    return PyUnicode_FromString("bytes");
}

static PyObject *get_total(PyObject *self, void *closure)
{
    const struct neap_report *report = report_of(self);

    (void)closure;
    return total(self, report->total_value, report->total_ci95, report->total_count);
}

static PyObject *get_suppressed(PyObject *self, void *closure)
{
    const struct neap_report *report = report_of(self);

    (void)closure;
    return total(self, report->suppressed_value, report->suppressed_ci95,
                 report->suppressed_count);
}

static PyObject *get_stacks(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(report_of(self)->stacks);
}

static PyObject *get_processes(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(report_of(self)->processes);
}

static PyObject *get_images(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(report_of(self)->images);
}

static PyObject *collapsed(PyObject *self, PyObject *unused)
{
    const struct neap_report *report = report_of(self);
    PyThreadState *thread = PyEval_SaveThread();
    size_t length = 0;
    char *text = NULL;
    struct neap_error *error = neap_report_collapsed(report, &text, &length);
    PyObject *result;

    (void)unused;
    PyEval_RestoreThread(thread);
    if (error)
        return neap_py_raise(neap_py_state_of(self), error);
    result = neap_py_text_length(text, length);
    free(text);
    return result;
}

static Py_ssize_t length(PyObject *self)
{
    return report_of(self)->count;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    if (index < 0 || index >= report_of(self)->count) {
        PyErr_SetString(PyExc_IndexError, "the report has no such row");
        return NULL;
    }
    return neap_py_row_wrap(neap_py_state_of(self), self,
                            &report_of(self)->rows[index]);
}

static PyObject *repr(PyObject *self)
{
    const struct neap_report *report = report_of(self);

    static const char *const nouns[] = {
        [NEAP_BY_STACK] = "stacks",
        [NEAP_BY_THREAD] = "threads",
        [NEAP_BY_SIZE] = "sizes",
    };

    return PyUnicode_FromFormat(
        "<Report %s: %lld bytes, %lu of %lld %s>", neap_metric_name(report->metric),
        (long long)report->total_value, (unsigned long)report->count,
        (long long)report->stacks, nouns[report->by]);
}

static PyGetSetDef getters[] = {
    {"metric", get_metric, NULL, NEAP_DOC_Report_metric, NULL},
    {"by", get_by, NULL, NEAP_DOC_Report_by, NULL},
    {"unit", get_unit, NULL, NEAP_DOC_Report_unit, NULL},
    {"total", get_total, NULL, NEAP_DOC_Report_total, NULL},
    {"suppressed", get_suppressed, NULL, NEAP_DOC_Report_suppressed, NULL},
    {"stacks", get_stacks, NULL, NEAP_DOC_Report_stacks, NULL},
    {"processes", get_processes, NULL, NEAP_DOC_Report_processes, NULL},
    {"images", get_images, NULL, NEAP_DOC_Report_images, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"collapsed", collapsed, METH_NOARGS, NEAP_DOC_Report_collapsed},
    {NULL, NULL, 0, NULL},
};

int neap_py_report_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_Report},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)repr},
        {Py_tp_getset, getters},
        {Py_tp_methods, methods},
        {Py_tp_iter, (void *)PySeqIter_New},
        {Py_sq_length, (void *)length},
        {Py_sq_item, (void *)item},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.Report",
        .basicsize = sizeof(struct report),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    state->total = PyStructSequence_NewType(&total_desc);
    if (!state->total || PyModule_AddType(module, state->total) < 0)
        return -1;
    return neap_py_add_type(module, &spec, &state->report);
}
