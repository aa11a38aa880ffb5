#include "base/malloc_setup.h"

#include <malloc.h>

void malloc_setup(void) {
    mallopt(M_MXFAST, 0);
}
