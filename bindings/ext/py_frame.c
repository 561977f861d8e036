/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neaptide.Frame: one frame of a row's stack.
 */
#include "bindings/ext/docstrings.h"
#include "bindings/ext/py.h"

#include <string.h>

struct frame {
    PyObject ob_base;
    PyObject *report; /* keeps `frame` alive */
    const struct neap_frame *frame;
};

PyObject *neap_py_frame_wrap(struct neap_py_state *state, PyObject *report,
                             const struct neap_frame *frame)
{
    struct frame *self = PyObject_New(struct frame, state->frame);

    if (!self)
        return NULL;
    self->report = Py_NewRef(report);
    self->frame = frame;
    return (PyObject *)self;
}

PyObject *neap_py_frames(PyObject *self, PyObject *owner,
                         const struct neap_frame *const *frames, uint32_t depth)
{
    PyObject *tuple = PyTuple_New(depth);

    for (uint32_t i = 0; tuple && i < depth; i++) {
        PyObject *frame = neap_py_frame_wrap(neap_py_state_of(self), owner, frames[i]);

        if (!frame || PyTuple_SetItem(tuple, i, frame) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *neap_py_stack_id(const struct neap_trace *trace)
{
    if (!trace->known)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(trace->stack_id);
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_DECREF(((struct frame *)object)->report);
    PyObject_Free(object);
    Py_DECREF(type);
}

static const struct neap_frame *frame_of(PyObject *object)
{
    return ((struct frame *)object)->frame;
}

static PyObject *get_function(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_text(frame_of(self)->function);
}

static PyObject *get_file(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_text(frame_of(self)->file);
}

static PyObject *get_line(PyObject *self, void *closure)
{
    (void)closure;
    if (frame_of(self)->line == 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(frame_of(self)->line);
}

static PyObject *get_module(PyObject *self, void *closure)
{
    (void)closure;
    return neap_py_text(frame_of(self)->module);
}

static PyObject *get_offset(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong((unsigned long long)frame_of(self)->offset);
}

static PyObject *get_kind(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(frame_of(self)->python ? "python" : "native");
}

static PyObject *get_inlined(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(frame_of(self)->inlined);
}

static PyObject *repr(PyObject *self)
{
    const struct neap_frame *frame = frame_of(self);
    PyObject *name = neap_py_text(frame->function ? frame->function : "?");
    PyObject *place = neap_py_text(frame->file ? frame->file : frame->module);
    PyObject *text = NULL;

    if (name && place) {
        if (frame->file)
            text = PyUnicode_FromFormat("<Frame %U at %U:%lld>", name, place,
                                        (long long)frame->line);
        else if (frame->module)
            text = PyUnicode_FromFormat("<Frame %U at %U+%p>", name, place,
                                        (void *)(uintptr_t)frame->offset);
        else
            text = PyUnicode_FromFormat("<Frame %U at %p>", name,
                                        (void *)(uintptr_t)frame->offset);
    }
    Py_XDECREF(name);
    Py_XDECREF(place);
    return text;
}

static PyGetSetDef getters[] = {
    {"function", get_function, NULL, NEAP_DOC_Frame_function, NULL},
    {"file", get_file, NULL, NEAP_DOC_Frame_file, NULL},
    {"line", get_line, NULL, NEAP_DOC_Frame_line, NULL},
    {"module", get_module, NULL, NEAP_DOC_Frame_module, NULL},
    {"offset", get_offset, NULL, NEAP_DOC_Frame_offset, NULL},
    {"kind", get_kind, NULL, NEAP_DOC_Frame_kind, NULL},
    {"inlined", get_inlined, NULL, NEAP_DOC_Frame_inlined, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int neap_py_frame_init(PyObject *module, struct neap_py_state *state)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)NEAP_DOC_Frame},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)repr},
        {Py_tp_getset, getters},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "neaptide.Frame",
        .basicsize = sizeof(struct frame),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return neap_py_add_type(module, &spec, &state->frame);
}
