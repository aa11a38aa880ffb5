/*
 * GET /up, /up/{id}, /live, /ready and /accept-traffic: health checks for load balancers and supervisors. The answer is
 * one word, as body and as header; another header names what is degraded.
 */
#include <stdlib.h>

#include "api/api_call.h"
#include "base/alloc.h"
#include "cluster/cluster.h"

static void answer_health(struct api_call *call, unsigned status, const char *word) {
    struct buffer header = {0};

    buffer_appendf(&header, "X-Health-Check: %s\r\n", word);
    api_answer_with(call, status, SLICE("text/plain; charset=utf-8"), buffer_slice(&header), slice_of(word));
    buffer_dispose(&header);
}

/* Answers for a store of this health, and for the bus between nodes. */
static void answer_serving(struct api_call *call, enum app_health health) {
    const char *fault = cluster_fault(call->api->cluster);
    bool store = health != APP_HEALTH_OK;
    struct buffer header = {0};

    if (!store && fault == NULL) {
        answer_health(call, 200, "OK");
        return;
    }
    buffer_appendf(&header, "X-Health-Check: DEGRADED\r\nX-Health-Cause: %s%s%s\r\n", store ? "store" : "",
                   store && fault != NULL ? ", " : "", fault != NULL ? fault : "");
    api_answer_with(call, 200, SLICE("text/plain; charset=utf-8"), buffer_slice(&header), SLICE("DEGRADED"));
    buffer_dispose(&header);
}

static bool is_draining(const struct api_call *call) {
    return atomic_load_explicit(call->api->draining, memory_order_relaxed);
}

/* The store is asked if it did not answer within the last second, and gets this time. Everybody may request /up, so
 * only a few checks ask the store at one time; the others get the known state. */
#define CHECK_TIMEOUT_MS 1000
#define CHECKS_MAX 4

struct health_check {
    struct api_job base;
    struct api *api;
    void (*answer)(struct api_call *call);
};

static void answer_known_health(struct api_call *call) {
    enum app_health health = app_manager_health(call->api->apps);

    if (is_draining(call) || health == APP_HEALTH_ERROR)
        answer_health(call, 503, "ERROR");
    else
        answer_serving(call, health);
}

static enum store_answer run_health_check(struct app_job *job, struct store_connection *connection) {
    return store_check_health(connection, &job->error);
}

static void on_health_check_ended(struct api_call *call, struct api_job *job) {
    container_of(job, struct health_check, base)->answer(call); /* the app manager has noted the store's answer */
}

static void health_check_free(struct app_job *job) {
    struct health_check *check = container_of(job, struct health_check, base.job);

    atomic_fetch_sub(&check->api->health_checks, 1);
    free(check);
}

static bool may_check(struct api *api) {
    if (atomic_fetch_add(&api->health_checks, 1) < CHECKS_MAX)
        return true;
    atomic_fetch_sub(&api->health_checks, 1);
    return false;
}

/* Answers with `answer`, after a request to the store if its state is not known. */
static void answer_checked(struct api_call *call, void (*answer)(struct api_call *call)) {
    struct health_check *check;

    if (is_draining(call) || app_manager_health_known(call->api->apps) || !may_check(call->api)) {
        answer(call);
        return;
    }
    check = alloc_zero(sizeof *check);
    check->api = call->api;
    check->answer = answer;
    check->base = (struct api_job){.job = {.operation = {.priority = STORE_URGENT, .repeatable = true},
                                           .run = run_health_check,
                                           .destroy = health_check_free},
                                   .ended = on_health_check_ended};
    api_submit(call, &check->base, CHECK_TIMEOUT_MS);
}

void api_get_up(struct api_call *call) {
    answer_checked(call, answer_known_health);
}

void api_get_up_app(struct api_call *call) {
    bool found = call->lookup.answer == APP_FOUND;

    if (call->lookup.answer == APP_NOT_FOUND)
        answer_health(call, 404, "NOT_FOUND");
    else if (is_draining(call) || !found || !call->lookup.app->enabled)
        answer_health(call, 503, "ERROR");
    else
        answer_serving(call, app_manager_health(call->api->apps));
}

void api_get_live(struct api_call *call) {
    answer_health(call, 200, "OK");
}

static void answer_known_readiness(struct api_call *call) {
    struct app_manager *apps = call->api->apps;

    if (is_draining(call))
        answer_health(call, 503, "DRAINING");
    else if (app_manager_has_store(apps) && app_manager_health(apps) == APP_HEALTH_ERROR)
        answer_health(call, 503, "NO_STORE");
    else if (atomic_load_explicit(call->api->memory_full, memory_order_relaxed))
        answer_health(call, 503, "MEMORY");
    else
        answer_health(call, 200, "OK");
}

void api_get_ready(struct api_call *call) {
    answer_checked(call, answer_known_readiness);
}
