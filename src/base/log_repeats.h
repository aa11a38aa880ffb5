/*
 * Warnings that repeat: the first one of a text is written, and those within ten seconds after it are counted. When the
 * ten seconds are over, one line says how many they were. Texts are compared as a whole.
 *
 * A small table: when it is full of texts that repeat, others are all written. Not thread-safe: its user has a mutex.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define LOG_REPEAT_MS 10000
#define LOG_REPEATS 64
#define LOG_REPEAT_TEXT 512 /* longer texts are cut in the line that tells of the repeats, but compared as a whole */

struct log_repeat {
    uint64_t hash;
    uint64_t since_ms;
    uint64_t count;     /* of the repeats since then */
    const char *target; /* lives as long as the program; NULL: a free entry */
    size_t length;
    char text[LOG_REPEAT_TEXT];
};

struct log_repeats {
    struct log_repeat list[LOG_REPEATS];
};

/* True if the line is to be written; else it was counted. */
bool log_repeats_admit(struct log_repeats *repeats, const char *target, struct slice text, uint64_t now_ms);

/* Takes a text that has repeated, and whose ten seconds are over; with `ends` any that has. False if there is none. */
bool log_repeats_take(struct log_repeats *repeats, uint64_t now_ms, bool ends, struct log_repeat *taken);
