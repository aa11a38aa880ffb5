#include "api/page_thread.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
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
    struct slice type;     /* of its content */
};

struct page_thread {
    const struct api *api;
    struct page_settings settings;
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

static struct frame *build_page(const struct page_thread *pages) {
    struct buffer text = {0};
    struct frame *page;

    pages->settings.append(pages->api, &text);
    page = frame_create(text.length);
    memcpy(page->bytes, text.data, text.length);
    buffer_dispose(&text);
    return page;
}

/* Returns the page that was kept, to be released without the mutex: it may be large. */
static struct frame *keep_page(struct page_thread *pages, struct frame *page) {
    struct frame *old = pages->page;

    pages->page = page;
    return old;
}

static void release_page(struct frame *page) {
    if (page != NULL)
        frame_unref(page);
}

static bool may_build(const struct page_thread *pages, uint64_t now_ns) {
    return pages->draining || now_ns >= pages->next_build_ns;
}

static void drop_expired_page(struct page_thread *pages) {
    struct frame *expired = keep_page(pages, NULL);

    pthread_mutex_unlock(&pages->mutex);
    release_page(expired);
    pthread_mutex_lock(&pages->mutex);
}

/* Waits until a page has to be built; false when the thread has to end. With the mutex held. */
static bool wait_for_scrape(struct page_thread *pages) {
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns();

        if (pages->stopping)
            return false;
        if (!list_empty(&pages->scrapes) && may_build(pages, now_ns))
            return true;
        if (pages->page != NULL && now_ns >= pages->expires_ns)
            drop_expired_page(pages);
        else if (!list_empty(&pages->scrapes))
            condition_wait_until(&pages->wake, &pages->mutex, pages->next_build_ns);
        else if (pages->page != NULL)
            condition_wait_until(&pages->wake, &pages->mutex, pages->expires_ns);
        else
            pthread_cond_wait(&pages->wake, &pages->mutex);
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
    struct page_thread *pages = context;
    struct list scrapes;

    list_init(&scrapes);
    pthread_mutex_lock(&pages->mutex);
    while (wait_for_scrape(pages)) {
        uint64_t began_ns = clock_monotonic_ns(), ended_ns;
        struct frame *page, *old;

        list_move_all(&pages->scrapes, &scrapes);
        pthread_mutex_unlock(&pages->mutex);
        page = build_page(pages);
        ended_ns = clock_monotonic_ns();
        frame_ref(page); /* one for the scrapes, one to keep */
        pthread_mutex_lock(&pages->mutex);
        add_late_scrapes(&pages->scrapes, &scrapes);
        old = keep_page(pages, page);
        pages->next_build_ns = ended_ns + (ended_ns - began_ns) * IDLE_PER_BUILD;
        pages->expires_ns = ended_ns + pages->keep_ns;
        if (pages->expires_ns < pages->next_build_ns) /* there is no newer one before */
            pages->expires_ns = pages->next_build_ns;
        pages->built++;
        pthread_mutex_unlock(&pages->mutex);
        release_page(old);
        post_page(&scrapes, page);
        frame_unref(page);
        budget_settle();
        pthread_mutex_lock(&pages->mutex);
    }
    pthread_mutex_unlock(&pages->mutex);
    return NULL;
}

struct page_thread *page_thread_start(const struct api *api, const struct page_settings *settings,
                                      struct error *error) {
    struct page_thread *pages = alloc_zero(sizeof *pages);

    pages->api = api;
    pages->settings = *settings;
    pages->keep_ns = settings->keep_ms * NS_PER_MS;
    list_init(&pages->scrapes);
    pthread_mutex_init(&pages->mutex, NULL);
    condition_init(&pages->wake);
    if (thread_start(&pages->thread, settings->name, build_pages, pages, error))
        return pages;
    pthread_cond_destroy(&pages->wake);
    pthread_mutex_destroy(&pages->mutex);
    free(pages);
    return NULL;
}

void page_thread_stop(struct page_thread *pages) {
    if (pages == NULL)
        return;
    pthread_mutex_lock(&pages->mutex);
    pages->stopping = true;
    pthread_cond_signal(&pages->wake);
    pthread_mutex_unlock(&pages->mutex);
    pthread_join(pages->thread, NULL);
    release_page(keep_page(pages, NULL));
    while (!list_empty(&pages->scrapes)) { /* their clients have gone with the workers */
        struct scrape *scrape = container_of(pages->scrapes.next, struct scrape, link);
        list_remove(&scrape->link);
        free(scrape);
    }
    pthread_cond_destroy(&pages->wake);
    pthread_mutex_destroy(&pages->mutex);
    free(pages);
}

void page_thread_drain(struct page_thread *pages) {
    if (pages == NULL)
        return;
    pthread_mutex_lock(&pages->mutex);
    pages->draining = true;
    pthread_cond_signal(&pages->wake);
    pthread_mutex_unlock(&pages->mutex);
}

uint64_t page_thread_built(struct page_thread *pages) {
    uint64_t built;

    pthread_mutex_lock(&pages->mutex);
    built = pages->built;
    pthread_mutex_unlock(&pages->mutex);
    return built;
}

/* --- scrapes, on their workers --- */

static void on_page(struct worker *worker, struct message *message, struct message **rest) {
    struct scrape *scrape = container_of(message, struct scrape, message);

    (void)worker;
    (void)rest;
    if (scrape->call != NULL) {
        api_call_resume(scrape->call);
        api_answer_frame(scrape->call, scrape->type, scrape->page);
        api_call_release(scrape->call);
    }
    frame_unref(scrape->page);
    free(scrape);
}

static void forget_call(struct api_call *call) {
    ((struct scrape *)call->waits_for)->call = NULL;
}

/* Returns the kept page with a reference, or NULL after it has queued the scrape for a new one. */
static struct frame *take_page(struct page_thread *pages, struct scrape *scrape) {
    struct frame *page = NULL;

    pthread_mutex_lock(&pages->mutex);
    if (!scrape->wants_new && pages->page != NULL && clock_monotonic_ns() < pages->expires_ns) {
        page = pages->page;
        frame_ref(page);
    } else {
        list_append(&pages->scrapes, &scrape->link);
        pthread_cond_signal(&pages->wake);
    }
    pthread_mutex_unlock(&pages->mutex);
    return page;
}

void page_answer(struct page_thread *pages, struct api_call *call, struct slice content_type) {
    struct scrape *scrape = alloc_zero(sizeof *scrape);
    struct frame *page;

    scrape->worker = call->worker;
    scrape->call = call;
    scrape->type = content_type;
    scrape->wants_new = http_header_has(call->request, SLICE("cache-control"), SLICE("no-cache"));
    api_call_wait(call, scrape, forget_call); /* before the thread can know of it */
    page = take_page(pages, scrape);
    if (page == NULL)
        return;
    api_call_resume(call);
    free(scrape);
    api_answer_frame(call, content_type, page);
    frame_unref(page);
}
