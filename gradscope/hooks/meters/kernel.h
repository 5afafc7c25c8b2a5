/* What the files of the compiled kernel share: tensors.c says what a tensor is, rows.c keeps what was measured of
   tensors, tap.c is the hooks' short way to it.

   Nothing here calls torch's kernels: of a tensor only its address, size and dtype are asked for, by the attributes
   that Python code would use, so that the module needs no header of torch and no particular version of it. */

#ifndef GRADSCOPE_KERNEL_H
#define GRADSCOPE_KERNEL_H

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>
#include <stdint.h>

#include "arithmetic.h"

/* tensors.c */

typedef struct {
    const char *data;
    size_t count;
    int dtype;
} Flat;

/* Attributes' names, kept for good. */
typedef struct {
    PyObject **name;
    const char *text;
} Name;
int keep_names(const Name *names); /* up to one without a text; -1 with an error set */
int prepare_tensors(void);

/* bind(Tensor, Parameter, function_modes, float32, float64, float16, bfloat16): what to know of torch. */
PyObject *bind_torch(PyObject *module, PyObject *args);

/* Whether a tensor is a plain, contiguous one on the CPU, of a dtype known here; anything else takes the slow way. */
int look_at(PyObject *tensor, Flat *flat);

/* Whether no function mode of torch's is on the stack, which would be told of every attribute that is read. */
int unseen(void);

/* Whether an attribute, or what a method without arguments returns, is True. Leaves no error. */
int has(PyObject *object, PyObject *name);
int says(PyObject *object, PyObject *name);

/* A whole number that is an attribute; -1 when it cannot be had. Leaves no error. */
long long number(PyObject *object, PyObject *name);

/* Which gradient a parameter holds, and how often it was written to: (id, version), or (0, 0) for None. */
void mark(PyObject *parameter, int64_t pair[2]);

/* rows.c */

typedef struct {
    PyObject_HEAD
    double *table;
    Py_ssize_t used, room;
    long long base;
} Rows;

extern PyTypeObject *rows_type;
PyTypeObject *make_rows_type(void);

/* Measure elements into the next row and return its number; -1 with an error set. Holds the interpreter's lock. */
Py_ssize_t measure_flat(Rows *rows, const Flat *flat);

/* tap.c */

int prepare_tap(void);
PyTypeObject *make_tap_type(void);
PyTypeObject *make_output_type(void);

#endif
