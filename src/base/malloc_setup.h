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
