/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.ErrorReport: the memory errors of programs, a sequence of rows; and
 * neaptide.ErrorRow, one of them. (py_error.c is about our own.)
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py_recording.h"

#include <stddef.h>

struct report {
    PyObject ob_base;
    struct neap_memory_errors *errors;
};

struct row {
    PyObject ob_base;
    PyObject *report; /* keeps `error` alive */
    const struct neap_memory_error *error;
};

/* ---- rows ---- */

static void row_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_DECREF(((struct row *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_memory_error *error_of(PyObject *object)
{
    return ((struct row *)object)->error;
}

static PyObject *get_kind(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_text(error_of(self)->kind);
}

/* `closure` is where the number stands. */
static PyObject *get_number(PyObject *self, void *closure)
{
    const char *error = (const char *)error_of(self);

    return PyLong_FromLongLong(*(const int64_t *)(error + (uintptr_t)closure));
}

static PyObject *get_block_number(PyObject *self, void *closure)
{
    if (!error_of(self)->has_block)
        Py_RETURN_NONE;
    return get_number(self, closure);
}

/* `closure` is where the stack stands. */
static const struct neap_trace *trace_of(PyObject *self, void *closure)
{
    const char *error = (const char *)error_of(self);

    return (const struct neap_trace *)(const void *)(error + (uintptr_t)closure);
}

static PyObject *get_stack_id(PyObject *self, void *closure)
{
    return neap_py_stack_id(trace_of(self, closure));
}

static PyObject *get_frames(PyObject *self, void *closure)
{
    const struct neap_trace *trace = trace_of(self, closure);

    return neap_py_frames(self, ((struct row *)self)->report, trace->frames,
                          trace->depth);
}

static PyObject *row_repr(PyObject *self)
{
    const struct neap_memory_error *error = error_of(self);
    PyObject *kind = neap_py_text(error->kind);
    PyObject *text = kind ? PyUnicode_FromFormat("<ErrorRow %U at %p>", kind,
                                                 (void *)(uintptr_t)error->address)
                          : NULL;

    Py_XDECREF(kind);
    return text;
}

#define AT(member) (void *)offsetof(struct neap_memory_error, member)

static PyGetSetDef row_getters[] = {
    {"kind", get_kind, NULL, NEAP_DOC_ErrorRow_kind, NULL},
    {"ts_ns", get_number, NULL, NEAP_DOC_ErrorRow_ts_ns, AT(ts_ns)},
    {"pid", get_number, NULL, NEAP_DOC_ErrorRow_pid, AT(pid)},
    {"tid", get_number, NULL, NEAP_DOC_ErrorRow_tid, AT(tid)},
    {"address", get_number, NULL, NEAP_DOC_ErrorRow_address, AT(address)},
    {"block", get_block_number, NULL, NEAP_DOC_ErrorRow_block, AT(block)},
    {"size", get_block_number, NULL, NEAP_DOC_ErrorRow_size, AT(size)},
    {"alloc_stack_id", get_stack_id, NULL, NEAP_DOC_ErrorRow_alloc_stack_id, AT(alloc)},
    {"free_stack_id", get_stack_id, NULL, NEAP_DOC_ErrorRow_free_stack_id, AT(free)},
    {"stack_id", get_stack_id, NULL, NEAP_DOC_ErrorRow_stack_id, AT(found)},
    {"alloc_frames", get_frames, NULL, NEAP_DOC_ErrorRow_alloc_frames, AT(alloc)},
    {"free_frames", get_frames, NULL, NEAP_DOC_ErrorRow_free_frames, AT(free)},
    {"frames", get_frames, NULL, NEAP_DOC_ErrorRow_frames, AT(found)},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the report ---- */

static void report_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    neap_memory_errors_destroy(((struct report *)object)->errors);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_memory_errors *errors_of(PyObject *object)
{
    return ((struct report *)object)->errors;
}

static PyObject *get_total(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(errors_of(self)->total);
}

static PyObject *get_processes(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(errors_of(self)->processes);
}

static PyObject *get_images(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(errors_of(self)->images);
}

static Py_ssize_t length(PyObject *self)
{
    return errors_of(self)->count;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    struct row *row;

    if (index < 0 || index >= errors_of(self)->count) {
        PyErr_SetString(PyExc_IndexError, "the report has no such row");
        return NULL;
    }
    row = PyObject_New(struct row, neap_py_state_of(self)->error_row);
    if (!row)
        return NULL;
    row->report = Py_NewRef(self);
    row->error = &errors_of(self)->rows[index];
    return (PyObject *)row;
}

static PyObject *report_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<ErrorReport %lu of %lld memory errors>",
                                (unsigned long)errors_of(self)->count,
                                (long long)errors_of(self)->total);
}

static PyGetSetDef report_getters[] = {
    {"total", get_total, NULL, NEAP_DOC_ErrorReport_total, NULL},
    {"processes", get_processes, NULL, NEAP_DOC_ErrorReport_processes, NULL},
    {"images", get_images, NULL, NEAP_DOC_ErrorReport_images, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyObject *neap_py_errors(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", "pid", NULL};
    struct neap_py_state *state = neap_py_state_of(self);
    PyObject *limit = Py_None, *pid = Py_None;
    struct neap_memory_errors *answer = NULL;
    int64_t most, process;
    struct neap_error *error;
    struct report *report;
    struct neap_py_ask ask;
    bool has_pid;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:errors", names, &limit, &pid) ||
        !neap_py_whole_number(self, limit, "limit", -1, &most) ||
        !neap_py_maybe_number(self, pid, "pid", &process, &has_pid) ||
        !neap_py_ask_begin(&ask, self))
        return NULL;
    error = neap_recording_errors(ask.self->recording, most, has_pid ? &process : NULL,
                                  &answer);
    neap_py_ask_end(&ask);
    if (error)
        return neap_py_raise(state, error);
    report = PyObject_New(struct report, state->error_report);
    if (report)
        report->errors = answer;
    else
        neap_memory_errors_destroy(answer);
    return (PyObject *)report;
}

static int add_row_type(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_ErrorRow},
        {Py_tp_dealloc, (void *)row_dealloc},
        {Py_tp_repr, (void *)row_repr},
        {Py_tp_getset, row_getters},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.ErrorRow",
        .basicsize = sizeof(struct row),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->error_row);
}

int neap_py_errors_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_ErrorReport},
        {Py_tp_dealloc, (void *)report_dealloc},
        {Py_tp_repr, (void *)report_repr},
        {Py_tp_getset, report_getters},
        {Py_tp_iter, (void *)PySeqIter_New},
        {Py_sq_length, (void *)length},
        {Py_sq_item, (void *)item},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.ErrorReport",
        .basicsize = sizeof(struct report),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    if (add_row_type(module, state) < 0)
        return -1;
    return neap_py_add_type(module, &spec, &state->error_report);
}
