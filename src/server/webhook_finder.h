/*
 * Finds the records of apps for the webhook thread, which has events for them from an earlier process: the app manager
 * answers on workers only.
 *
 *   webhook thread --- finder ---> first worker: app_manager_find_by_id --- finder ---> webhook thread
 *
 * There is one of them, since the webhook thread asks for one app at a time.
 */
#pragma once

#include "app_manager/app_manager.h"
#include "net/worker.h"
#include "webhook/webhook_thread.h"

struct webhook_finder {
    struct message message;
    struct webhook_message answer;
    struct app_lookup lookup;
    struct slice app_id;
    enum delivery_answer outcome;
    struct app *app; /* a reference; NULL: there is no such app, or it is not known */

    struct app_manager *apps;
    struct worker *worker;
    struct webhook_thread *thread;
};

/* Joins the thread, which does not run yet. */
void webhook_finder_init(struct webhook_finder *finder, struct webhook_thread *thread, struct app_manager *apps,
                         struct worker *worker);
