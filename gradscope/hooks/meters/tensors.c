/* What a tensor is, asked through its Python attributes. */

#include "kernel.h"

static PyObject *tensor_type, *parameter_type, *modes, *dtypes[DTYPES];
static PyObject *n_dtype, *n_is_cpu, *n_is_nested, *n_is_neg, *n_is_contiguous, *n_numel, *n_data_ptr,
    *n_storage_offset, *n_grad, *n_version;

int keep_names(const Name *names)
{
    for (; names->text != NULL; names++)
        if ((*names->name = PyUnicode_InternFromString(names->text)) == NULL)
            return -1;
    return 0;
}

int prepare_tensors(void)
{
    return keep_names((Name[]){{&n_dtype, "dtype"},
                               {&n_is_cpu, "is_cpu"},
                               {&n_is_nested, "is_nested"},
                               {&n_is_neg, "is_neg"},
                               {&n_is_contiguous, "is_contiguous"},
                               {&n_numel, "numel"},
                               {&n_data_ptr, "data_ptr"},
                               {&n_storage_offset, "storage_offset"},
                               {&n_grad, "grad"},
                               {&n_version, "_version"},
                               {NULL, NULL}});
}

PyObject *bind_torch(PyObject *Py_UNUSED(module), PyObject *args)
{
    return PyArg_ParseTuple(args, "OOOOOOO", &tensor_type, &parameter_type, &modes, &dtypes[FLOAT32], &dtypes[FLOAT64],
                            &dtypes[FLOAT16], &dtypes[BFLOAT16])
        ? (Py_INCREF(args), Py_NewRef(Py_None))
        : NULL;
}

static int truth(PyObject *value)
{
    int result = value == Py_True;
    Py_XDECREF(value);
    PyErr_Clear();
    return result;
}

int has(PyObject *object, PyObject *name) { return truth(PyObject_GetAttr(object, name)); }

int says(PyObject *object, PyObject *name) { return truth(PyObject_CallMethodObjArgs(object, name, NULL)); }

static size_t size(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_CallMethodObjArgs(object, name, NULL);
    size_t result = value == NULL ? 0 : PyLong_AsSize_t(value);
    Py_XDECREF(value);
    return result;
}

long long number(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    long long result = value == NULL ? -1 : PyLong_AsLongLong(value);
    Py_XDECREF(value);
    PyErr_Clear();
    return result;
}

int look_at(PyObject *tensor, Flat *flat)
{
    PyObject *type = (PyObject *)Py_TYPE(tensor);
    if (type != tensor_type && type != parameter_type)
        return 0;
    PyObject *dtype = PyObject_GetAttr(tensor, n_dtype);
    for (flat->dtype = 0; flat->dtype < DTYPES && dtypes[flat->dtype] != dtype; flat->dtype++)
        ;
    Py_XDECREF(dtype);
    if (flat->dtype < DTYPES && has(tensor, n_is_cpu) && !has(tensor, n_is_nested) && says(tensor, n_is_contiguous)
        && !says(tensor, n_is_neg)) {
        size_t offset = size(tensor, n_storage_offset) * element_size[flat->dtype];
        flat->count = size(tensor, n_numel);
        flat->data = (const char *)size(tensor, n_data_ptr);
        if (!PyErr_Occurred() && flat->count && (uintptr_t)flat->data > offset) /* else its memory was freed */
            return 1;
    }
    PyErr_Clear();
    return 0;
}

int unseen(void)
{
    PyObject *depth = PyObject_CallNoArgs(modes);
    int result = depth != NULL && PyLong_AsLong(depth) == 0;
    Py_XDECREF(depth);
    PyErr_Clear();
    return result;
}

void mark(PyObject *parameter, int64_t pair[2])
{
    PyObject *gradient = PyObject_GetAttr(parameter, n_grad);
    pair[0] = pair[1] = 0;
    if (gradient != NULL && gradient != Py_None) {
        PyObject *version = PyObject_GetAttr(gradient, n_version);
        pair[0] = (int64_t)(intptr_t)gradient;
        pair[1] = version == NULL ? -1 : PyLong_AsLongLong(version);
        Py_XDECREF(version);
    }
    Py_XDECREF(gradient);
    PyErr_Clear(); /* inference tensors do not count */
}
