#include "app_manager/app_queue.h"

#include "base/alloc.h"

static void on_task_app(struct app_lookup *lookup);

static struct list *waiting_tasks(struct app_queue *queue, const struct worker *worker) {
    struct list *waiting = &queue->waiting[worker->index];

    if (waiting->next == NULL)
        list_init(waiting);
    return waiting;
}

/* Finds the task's app, and runs the task. False if the answer comes later. */
static bool run_known_task(struct app_task *task) {
    enum app_answer answer;

    task->lookup.done = on_task_app;
    answer = app_manager_find_by_id(task->apps, task->worker, task->app_id, &task->lookup);
    if (answer == APP_PENDING)
        return false;
    task->lookup.answer = answer;
    task->run(task);
    return true;
}

/* Runs a task and those after it of the same app, which wait as long as the app is not known. */
static void run_tasks(struct app_task *task, struct app_task **last) {
    while (task != NULL) {
        struct app_task *next = task->next;

        if (!run_known_task(task)) {
            task->last = next == NULL ? &task->next : last;
            list_append(waiting_tasks(task->queue, task->worker), &task->link);
            return;
        }
        task = next;
    }
}

static void on_task_app(struct app_lookup *lookup) {
    struct app_task *task = container_of(lookup, struct app_task, lookup), *next = task->next, **last = task->last;

    list_remove(&task->link);
    task->run(task);
    run_tasks(next, last);
}

void app_queue_add(struct app_queue *queue, struct app_manager *apps, struct worker *worker, struct app_task *task) {
    struct list *waiting = waiting_tasks(queue, worker);

    task->worker = worker;
    task->queue = queue;
    task->apps = apps;
    task->next = NULL;
    for (struct list *link = waiting->next; link != waiting; link = link->next) {
        struct app_task *first = container_of(link, struct app_task, link);
        if (slice_equal(first->app_id, task->app_id)) {
            *first->last = task;
            first->last = &task->next;
            return;
        }
    }
    run_tasks(task, NULL);
}
