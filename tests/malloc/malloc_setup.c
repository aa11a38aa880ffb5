/* Free blocks are joined at once: none waits for a call that joins all of them. Exit code: 1 if some do. */
#include "base/malloc_setup.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCKS 100000

int main(void) {
    static void *blocks[BLOCKS];
    size_t apart;

    malloc_setup();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(8 + i % 120);
        if (blocks[i] == NULL)
            return 1;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    apart = mallinfo2().smblks;
    printf("%zu free blocks are kept apart\n", apart);
    return apart != 0;
}
