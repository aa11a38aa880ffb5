/*
 * Work for apps that comes from another process or node, on a worker: it is run when the app is known, and for each app
 * in the order in which it was added.
 *
 *   app_queue_add --- app known ---> task->run
 *        \----------- lookup pending: this task and later ones of the app wait ---> task->run, in order
 *
 * Each worker uses its own list only.
 */
#pragma once

#include "app_manager/app_manager.h"
#include "base/list.h"
#include "base/slice.h"
#include "net/worker.h"

/* {0} is an empty queue. */
struct app_queue {
    struct list waiting[WORKERS_MAX]; /* of each worker: the first task of each app that is looked up */
};

/* Embed it in memory that `run` frees. */
struct app_task {
    /* Called once, with the answer in `lookup`, which is final. */
    void (*run)(struct app_task *task);
    struct slice app_id; /* as long as the task */
    struct app_lookup lookup;
    struct worker *worker;
    struct app_queue *queue;
    struct app_manager *apps;
    struct list link;              /* in the worker's list, while its app is looked up */
    struct app_task *next, **last; /* what waits for the same answer; `last` is of the first one */
};

/* Runs the task, now or later. The caller has set `run` and `app_id`. On the worker. */
void app_queue_add(struct app_queue *queue, struct app_manager *apps, struct worker *worker, struct app_task *task);
