#include <stdlib.h>

#include "api/api_call.h"
#include "api/metrics.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/thread.h"
#include "net/chunk.h"

/* Building takes at most one part in so many of a CPU, whatever is asked. */
#define IDLE_PER_BUILD 20
#define NS_PER_MS UINT64_C(1000000)

/* A scrape that waits for a page; afterwards the message that brings it to the scrape's worker. */
struct scrape {
    struct message message;
    struct list link;
    struct worker *worker;
    struct api_call *call; /* NULL: the client has gone; the worker's */
    bool wants_new;        /* a page that is built after its request */
    struct frame *page;    /* with a reference */
};

struct metrics_thread {
    const struct api *api;
    uint64_t keep_ns;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* Under the mutex. */
    struct list scrapes;
    struct frame *page; /* the last one, while it is kept; NULL: none is */
    uint64_t expires_ns;
    uint64_t next_build_ns;
    uint64_t built; /* pages */
    bool draining;  /* do not wait for the next build */
    bool stopping;
};

/* --- the thread --- */

static struct frame *build_page(const struct api *api) {
    struct buffer text = {0};
    struct frame *page;

    metrics_append_page(api, &text);
    page = frame_create(text.length);
    memcpy(page->bytes, text.data, text.length);
    buffer_dispose(&text);
    return page;
}

/* Returns the page that was kept, to be released without the mutex: it may be large. */
static struct frame *keep_page(struct metrics_thread *metrics, struct frame *page) {
    struct frame *old = metrics->page;

    metrics->page = page;
    return old;
}

static void release_page(struct frame *page) {
    if (page != NULL)
        frame_unref(page);
}

static bool may_build(const struct metrics_thread *metrics, uint64_t now_ns) {
    return metrics->draining || now_ns >= metrics->next_build_ns;
}

static void drop_expired_page(struct metrics_thread *metrics) {
    struct frame *expired = keep_page(metrics, NULL);

    pthread_mutex_unlock(&metrics->mutex);
    release_page(expired);
    pthread_mutex_lock(&metrics->mutex);
}

/* Waits until a page has to be built; false when the thread has to end. With the mutex held. */
static bool wait_for_scrape(struct metrics_thread *metrics) {
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns();

        if (metrics->stopping)
            return false;
        if (!list_empty(&metrics->scrapes) && may_build(metrics, now_ns))
            return true;
        if (metrics->page != NULL && now_ns >= metrics->expires_ns)
            drop_expired_page(metrics);
        else if (!list_empty(&metrics->scrapes))
            condition_wait_until(&metrics->wake, &metrics->mutex, metrics->next_build_ns);
        else if (metrics->page != NULL)
            condition_wait_until(&metrics->wake, &metrics->mutex, metrics->expires_ns);
        else
            pthread_cond_wait(&metrics->wake, &metrics->mutex);
    }
}

static void on_page(struct worker *worker, struct message *message, struct message **rest);

static void post_page(struct list *scrapes, struct frame *page) {
    while (!list_empty(scrapes)) {
        struct scrape *scrape = container_of(scrapes->next, struct scrape, link);
        list_remove(&scrape->link);
        frame_ref(page);
        scrape->page = page;
        scrape->message = (struct message){NULL, on_page};
        worker_post(scrape->worker, &scrape->message);
    }
}

/* Moves the scrapes that came while a page was built and take any page. */
static void add_late_scrapes(struct list *from, struct list *answered) {
    struct list *next;

    for (struct list *link = from->next; link != from; link = next) {
        next = link->next;
        if (container_of(link, struct scrape, link)->wants_new)
            continue;
        list_remove(link);
        list_append(answered, link);
    }
}

static void *build_pages(void *context) {
    struct metrics_thread *metrics = context;
    struct list scrapes;

    list_init(&scrapes);
    pthread_mutex_lock(&metrics->mutex);
    while (wait_for_scrape(metrics)) {
        uint64_t began_ns = clock_monotonic_ns(), ended_ns;
        struct frame *page, *old;

        list_move_all(&metrics->scrapes, &scrapes);
        pthread_mutex_unlock(&metrics->mutex);
        page = build_page(metrics->api);
        ended_ns = clock_monotonic_ns();
        frame_ref(page); /* one for the scrapes, one to keep */
        pthread_mutex_lock(&metrics->mutex);
        add_late_scrapes(&metrics->scrapes, &scrapes);
        old = keep_page(metrics, page);
        metrics->next_build_ns = ended_ns + (ended_ns - began_ns) * IDLE_PER_BUILD;
        metrics->expires_ns = ended_ns + metrics->keep_ns;
        if (metrics->expires_ns < metrics->next_build_ns) /* there is no newer one before */
            metrics->expires_ns = metrics->next_build_ns;
        metrics->built++;
        pthread_mutex_unlock(&metrics->mutex);
        release_page(old);
        post_page(&scrapes, page);
        frame_unref(page);
        pthread_mutex_lock(&metrics->mutex);
    }
    pthread_mutex_unlock(&metrics->mutex);
    return NULL;
}

struct metrics_thread *metrics_thread_start(const struct api *api, uint32_t keep_ms, struct error *error) {
    struct metrics_thread *metrics = alloc_zero(sizeof *metrics);

    metrics->api = api;
    metrics->keep_ns = keep_ms * NS_PER_MS;
    list_init(&metrics->scrapes);
    pthread_mutex_init(&metrics->mutex, NULL);
    condition_init(&metrics->wake);
    if (thread_start(&metrics->thread, "metrics", build_pages, metrics, error))
        return metrics;
    pthread_cond_destroy(&metrics->wake);
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
    return NULL;
}

void metrics_thread_stop(struct metrics_thread *metrics) {
    if (metrics == NULL)
        return;
    pthread_mutex_lock(&metrics->mutex);
    metrics->stopping = true;
    pthread_cond_signal(&metrics->wake);
    pthread_mutex_unlock(&metrics->mutex);
    pthread_join(metrics->thread, NULL);
    release_page(keep_page(metrics, NULL));
    while (!list_empty(&metrics->scrapes)) { /* their clients have gone with the workers */
        struct scrape *scrape = container_of(metrics->scrapes.next, struct scrape, link);
        list_remove(&scrape->link);
        free(scrape);
    }
    pthread_cond_destroy(&metrics->wake);
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

void metrics_thread_drain(struct metrics_thread *metrics) {
    if (metrics == NULL)
        return;
    pthread_mutex_lock(&metrics->mutex);
    metrics->draining = true;
    pthread_cond_signal(&metrics->wake);
    pthread_mutex_unlock(&metrics->mutex);
}

uint64_t metrics_thread_built(struct metrics_thread *metrics) {
    uint64_t built;

    pthread_mutex_lock(&metrics->mutex);
    built = metrics->built;
    pthread_mutex_unlock(&metrics->mutex);
    return built;
}

/* --- scrapes, on their workers --- */

static void answer_page(struct api_call *call, struct frame *page) {
    api_answer_frame(call, SLICE("text/plain; version=0.0.4; charset=utf-8"), page);
}

static void on_page(struct worker *worker, struct message *message, struct message **rest) {
    struct scrape *scrape = container_of(message, struct scrape, message);

    (void)worker;
    (void)rest;
    if (scrape->call != NULL) {
        api_call_resume(scrape->call);
        answer_page(scrape->call, scrape->page);
        api_call_release(scrape->call);
    }
    frame_unref(scrape->page);
    free(scrape);
}

static void forget_call(struct api_call *call) {
    ((struct scrape *)call->waits_for)->call = NULL;
}

/* Returns the kept page with a reference, or NULL after it has queued the scrape for a new one. */
static struct frame *take_page(struct metrics_thread *metrics, struct scrape *scrape) {
    struct frame *page = NULL;

    pthread_mutex_lock(&metrics->mutex);
    if (!scrape->wants_new && metrics->page != NULL && clock_monotonic_ns() < metrics->expires_ns) {
        page = metrics->page;
        frame_ref(page);
    } else {
        list_append(&metrics->scrapes, &scrape->link);
        pthread_cond_signal(&metrics->wake);
    }
    pthread_mutex_unlock(&metrics->mutex);
    return page;
}

void api_get_metrics(struct api_call *call) {
    struct scrape *scrape = alloc_zero(sizeof *scrape);
    struct frame *page;

    scrape->worker = call->worker;
    scrape->call = call;
    scrape->wants_new = http_header_has(call->request, SLICE("cache-control"), SLICE("no-cache"));
    api_call_wait(call, scrape, forget_call); /* before the thread can know of it */
    page = take_page(call->api->metrics, scrape);
    if (page == NULL)
        return;
    api_call_resume(call);
    free(scrape);
    answer_page(call, page);
    frame_unref(page);
}
