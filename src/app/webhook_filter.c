#define PCRE2_CODE_UNIT_WIDTH 8

#include "app/webhook_filter.h"

#include <pcre2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <threads.h>

#include "base/alloc.h"

/* Long enough for any sensible filter, short enough to compile quickly. */
#define PATTERN_MAX_BYTES 1024

/* Bounds of one match. A sensible pattern needs less than a thousand steps for a name of 200 bytes; this many take
 * about 0.1 ms, which any client can cause by subscribing. */
#define MATCH_STEPS_MAX 10000
#define MATCH_MEMORY_MAX_KB 1024

struct webhook_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    atomic_bool gave_up; /* once at least */
};

/* The memory of a match, kept by each thread for the next one. */
static tss_t match_memory_key;
static once_flag match_memory_once = ONCE_FLAG_INIT;

static void free_match_memory(void *memory) {
    pcre2_match_data_free(memory);
}

static void create_match_memory_key(void) {
    if (tss_create(&match_memory_key, free_match_memory) != thrd_success)
        abort();
}

/* NULL if there is no memory. */
static pcre2_match_data *match_memory(void) {
    pcre2_match_data *memory;

    call_once(&match_memory_once, create_match_memory_key);
    memory = tss_get(match_memory_key);
    if (memory == NULL) {
        memory = pcre2_match_data_create(1, NULL);
        tss_set(match_memory_key, memory);
    }
    return memory;
}

bool webhook_filter_compile(struct webhook_filter *filter, const char *field, struct error *error) {
    struct slice text = filter->pattern_text;
    struct webhook_pattern *pattern;
    PCRE2_UCHAR reason[120];
    PCRE2_SIZE offset;
    pcre2_code *code;
    int number;

    if (text.data == NULL)
        return true;
    if (text.length > PATTERN_MAX_BYTES)
        return error_set(error, "%s has %zu bytes, more than %d", field, text.length, PATTERN_MAX_BYTES);
    code =
        pcre2_compile((PCRE2_SPTR)text.data, text.length, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &number, &offset, NULL);
    if (code == NULL) {
        pcre2_get_error_message(number, reason, sizeof reason);
        return error_set(error, "%s must be a regular expression; at its byte %zu: %s", field, (size_t)offset,
                         (const char *)reason);
    }
    pattern = alloc_zero(sizeof *pattern);
    pattern->code = code;
    pattern->limits = pcre2_match_context_create(NULL);
    if (pattern->limits != NULL) {
        pcre2_set_match_limit(pattern->limits, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(pattern->limits, MATCH_MEMORY_MAX_KB);
    }
    filter->pattern = pattern;
    return true;
}

void webhook_filter_dispose(struct webhook_filter *filter) {
    if (filter->pattern == NULL)
        return;
    pcre2_match_context_free(filter->pattern->limits);
    pcre2_code_free(filter->pattern->code);
    free(filter->pattern);
    filter->pattern = NULL;
}

static bool pattern_matches(struct webhook_pattern *pattern, struct slice channel, bool *gave_up) {
    pcre2_match_data *memory = match_memory();
    int result = PCRE2_ERROR_NOMEMORY;

    if (memory != NULL && pattern->limits != NULL)
        result = pcre2_match(pattern->code, (PCRE2_SPTR)channel.data, channel.length, 0, 0, memory, pattern->limits);
    /* 0: a match with more groups than the memory has places for. */
    if (result < 0 && result != PCRE2_ERROR_NOMATCH && !atomic_exchange(&pattern->gave_up, true))
        *gave_up = true;
    return result >= 0;
}

bool webhook_filter_takes(const struct webhook_filter *filter, struct slice channel, bool *gave_up) {
    if (filter->prefix.data != NULL && !slice_starts_with(channel, filter->prefix))
        return false;
    if (filter->suffix.data != NULL && !slice_ends_with(channel, filter->suffix))
        return false;
    return filter->pattern == NULL || pattern_matches(filter->pattern, channel, gave_up);
}
