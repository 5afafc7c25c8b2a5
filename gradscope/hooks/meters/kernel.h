/* What the files of the compiled kernel share: tensors.c says what a tensor is, rows.c keeps what was measured of
   tensors, tap.c is the hooks' short way to it, pattern.c the look at a step that was not observed.

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

/* What can be asked of a tensor: the attributes, and the methods without arguments, that Python code would use. */
typedef enum {
    DTYPE,
    IS_CPU,
    IS_NESTED,
    IS_NEG,
    IS_CONTIGUOUS,
    IS_VIEW,
    NUMEL,
    DATA_PTR,
    STORAGE_OFFSET,
    VERSION,
    OUTPUT_NR,
    REQUIRES_GRAD,
    GRAD,
    GRAD_FN,
    BASE,
    QUESTIONS,
} Question;

/* bind(Tensor, Parameter, function_modes, float32, float64, float16, bfloat16): what to know of torch. */
PyObject *bind_torch(PyObject *module, PyObject *args);

/* Whether a tensor is a plain, contiguous one on the CPU, of a dtype known here; anything else takes the slow way. */
int look_at(PyObject *tensor, Flat *flat);

/* Whether no function mode of torch's is on the stack, which would be told of every attribute that is read. */
int unseen(void);

/* An attribute; NULL with an error set. */
PyObject *get(PyObject *tensor, Question question);

/* Whether an attribute, or what a method returns, is True. Leaves no error. */
int has(PyObject *tensor, Question question);
int says(PyObject *tensor, Question question);

/* A whole number that is an attribute; -1 when it cannot be had. Leaves no error. */
long long number(PyObject *tensor, Question question);

/* Which gradient a parameter holds, and how often it was written to: (id, version), or (0, 0) for None. */
void mark(PyObject *parameter, int64_t pair[2]);

/* rows.c */

typedef struct {
    PyObject_HEAD
    double *table;
    Py_ssize_t used, room;
    long long base;
    int odd; /* whether a tensor held NaN or Inf: both stay in a sum of squares */
} Rows;

extern PyTypeObject *rows_type;
PyTypeObject *make_rows_type(void);

/* Measure elements into the next row and return its number; -1 with an error set. Holds the interpreter's lock. */
Py_ssize_t measure_flat(Rows *rows, const Flat *flat);

/* kernel.c */

typedef enum { ZERO, FINITE, ODD } Seen;

/* What the elements are, all of them. */
Seen glance_at(const Flat *flat);

/* tap.c */

int prepare_tap(void);
PyTypeObject *make_tap_type(void);
PyTypeObject *make_output_type(void);

/* pattern.c */

PyTypeObject *make_pattern_type(void);

#endif
