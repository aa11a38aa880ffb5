#include "base/memory_trim.h"

#include <malloc.h>

bool memory_trim_look(struct memory_trim *trim, uint64_t used_bytes) {
    if (used_bytes > trim->peak_bytes)
        trim->peak_bytes = used_bytes;
    if (used_bytes > trim->peak_bytes / 4 * 3 || trim->peak_bytes - used_bytes < MEMORY_TRIM_LEAST_BYTES)
        return false;
    trim->peak_bytes = used_bytes;
    malloc_trim(0);
    return true;
}
