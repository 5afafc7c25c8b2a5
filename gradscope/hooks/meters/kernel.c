/* The compiled module, for hooks/meters/host.py and hooks/tap.py: its types, and looks at tensors that keep no row. */

#include "kernel.h"

#include <math.h>

static PyObject *sample(PyObject *tensor)
{
    Flat flat;
    if (!look_at(tensor, &flat))
        Py_RETURN_NONE;
    size_t length = sampled_of(flat.count) * element_size[flat.dtype];
    PyObject *saved = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (saved != NULL)
        save_elements(flat.data, flat.count, flat.dtype, PyBytes_AsString(saved));
    return saved;
}

static PyObject *kernel_save(PyObject *Py_UNUSED(module), PyObject *tensors)
{
    if (!PyList_Check(tensors))
        return PyErr_Format(PyExc_TypeError, "tensors must be a list");
    Py_ssize_t count = PyList_Size(tensors);
    PyObject *saved = PyList_New(count);
    for (Py_ssize_t i = 0; saved != NULL && i < count; i++) {
        PyObject *one = sample(PyList_GetItem(tensors, i));
        if (one == NULL || PyList_SetItem(saved, i, one) < 0)
            Py_CLEAR(saved);
    }
    return saved;
}

static PyObject *kernel_marks(PyObject *Py_UNUSED(module), PyObject *parameters)
{
    if (!PyList_Check(parameters))
        return PyErr_Format(PyExc_TypeError, "parameters must be a list");
    Py_ssize_t count = PyList_Size(parameters);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * 2 * (Py_ssize_t)sizeof(int64_t));
    int64_t *pairs = bytes == NULL ? NULL : (int64_t *)PyBytes_AsString(bytes);
    for (Py_ssize_t i = 0; pairs != NULL && i < count; i++)
        mark(PyList_GetItem(parameters, i), pairs + 2 * i);
    return bytes;
}

static PyObject *kernel_held(PyObject *Py_UNUSED(module), PyObject *marks)
{
    Py_ssize_t count = PyBytes_Check(marks) ? PyBytes_Size(marks) / (Py_ssize_t)(2 * sizeof(int64_t)) : -1;
    if (count < 0)
        return PyErr_Format(PyExc_TypeError, "marks must be bytes");
    PyObject *flags = PyBytes_FromStringAndSize(NULL, count);
    const int64_t *pairs = (const int64_t *)PyBytes_AsString(marks);
    for (Py_ssize_t i = 0; flags != NULL && i < count; i++)
        PyBytes_AsString(flags)[i] = pairs[2 * i] != 0;
    return flags;
}

Seen glance_at(const Flat *flat)
{
    double row[ROW];
    reduce_elements(flat->data, flat->count, flat->dtype, row);
    if (!isfinite(row[3]) || !isfinite(row[4]))
        return ODD;
    return row[3] == 0 && row[4] == 0 ? ZERO : FINITE;
}

static PyObject *kernel_glance(PyObject *Py_UNUSED(module), PyObject *tensors)
{
    if (!PyList_Check(tensors))
        return PyErr_Format(PyExc_TypeError, "tensors must be a list");
    Py_ssize_t count = PyList_Size(tensors);
    PyObject *seen = PyBytes_FromStringAndSize(NULL, count);
    for (Py_ssize_t i = 0; seen != NULL && i < count; i++) {
        Flat flat;
        if (!look_at(PyList_GetItem(tensors, i), &flat)) {
            Py_DECREF(seen);
            Py_RETURN_NONE;
        }
        PyBytes_AsString(seen)[i] = (char)glance_at(&flat);
    }
    return seen;
}

static PyMethodDef methods[] = {
    {"bind", bind_torch, METH_VARARGS,
     "bind(Tensor, Parameter, function_modes, float32, float64, float16, bfloat16): what to know of torch."},
    {"save", kernel_save, METH_O, "save(tensors) -> list[bytes | None]: a sample of each; None where it is not plain."},
    {"marks", kernel_marks, METH_O, "marks(parameters) -> bytes: (id, version) of each gradient, two int64; (0, 0) for none."},
    {"held", kernel_held, METH_O, "held(marks) -> bytes: of each pair of marks 1 where there is a gradient, else 0."},
    {"glance", kernel_glance, METH_O,
     "glance(tensors) -> bytes | None: of each 0 if all is zero, 2 if not all is finite, else 1; None: one is not plain."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "gradscope.hooks.meters._kernel", "Reduces tensors on the CPU in one pass.", -1, methods,
    NULL, NULL, NULL, NULL,
};

static int add(PyObject *module, PyTypeObject *type) { return type == NULL || PyModule_AddType(module, type) < 0; }

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&definition);
    choose_instructions();
    if (module != NULL
        && (prepare_tap() < 0 || add(module, make_rows_type()) || add(module, make_tap_type())
            || add(module, make_output_type()) || add(module, make_pattern_type())))
        Py_CLEAR(module);
    return module;
}
