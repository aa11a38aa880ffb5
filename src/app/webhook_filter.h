/*
 * The filter of a webhook: which channels it is about. The pattern is compiled once, when the record is parsed, and
 * belongs to the record; matching is for any thread, without a lock.
 *
 * A pattern comes from whoever may write the app's record, and a channel's name from any client. So matching is
 * bounded in steps and memory: a pattern that backtracks without end gives up, and counts as not matching.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/slice.h"

struct webhook_pattern;

/* The members that must all match; a slice with data NULL takes every channel. */
struct webhook_filter {
    struct slice prefix;
    struct slice suffix;
    struct slice pattern_text;
    struct webhook_pattern *pattern; /* the compiled pattern_text; NULL: none */
};

/* Compiles filter->pattern_text, if there is one; `field` is its name in errors. */
bool webhook_filter_compile(struct webhook_filter *filter, const char *field, struct error *error);

/* Frees the compiled pattern. */
void webhook_filter_dispose(struct webhook_filter *filter);

/* True if the filter takes the channel. `*gave_up` is set to true the first time that the pattern takes too many steps,
 * so that it is reported once; else it stays as it is. */
bool webhook_filter_takes(const struct webhook_filter *filter, struct slice channel, bool *gave_up);
