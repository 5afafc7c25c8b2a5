/* One pass over the elements of a tensor: count, sum, sum of squares, min and max, as five doubles (a row).

   Accuracy: single precision around a pivot, in blocks, whose sums are added up in double precision. A block
   whose squares leave the range of single precision is done again in double precision. */

#ifndef GRADSCOPE_ARITHMETIC_H
#define GRADSCOPE_ARITHMETIC_H

#include <stddef.h>

#define ROW 5

enum { FLOAT32, FLOAT64, FLOAT16, BFLOAT16, DTYPES };

extern const size_t element_size[DTYPES];

/* Use the widest vectors that this processor has. To be called once, before anything else. */
void choose_instructions(void);

/* The row of `count` elements that lie one after the other. */
void reduce_elements(const char *data, size_t count, int dtype, double *row);

/* How many elements of so many are sampled: all of a few, then runs of a cache line, evenly spread. */
size_t sampled_of(size_t count);

/* Copy the sampled elements. */
void save_elements(const char *data, size_t count, int dtype, char *saved);

/* The row of the differences from what was saved, or with NULL of the sampled elements, scaled to the whole. */
void compare_elements(const char *data, const char *saved, size_t count, int dtype, double *row);

#endif
