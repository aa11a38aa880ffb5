/*
 * A thread that builds a page about all apps: the metrics, the statistics.
 *
 * No worker builds such a page: with many apps that takes longer than a turn may. A page is kept for a second, and
 * requests within that time get the same one, unless they ask with `Cache-Control: no-cache` for a new one. Building
 * takes at most a twentieth of one CPU.
 */
#pragma once

#include <stdint.h>

#include "api/api_call.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

struct page_thread;

struct page_settings {
    const char *name; /* of the thread */
    /* Appends the page, on the thread. */
    void (*append)(const struct api *api, struct buffer *text);
    uint32_t keep_ms; /* how long a page is kept */
};

/* Starts the thread. `api` outlives it. NULL with an error. */
struct page_thread *page_thread_start(const struct api *api, const struct page_settings *settings, struct error *error);
/* Ends and frees it, when the workers have ended and before their messages are settled; may be NULL. */
void page_thread_stop(struct page_thread *pages);
/* For shutdown: waiting requests are answered without the pause between builds. Any thread; may be NULL. */
void page_thread_drain(struct page_thread *pages);
/* Pages built so far. Any thread. */
uint64_t page_thread_built(struct page_thread *pages);

/* Answers the call with the page, at once or when it is built. On the call's worker. */
void page_answer(struct page_thread *pages, struct api_call *call, struct slice content_type);
