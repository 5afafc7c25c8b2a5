/* What hooks/pattern.py asks after every step of a regular loop, in two calls: each meets code and data that training
   has driven out of the caches, so that what is touched is what it costs. */

#include "kernel.h"

#include <string.h>

static PyObject *n_training;

/* `versions` are those expected next, and `advance` is by how many writes each is older a step later. */
typedef struct {
    PyObject_HEAD
    PyObject *parameters, *sample, *modules, *training, *last;
    int64_t *versions, *advance;
    long long last_version;
    int rewritten;
} Pattern;

static int64_t version_of(PyObject *parameter)
{
    int64_t pair[2];
    mark(parameter, pair);
    return pair[0] ? pair[1] : -1;
}

static int same_versions(Pattern *self)
{
    int same = 1;
    for (Py_ssize_t i = 0; i < PyTuple_Size(self->parameters); i++) {
        same &= version_of(PyTuple_GetItem(self->parameters, i)) == self->versions[i];
        self->versions[i] += self->advance[i];
    }
    return same;
}

static PyObject *modes(PyObject *modules)
{
    Py_ssize_t count = PyTuple_Size(modules);
    PyObject *found = PyTuple_New(count);
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        PyObject *training = PyObject_GetAttr(PyTuple_GetItem(modules, i), n_training);
        if (training == NULL || PyTuple_SetItem(found, i, training) < 0)
            Py_CLEAR(found);
    }
    return found;
}

static int same_modes(Pattern *self)
{
    PyObject *training = modes(self->modules);
    int same = training == NULL ? -1 : PyObject_RichCompareBool(training, self->training, Py_EQ);
    Py_XDECREF(training);
    return same;
}

/* A gradient of the sample, NULL where there is none. */
static PyObject *gradient_of(PyObject *parameter)
{
    PyObject *gradient = get(parameter, GRAD);
    PyErr_Clear();
    if (gradient == Py_None)
        Py_CLEAR(gradient);
    return gradient;
}

/* Whether the sample's gradients were all glanced at. */
static int glance_over(Pattern *self, int *odd, int *zero)
{
    int known = 1;
    *odd = *zero = 0;
    for (Py_ssize_t i = 0; known && i < PyTuple_Size(self->sample); i++) {
        PyObject *gradient = gradient_of(PyTuple_GetItem(self->sample, i));
        Flat flat;
        if (gradient != NULL && (known = look_at(gradient, &flat))) {
            Seen seen = glance_at(&flat);
            *odd |= seen == ODD;
            *zero |= seen == ZERO;
        }
        Py_XDECREF(gradient);
    }
    return known;
}

static PyObject *pattern_look(Pattern *self, PyObject *Py_UNUSED(unused))
{
    int odd, zero, known = glance_over(self, &odd, &zero);
    int versions = same_versions(self), modes = same_modes(self);
    if (modes < 0)
        return NULL;
    int fits = versions && modes && (!self->rewritten || (known && !zero));
    return PyTuple_Pack(2, fits ? Py_True : Py_False, !known ? Py_None : odd ? Py_False : Py_True);
}

static PyObject *pattern_renewed(Pattern *self, PyObject *Py_UNUSED(unused))
{
    PyObject *last = self->last, *gradient = NULL;
    long long last_version = self->last_version;
    int renewed = 0;
    self->last = NULL;
    for (Py_ssize_t i = 0; gradient == NULL && i < PyTuple_Size(self->sample); i++)
        gradient = gradient_of(PyTuple_GetItem(self->sample, i));
    if (gradient != NULL) {
        self->last = PyWeakref_NewRef(gradient, NULL);
        self->last_version = number(gradient, VERSION);
        renewed = last == NULL || PyWeakref_GetObject(last) != gradient || self->last_version > last_version;
    }
    Py_XDECREF(last);
    Py_XDECREF(gradient);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(renewed);
}

static int pattern_traverse(Pattern *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    for (PyObject **each = &self->parameters; each <= &self->last; each++)
        Py_VISIT(*each);
    return 0;
}

static int pattern_clear(Pattern *self)
{
    for (PyObject **each = &self->parameters; each <= &self->last; each++)
        Py_CLEAR(*each);
    return 0;
}

static void pattern_dealloc(Pattern *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    pattern_clear(self);
    PyMem_Free(self->versions);
    PyMem_Free(self->advance);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int keep_lists(Pattern *self, PyObject *parameters, PyObject *sample, PyObject *modules)
{
    return (self->parameters = PyList_AsTuple(parameters)) != NULL && (self->sample = PyList_AsTuple(sample)) != NULL
        && (self->modules = PyList_AsTuple(modules)) != NULL && (self->training = modes(self->modules)) != NULL;
}

static int keep_versions(Pattern *self, PyObject *advance)
{
    Py_ssize_t count = PyTuple_Size(self->parameters);
    size_t size = (size_t)count * sizeof(int64_t);
    if (PyBytes_Size(advance) != (Py_ssize_t)size) {
        PyErr_SetString(PyExc_ValueError, "advance must be one int64 for each parameter");
        return 0;
    }
    self->versions = PyMem_Malloc(size + 1);
    self->advance = PyMem_Malloc(size + 1);
    if (self->versions == NULL || self->advance == NULL)
        return PyErr_NoMemory() != NULL;
    memcpy(self->advance, PyBytes_AsString(advance), size);
    for (Py_ssize_t i = 0; i < count; i++)
        self->versions[i] = version_of(PyTuple_GetItem(self->parameters, i)) + self->advance[i];
    return 1;
}

static PyObject *pattern_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    PyObject *parameters, *sample, *modules, *advance, *renewed = NULL;
    int rewritten;
    if (!PyArg_ParseTuple(args, "O!O!O!O!p", &PyList_Type, &parameters, &PyList_Type, &sample, &PyList_Type, &modules,
                          &PyBytes_Type, &advance, &rewritten))
        return NULL;
    Pattern *self = (Pattern *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->rewritten = rewritten;
    if (keep_lists(self, parameters, sample, modules) && keep_versions(self, advance))
        renewed = pattern_renewed(self, NULL);
    if (renewed == NULL)
        Py_CLEAR(self);
    Py_XDECREF(renewed);
    return (PyObject *)self;
}

static PyMethodDef pattern_methods[] = {
    {"look", (PyCFunction)pattern_look, METH_NOARGS, "look() -> (fits, finite): see gradscope/hooks/pattern.py."},
    {"renewed", (PyCFunction)pattern_renewed, METH_NOARGS, "renewed() -> bool: see gradscope/hooks/pattern.py."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pattern_members[] = {
    {"sample", T_OBJECT, offsetof(Pattern, sample), READONLY, "The parameters whose gradients are glanced at."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot pattern_slots[] = {
    {Py_tp_doc, "Pattern(parameters, sample, modules, advance, rewritten): see gradscope/hooks/pattern.py."},
    {Py_tp_new, pattern_new},
    {Py_tp_dealloc, pattern_dealloc},
    {Py_tp_traverse, pattern_traverse},
    {Py_tp_clear, pattern_clear},
    {Py_tp_methods, pattern_methods},
    {Py_tp_members, pattern_members},
    {0, NULL},
};

static PyType_Spec pattern_spec = {"gradscope.hooks.meters._kernel.Pattern", sizeof(Pattern), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, pattern_slots};

PyTypeObject *make_pattern_type(void)
{
    n_training = PyUnicode_InternFromString("training");
    return n_training == NULL ? NULL : (PyTypeObject *)PyType_FromSpec(&pattern_spec);
}
