/* What a tensor is, asked through its Python attributes. */

#include "kernel.h"

#define HEAP (1ULL << 40) /* an address beyond it is no offset into memory that was freed */

/* What gives an attribute of a plain tensor without a search through its class. */
typedef struct {
    const char *text;
    PyObject *name, *descriptor;
    descrgetfunc get;
} Attribute;

static PyObject *tensor_type, *parameter_type, *modes, *dtypes[DTYPES];

static Attribute attributes[QUESTIONS] = {
    [DTYPE] = {"dtype", NULL, NULL, NULL},
    [IS_CPU] = {"is_cpu", NULL, NULL, NULL},
    [IS_NESTED] = {"is_nested", NULL, NULL, NULL},
    [IS_NEG] = {"is_neg", NULL, NULL, NULL},
    [IS_CONTIGUOUS] = {"is_contiguous", NULL, NULL, NULL},
    [IS_VIEW] = {"_is_view", NULL, NULL, NULL},
    [NUMEL] = {"numel", NULL, NULL, NULL},
    [DATA_PTR] = {"data_ptr", NULL, NULL, NULL},
    [STORAGE_OFFSET] = {"storage_offset", NULL, NULL, NULL},
    [VERSION] = {"_version", NULL, NULL, NULL},
    [OUTPUT_NR] = {"output_nr", NULL, NULL, NULL},
    [REQUIRES_GRAD] = {"requires_grad", NULL, NULL, NULL},
    [GRAD] = {"grad", NULL, NULL, NULL},
    [GRAD_FN] = {"grad_fn", NULL, NULL, NULL},
    [BASE] = {"_base", NULL, NULL, NULL},
};

static int keep_attributes(void)
{
    for (Attribute *each = attributes; each < attributes + QUESTIONS; each++) {
        each->name = PyUnicode_InternFromString(each->text);
        each->descriptor = PyObject_GetAttrString(tensor_type, each->text);
        if (each->name == NULL || each->descriptor == NULL)
            return -1;
        each->get = (descrgetfunc)PyType_GetSlot(Py_TYPE(each->descriptor), Py_tp_descr_get);
    }
    return 0;
}

PyObject *bind_torch(PyObject *Py_UNUSED(module), PyObject *args)
{
    if (!PyArg_ParseTuple(args, "OOOOOOO", &tensor_type, &parameter_type, &modes, &dtypes[FLOAT32], &dtypes[FLOAT64],
                          &dtypes[FLOAT16], &dtypes[BFLOAT16]))
        return NULL;
    Py_INCREF(args); /* what is borrowed of it is needed for good */
    return keep_attributes() < 0 ? NULL : Py_NewRef(Py_None);
}

static int is_plain(PyObject *tensor)
{
    PyObject *type = (PyObject *)Py_TYPE(tensor);
    return type == tensor_type || type == parameter_type;
}

PyObject *get(PyObject *tensor, Question question)
{
    const Attribute *attribute = &attributes[question];
    return is_plain(tensor) ? attribute->get(attribute->descriptor, tensor, (PyObject *)Py_TYPE(tensor))
                            : PyObject_GetAttr(tensor, attribute->name);
}

static PyObject *ask(PyObject *tensor, Question question)
{
    const Attribute *attribute = &attributes[question];
    return is_plain(tensor) ? PyObject_CallFunctionObjArgs(attribute->descriptor, tensor, NULL)
                            : PyObject_CallMethodObjArgs(tensor, attribute->name, NULL);
}

static int truth(PyObject *value)
{
    int result = value == Py_True;
    Py_XDECREF(value);
    PyErr_Clear();
    return result;
}

int has(PyObject *tensor, Question question) { return truth(get(tensor, question)); }

int says(PyObject *tensor, Question question) { return truth(ask(tensor, question)); }

static size_t size(PyObject *tensor, Question question)
{
    PyObject *value = ask(tensor, question);
    size_t result = value == NULL ? 0 : PyLong_AsSize_t(value);
    Py_XDECREF(value);
    return result;
}

long long number(PyObject *tensor, Question question)
{
    PyObject *value = get(tensor, question);
    long long result = value == NULL ? -1 : PyLong_AsLongLong(value);
    Py_XDECREF(value);
    PyErr_Clear();
    return result;
}

static int kind_of(PyObject *tensor)
{
    PyObject *dtype = get(tensor, DTYPE);
    int kind = 0;
    while (kind < DTYPES && dtypes[kind] != dtype)
        kind++;
    Py_XDECREF(dtype);
    return kind;
}

static int has_memory(PyObject *tensor, const Flat *flat)
{
    size_t address = (size_t)flat->data;
    return address > HEAP || address > size(tensor, STORAGE_OFFSET) * element_size[flat->dtype];
}

int look_at(PyObject *tensor, Flat *flat)
{
    if (!is_plain(tensor))
        return 0;
    flat->dtype = kind_of(tensor);
    if (flat->dtype < DTYPES && has(tensor, IS_CPU) && !has(tensor, IS_NESTED) && says(tensor, IS_CONTIGUOUS)
        && !says(tensor, IS_NEG)) {
        flat->count = size(tensor, NUMEL);
        flat->data = (const char *)size(tensor, DATA_PTR);
        if (!PyErr_Occurred() && flat->count && has_memory(tensor, flat))
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
    PyObject *gradient = get(parameter, GRAD);
    pair[0] = pair[1] = 0;
    if (gradient != NULL && gradient != Py_None) {
        pair[0] = (int64_t)(intptr_t)gradient;
        pair[1] = number(gradient, VERSION);
    }
    Py_XDECREF(gradient);
    PyErr_Clear(); /* inference tensors do not count */
}
