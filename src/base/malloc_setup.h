/*
 * How the heap of the C library works for this process.
 */
#pragma once

/*
 * Makes free() join a small block with its free neighbours at once.
 *
 * glibc keeps small free blocks apart at first, and joins all of them in the next call that asks for a kilobyte or
 * more: when 100,000 channels have gone, one thread takes 25 ms for that in the middle of a turn. Joined one by one
 * they take less in sum. What a thread frees and soon takes again, its own cache of glibc still serves.
 *
 * Main thread, before the first allocation.
 */
void malloc_setup(void);

/*
 * Sorts the blocks that were freed lately into the heap's lists by size.
 *
 * glibc leaves that to the calls that allocate: after 100,000 blocks were freed each of them sorts up to 10,000, which
 * takes 1 to 3 ms. A thread that frees much calls this every millisecond or so; it takes 25 ns if there is nothing to
 * sort. Any thread.
 */
void malloc_sort(void);
