#include "base/malloc_setup.h"

#include <malloc.h>
#include <stdlib.h>

void malloc_setup(void) {
    mallopt(M_MXFAST, 0);
}

/* glibc serves up to 1032 bytes from the thread's cache, and up to 1023 from its lists of equal blocks, without sorting
 * anything. For a larger block it sorts first. */
#define SORTING_BYTES 2048

void malloc_sort(void) {
    void *volatile block = malloc(SORTING_BYTES); /* volatile: else the compiler leaves both calls out */

    free(block);
}
