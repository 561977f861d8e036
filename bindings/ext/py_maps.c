/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.MapReport: growth and shrinkage of address spaces, a sequence of rows with
 * their total; neaptide.MapRow, one stack of it; and neaptide.MapBytes, a tuple with
 * names.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py_recording.h"

#include <stddef.h>

struct report {
    PyObject ob_base;
    struct neap_map_report *report;
};

struct row {
    PyObject ob_base;
    PyObject *report; /* keeps the rest alive */
    const struct neap_map_sums *sums;
    const struct neap_trace *trace;
};

/* Of the total, which has no stack. */
static const struct neap_trace no_trace;

static PyStructSequence_Field bytes_fields[] = {
    {"grown", NEAP_DOC_MapBytes_grown},
    {"returned", NEAP_DOC_MapBytes_returned},
    {"kept", NEAP_DOC_MapBytes_kept},
    {NULL, NULL},
};

static PyStructSequence_Desc bytes_desc = {
    .name = "neaptide.MapBytes",
    .doc = NEAP_DOC_MapBytes,
    .fields = bytes_fields,
    .n_in_sequence = 3,
};

/* ---- rows ---- */

static PyObject *row_wrap(PyObject *report, const struct neap_map_sums *sums,
                          const struct neap_trace *trace)
{
    struct row *self = PyObject_New(struct row, neap_py_state_of(report)->map_row);

    if (!self)
        return NULL;
    self->report = Py_NewRef(report);
    self->sums = sums;
    self->trace = trace;
    return (PyObject *)self;
}

static void row_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_DECREF(((struct row *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct row *row_of(PyObject *object)
{
    return (const struct row *)object;
}

/* `closure` is the kind's number. */
static PyObject *get_bytes(PyObject *self, void *closure)
{
    const struct neap_mapped_bytes *bytes =
        &row_of(self)->sums->bytes[(uintptr_t)closure];
    PyObject *items[] = {PyLong_FromLongLong(bytes->grown),
                         PyLong_FromLongLong(bytes->returned),
                         PyLong_FromLongLong(bytes->kept)};
    PyObject *tuple = NULL;

    if (items[0] && items[1] && items[2])
        tuple = PyStructSequence_New(neap_py_state_of(self)->map_bytes);
    for (Py_ssize_t i = 0; i < 3; i++) {
        if (tuple)
            PyStructSequence_SetItem(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return tuple;
}

/* `closure` is where the number stands in the sums. */
static PyObject *get_number(PyObject *self, void *closure)
{
    const char *sums = (const char *)row_of(self)->sums;

    return PyLong_FromLongLong(*(const int64_t *)(sums + (uintptr_t)closure));
}

static PyObject *get_net(PyObject *self, void *closure)
{
    const struct neap_mapped_bytes *bytes =
        &row_of(self)->sums->bytes[NEAP_MAPPED_ANONYMOUS];

    (void)closure;
    return PyLong_FromLongLong(bytes->grown - bytes->returned);
}

static PyObject *get_stack_id(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_stack_id(row_of(self)->trace);
}

static PyObject *get_truncated(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(row_of(self)->trace->truncated);
}

static PyObject *get_frames(PyObject *self, void *closure)
{
    const struct row *row = row_of(self);

    (void)closure;
    return neap_py_frames(self, row->report, row->trace->frames, row->trace->depth);
}

static PyObject *row_repr(PyObject *self)
{
    const struct row *row = row_of(self);
    const struct neap_mapped_bytes *bytes = &row->sums->bytes[NEAP_MAPPED_ANONYMOUS];
    const struct neap_trace *trace = row->trace;
    const char *function = trace->depth ? trace->frames[0]->function : NULL;
    PyObject *name = neap_py_text(function ? function : "?");
    PyObject *text =
        name ? PyUnicode_FromFormat("<MapRow %lld bytes grown, %lld returned, by %U>",
                                    (long long)bytes->grown, (long long)bytes->returned,
                                    name)
             : NULL;

    Py_XDECREF(name);
    return text;
}

#define NUMBER(name)                                     \
    {                                                    \
#name, get_number, NULL, NEAP_DOC_MapRow_##name, \
            (void *)offsetof(struct neap_map_sums, name) \
    }

static PyGetSetDef row_getters[] = {
    {"anonymous", get_bytes, NULL, NEAP_DOC_MapRow_anonymous,
     (void *)NEAP_MAPPED_ANONYMOUS},
    {"reserved", get_bytes, NULL, NEAP_DOC_MapRow_reserved,
     (void *)NEAP_MAPPED_RESERVED},
    {"file", get_bytes, NULL, NEAP_DOC_MapRow_file, (void *)NEAP_MAPPED_FILE},
    {"net", get_net, NULL, NEAP_DOC_MapRow_net, NULL},
    NUMBER(unseen),
    NUMBER(advised),
    NUMBER(grow_count),
    NUMBER(return_count),
    NUMBER(advise_count),
    {"stack_id", get_stack_id, NULL, NEAP_DOC_MapRow_stack_id, NULL},
    {"truncated", get_truncated, NULL, NEAP_DOC_MapRow_truncated, NULL},
    {"frames", get_frames, NULL, NEAP_DOC_MapRow_frames, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the report ---- */

static void report_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    neap_map_report_destroy(((struct report *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_map_report *report_of(PyObject *object)
{
    return ((struct report *)object)->report;
}

static PyObject *get_total(PyObject *self, void *closure)
{
    (void)closure;
    return row_wrap(self, &report_of(self)->total, &no_trace);
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

static Py_ssize_t length(PyObject *self)
{
    return report_of(self)->count;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    const struct neap_map_report *report = report_of(self);

    if (index < 0 || index >= report->count) {
        PyErr_SetString(PyExc_IndexError, "the report has no such row");
        return NULL;
    }
    return row_wrap(self, &report->rows[index].sums, &report->rows[index].trace);
}

static PyObject *report_repr(PyObject *self)
{
    const struct neap_map_report *report = report_of(self);

    return PyUnicode_FromFormat(
        "<MapReport %lld bytes grown, %lu of %lld stacks>",
        (long long)report->total.bytes[NEAP_MAPPED_ANONYMOUS].grown,
        (unsigned long)report->count, (long long)report->stacks);
}

static PyGetSetDef report_getters[] = {
    {"total", get_total, NULL, NEAP_DOC_MapReport_total, NULL},
    {"stacks", get_stacks, NULL, NEAP_DOC_MapReport_stacks, NULL},
    {"processes", get_processes, NULL, NEAP_DOC_MapReport_processes, NULL},
    {"images", get_images, NULL, NEAP_DOC_MapReport_images, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyObject *neap_py_maps(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "limit", "pid", NULL};
    struct neap_py_state *state = neap_py_state_of(self);
    struct neap_map_query query = {.source = NULL};
    PyObject *limit = Py_None, *pid = Py_None;
    struct neap_map_report *answer = NULL;
    struct neap_error *error;
    struct report *report;
    struct neap_py_ask ask;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zOO:maps", names, &query.source,
                                     &limit, &pid) ||
        !neap_py_whole_number(self, limit, "limit", -1, &query.limit) ||
        !neap_py_maybe_number(self, pid, "pid", &query.pid, &query.has_pid) ||
        !neap_py_ask_begin(&ask, self))
        return NULL;
    error = neap_recording_maps(ask.self->recording, &query, &answer);
    neap_py_ask_end(&ask);
    if (error)
        return neap_py_raise(state, error);
    report = PyObject_New(struct report, state->map_report);
    if (report)
        report->report = answer;
    else
        neap_map_report_destroy(answer);
    return (PyObject *)report;
}

static int add_row_type(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_MapRow},
        {Py_tp_dealloc, (void *)row_dealloc},
        {Py_tp_repr, (void *)row_repr},
        {Py_tp_getset, row_getters},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.MapRow",
        .basicsize = sizeof(struct row),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->map_row);
}

int neap_py_maps_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_MapReport},
        {Py_tp_dealloc, (void *)report_dealloc},
        {Py_tp_repr, (void *)report_repr},
        {Py_tp_getset, report_getters},
        {Py_tp_iter, (void *)PySeqIter_New},
        {Py_sq_length, (void *)length},
        {Py_sq_item, (void *)item},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.MapReport",
        .basicsize = sizeof(struct report),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    state->map_bytes = PyStructSequence_NewType(&bytes_desc);
    if (!state->map_bytes || PyModule_AddType(module, state->map_bytes) < 0 ||
        add_row_type(module, state) < 0)
        return -1;
    return neap_py_add_type(module, &spec, &state->map_report);
}
