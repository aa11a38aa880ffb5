#include "base/malloc_setup.h"

#include <malloc.h>
#include <stdlib.h>

void malloc_setup(void) {
    mallopt(M_MXFAST, 0);
}

/* Larger than what a thread's cache serves, and than blocks whose lists end the search early. */
#define SORTING_BYTES 2048

void malloc_sort(void) {
    void *volatile block = malloc(SORTING_BYTES); /* volatile: else the compiler leaves both calls out */

    free(block);
}
