/* Free blocks are joined at once, and sorted a few at a time: no later call has to do it for all of them. Exit code: 1
 * if some wait for that. */
#include "base/malloc_setup.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 100000
#define SORTED_EACH 1000

static void *blocks[BLOCKS];

static void make_blocks(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(8 + i % 240);
        if (blocks[i] == NULL)
            abort();
    }
}

/* The blocks that the heap has not sorted yet, as malloc_info() says. */
static unsigned long unsorted_blocks(void) {
    unsigned long count = 0;
    char *text = NULL, *at;
    size_t length;
    FILE *file = open_memstream(&text, &length);

    if (file == NULL || malloc_info(0, file) != 0)
        abort();
    fclose(file);
    at = strstr(text, "<unsorted ");
    if (at != NULL)
        count = strtoul(strstr(at, "count=\"") + strlen("count=\""), NULL, 10);
    free(text);
    return count;
}

/* Frees every second block: their neighbours stay, so that none can be joined. */
static void free_blocks(size_t sort_each) {
    for (size_t i = 0; i < BLOCKS; i += 2) {
        free(blocks[i]);
        if (i % sort_each == 0)
            malloc_sort();
    }
}

int main(void) {
    size_t apart;
    unsigned long unsorted, left;

    malloc_setup();
    make_blocks();
    free_blocks(BLOCKS);
    apart = mallinfo2().smblks;
    unsorted = unsorted_blocks();
    make_blocks();
    free_blocks(SORTED_EACH);
    left = unsorted_blocks();
    printf("%zu free blocks are kept apart; %lu are not sorted, and %lu with malloc_sort\n", apart, unsorted, left);
    return apart != 0 || unsorted <= SORTED_EACH || left > SORTED_EACH;
}
