#include "api/list_thread.h"

#include <stdlib.h>

#include "api/dispatch.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/thread.h"
#include "net/chunk.h"

/* Requests that wait at most, of all apps and of one. */
#define WAITING_MOST 256
#define WAITING_OF_APP_MOST 16

/* About what an entry of a list takes, for the account of memory. */
#define ENTRY_BYTES 64

/* A request that waits; afterwards the message that brings the list to its worker. */
struct list_job {
    struct message message;
    struct list link;
    struct worker *worker;
    struct api_call *call; /* NULL: the client has gone; the worker's */
    atomic_bool abandoned; /* the same, for the thread */
    struct list_request request;
    struct frame *answer; /* NULL: it is too long, or there is no memory for it */
    bool no_memory;
    struct slice app_id; /* it and request.text are in `storage` */
    char storage[];
};

struct list_thread {
    struct app_manager *apps;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* Under the mutex. */
    struct list jobs;
    unsigned waiting;
    bool stopping;
};

static void free_list_job(struct list_job *job) {
    buffer_dispose(&job->request.others);
    free(job);
}

/* --- the thread --- */

struct list_search {
    struct list_job *job;
    bool found;
};

/* Makes the answer, unless there is no memory for what it will need, by an estimate, or for what it has become. `slot`
 * NULL: the app has gone. */
static void make_list(struct list_job *job, struct app_slot *slot) {
    size_t estimate = (size_t)job->request.count * ENTRY_BYTES;
    struct budget_app *app = slot != NULL ? slot->budget : NULL;
    struct buffer text = {0};

    job->no_memory = !budget_take(BUDGET_OUTPUT, app, estimate);
    if (job->no_memory)
        return;
    job->request.append(&text, slot, &job->request);
    budget_give(BUDGET_OUTPUT, app, estimate);
    if (!budget_has_room(BUDGET_OUTPUT, app, text.length)) {
        budget_refused(BUDGET_OUTPUT);
        job->no_memory = true;
    } else if (text.length <= UINT32_MAX) { /* what a frame can hold */
        job->answer = frame_create(text.length);
        frame_assign(job->answer, app);
        memcpy(job->answer->bytes, text.data, text.length);
    }
    buffer_dispose(&text);
}

static void make_if_wanted(struct app_slot *slot, void *context) {
    struct list_search *search = context;

    if (search->found || !slice_equal(slice_of(slot->id), search->job->app_id))
        return;
    search->found = true;
    make_list(search->job, slot);
}

/* The slot is looked for here: it may have gone since the worker had it. */
static void do_list_job(struct list_thread *lists, struct list_job *job) {
    struct list_search search = {.job = job};

    app_manager_each_slot(lists->apps, make_if_wanted, &search);
    if (!search.found)
        make_list(job, NULL);
}

/* Takes the first job of another app than the last one, or the first of all. With the mutex held. */
static struct list_job *take_job(struct list_thread *lists, struct slice last_app) {
    struct list_job *job = container_of(lists->jobs.next, struct list_job, link);

    for (struct list *link = lists->jobs.next; link != &lists->jobs; link = link->next) {
        struct list_job *other = container_of(link, struct list_job, link);
        if (!slice_equal(other->app_id, last_app)) {
            job = other;
            break;
        }
    }
    list_remove(&job->link);
    lists->waiting--;
    return job;
}

/* Waits for a job, and until the rest is over; false when the thread has to end. With the mutex held. */
static bool wait_for_job(struct list_thread *lists, uint64_t rest_until_ns) {
    while (!lists->stopping) {
        if (list_empty(&lists->jobs))
            pthread_cond_wait(&lists->wake, &lists->mutex);
        else if (clock_monotonic_ns() < rest_until_ns)
            condition_wait_until(&lists->wake, &lists->mutex, rest_until_ns);
        else
            return true;
    }
    return false;
}

static void *make_lists(void *context) {
    struct list_thread *lists = context;
    struct buffer last_app = {0};
    uint64_t rest_until_ns = 0;

    pthread_mutex_lock(&lists->mutex);
    while (wait_for_job(lists, rest_until_ns)) {
        struct list_job *job = take_job(lists, buffer_slice(&last_app));
        uint64_t began_ns = clock_monotonic_ns(), ended_ns;

        pthread_mutex_unlock(&lists->mutex);
        last_app.length = 0;
        buffer_append(&last_app, job->app_id);
        if (!atomic_load_explicit(&job->abandoned, memory_order_relaxed))
            do_list_job(lists, job);
        budget_settle();
        ended_ns = clock_monotonic_ns();
        rest_until_ns = ended_ns + (ended_ns - began_ns);
        worker_post(job->worker, &job->message);
        pthread_mutex_lock(&lists->mutex);
    }
    pthread_mutex_unlock(&lists->mutex);
    buffer_dispose(&last_app);
    return NULL;
}

struct list_thread *list_thread_start(struct app_manager *apps, struct error *error) {
    struct list_thread *lists = alloc_zero(sizeof *lists);

    lists->apps = apps;
    list_init(&lists->jobs);
    pthread_mutex_init(&lists->mutex, NULL);
    condition_init(&lists->wake);
    if (thread_start(&lists->thread, "lists", make_lists, lists, error))
        return lists;
    pthread_cond_destroy(&lists->wake);
    pthread_mutex_destroy(&lists->mutex);
    free(lists);
    return NULL;
}

void list_thread_stop(struct list_thread *lists) {
    if (lists == NULL)
        return;
    pthread_mutex_lock(&lists->mutex);
    lists->stopping = true;
    pthread_cond_signal(&lists->wake);
    pthread_mutex_unlock(&lists->mutex);
    pthread_join(lists->thread, NULL);
    while (!list_empty(&lists->jobs)) { /* their clients have gone with the workers */
        struct list_job *job = container_of(lists->jobs.next, struct list_job, link);
        list_remove(&job->link);
        free_list_job(job);
    }
    pthread_cond_destroy(&lists->wake);
    pthread_mutex_destroy(&lists->mutex);
    free(lists);
}

/* --- calls, on their workers --- */

static void refuse_list(struct api_call *call, bool no_memory) {
    if (no_memory)
        api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"),
                        "there is no memory for a list of this length now: try again");
    else
        api_refuse(call, 500, REFUSED_REQUEST, "the list is longer than 4 GB: use `filter_by_prefix`");
}

/* The app may have changed or gone meanwhile, so the call begins again with the search for it. */
static void on_list(struct worker *worker, struct message *message, struct message **rest) {
    struct list_job *job = container_of(message, struct list_job, message);
    struct api_call *call = job->call;

    (void)worker;
    (void)rest;
    if (call == NULL) {
        if (job->answer != NULL)
            frame_unref(job->answer);
    } else if (job->answer != NULL) {
        api_call_resume(call);
        call->listed = job->answer;
        api_dispatch_again(call);
    } else {
        api_call_resume(call);
        call->lookup = (struct app_lookup){0};
        refuse_list(call, job->no_memory);
        api_call_release(call);
    }
    free_list_job(job);
}

static void abandon_list(struct api_call *call) {
    struct list_job *job = call->waits_for;

    job->call = NULL;
    atomic_store_explicit(&job->abandoned, true, memory_order_relaxed);
}

static struct list_job *job_create(struct api_call *call, const struct list_request *request) {
    struct slice id = slice_of(call->lookup.slot->id);
    struct list_job *job = alloc_zero(sizeof *job + id.length + request->text.length);

    job->message.handle = on_list;
    job->worker = call->worker;
    job->call = call;
    job->request = *request;
    memcpy(job->storage, id.data, id.length);
    job->app_id = (struct slice){job->storage, id.length};
    if (request->text.length != 0)
        memcpy(job->storage + id.length, request->text.data, request->text.length);
    job->request.text = (struct slice){job->storage + id.length, request->text.length};
    return job;
}

/* False if too many wait already. With the mutex held. */
static bool has_place(const struct list_thread *lists, const struct list_job *job) {
    unsigned of_app = 0;

    for (const struct list *link = lists->jobs.next; link != &lists->jobs; link = link->next)
        of_app += slice_equal(container_of(link, struct list_job, link)->app_id, job->app_id);
    return of_app < WAITING_OF_APP_MOST && lists->waiting < WAITING_MOST;
}

void list_answer_later(struct list_thread *lists, struct api_call *call, const struct list_request *request) {
    struct list_job *job = job_create(call, request);
    bool queued;

    api_call_wait(call, job, abandon_list); /* before the thread can know of it */
    pthread_mutex_lock(&lists->mutex);
    queued = has_place(lists, job);
    if (queued) {
        list_append(&lists->jobs, &job->link);
        lists->waiting++;
        pthread_cond_signal(&lists->wake);
    }
    pthread_mutex_unlock(&lists->mutex);
    if (queued)
        return;
    api_call_resume(call);
    free_list_job(job);
    api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"),
                    "too many requests for long lists are under way: try again");
}
