#include "server/webhook_finder.h"

#include "base/list.h"

static void hand_app_over(struct webhook_thread *thread, struct webhook_message *message) {
    struct webhook_finder *finder = container_of(message, struct webhook_finder, answer);
    struct app *app = finder->app;

    finder->app = NULL;
    /* A change of the record may have overtaken the answer. */
    delivery_app_found(webhook_thread_delivery(thread), finder->outcome, app != NULL ? app_latest(app) : NULL);
    app_unref(app);
}

static enum delivery_answer outcome_of(enum app_answer answer) {
    if (answer == APP_FOUND || answer == APP_NOT_FOUND)
        return DELIVERY_APP_KNOWN;
    return answer == APP_INVALID ? DELIVERY_APP_BROKEN : DELIVERY_APP_UNAVAILABLE;
}

/* On the worker. */
static void send_answer(struct webhook_finder *finder) {
    const struct app_lookup *lookup = &finder->lookup;

    finder->outcome = outcome_of(lookup->answer);
    finder->app = lookup->answer == APP_FOUND ? app_ref((struct app *)lookup->app) : NULL;
    finder->answer.handle = hand_app_over;
    webhook_thread_post(finder->thread, &finder->answer);
    webhook_thread_wake(finder->thread);
}

static void finish_lookup_for_webhooks(struct app_lookup *lookup) {
    send_answer(container_of(lookup, struct webhook_finder, lookup));
}

static void look_app_up(struct worker *worker, struct message *message, struct message **rest) {
    struct webhook_finder *finder = container_of(message, struct webhook_finder, message);

    (void)rest;
    finder->lookup = (struct app_lookup){.done = finish_lookup_for_webhooks};
    finder->lookup.answer = app_manager_find_by_id(finder->apps, worker, finder->app_id, &finder->lookup);
    if (finder->lookup.answer != APP_PENDING)
        send_answer(finder);
}

static void find_app_for_webhooks(struct slice app_id, void *context) {
    struct webhook_finder *finder = context;

    finder->app_id = app_id;
    finder->message.handle = look_app_up;
    worker_post(finder->worker, &finder->message);
}

void webhook_finder_init(struct webhook_finder *finder, struct webhook_thread *thread, struct app_manager *apps,
                         struct worker *worker) {
    finder->thread = thread;
    finder->apps = apps;
    finder->worker = worker;
    delivery_set_finder(webhook_thread_delivery(thread), find_app_for_webhooks, finder);
}
