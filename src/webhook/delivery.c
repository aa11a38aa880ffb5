#include "webhook/delivery.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "webhook/lambda_call.h"
#include "webhook/lambda_credentials.h"
#include "webhook/webhook_request.h"
#include "webhook/webhook_table.h"

/* Requests under way at once. Half of them are for webhooks that have none: endpoints that hang cannot take them all.
 */
#define UNDER_WAY_MAX 1024
#define UNDER_WAY_SHARED (UNDER_WAY_MAX / 2)

#define KEPT_CONNECTIONS 256L

/* How long to wait for the end of the process that uses the spool, before trying again. */
#define OPEN_SPOOL_AGAIN_MS 100
/* How long to wait before the store is asked again for an app that the spool has events for. */
#define FIND_AGAIN_MS 1000

/* A webhook that fails writes each kind of line to the log at most this often. */
#define LOG_INTERVAL_MS 10000

enum starved_kind { STARVED_OF_FIRST, STARVED_OF_MORE, STARVED_KINDS };

struct delivery {
    struct webhook_table table;
    struct webhook_sender sender;
    CURLM *multi;
    unsigned under_way;
    struct list starved[STARVED_KINDS]; /* webhooks that are due, but too many requests are under way */

    struct lambda_credentials *lambda;
    struct aws_credentials credentials; /* that were used last */
    struct list waiting_attempts;       /* for credentials */

    struct spool *spool; /* NULL: there is none */
    /* Of a spool that another process uses: when to try again, UINT64_MAX: there is none. */
    uint64_t open_spool_ms;
    const struct config *config;
    void (*find_app)(struct slice app_id, void *context);
    void *find_context;
    bool finding; /* an app, or waiting to ask for it again */
    uint64_t find_again_ms;
    uint64_t broken_logged_ms;
};

/* An attempt to deliver a batch: a request under way, or one that waits for credentials. */
struct attempt {
    struct list link;         /* in its webhook */
    struct list waiting_link; /* in the delivery, while it waits for credentials */
    struct webhook *webhook;
    struct webhook_batch *batch;
    struct webhook_request *request; /* NULL while it waits */
};

/* --- attempts --- */

static void end_attempt(struct delivery *delivery, struct attempt *attempt) {
    if (attempt->request != NULL) {
        curl_multi_remove_handle(delivery->multi, attempt->request->easy);
        webhook_request_destroy(attempt->request);
    }
    list_remove(&attempt->waiting_link);
    list_remove(&attempt->link);
    attempt->webhook->under_way--;
    delivery->under_way--;
    free(attempt);
}

/* True if a line of its kind may be written now; `logged_ms` is when the last one was. */
static bool may_log(uint64_t *logged_ms, uint64_t now_ms) {
    if (*logged_ms != 0 && now_ms - *logged_ms < LOG_INTERVAL_MS)
        return false;
    *logged_ms = now_ms;
    return true;
}

static void count_latency(struct webhook_counters *counters, uint64_t latency_ms) {
    size_t bucket = 0;

    while (bucket < WEBHOOK_LATENCY_BUCKETS - 1 && latency_ms > webhook_latency_bounds_ms[bucket])
        bucket++;
    counter_add(&counters->latency[bucket], 1);
    counter_add(&counters->latency_sum_ms, latency_ms);
}

static void batch_delivered(struct webhook *webhook, struct webhook_batch *batch) {
    uint64_t wall_ms = clock_wall_ms();

    counter_add(&webhook->counters.delivered, batch->events);
    count_latency(&webhook->counters, wall_ms > batch->oldest_wall_ms ? wall_ms - batch->oldest_wall_ms : 0);
    if (webhook->failing)
        log_info("webhook", "app \"%.*s\": webhooks[%zu] accepts events again", SLICE_ARGS(webhook->app->id),
                 webhook->index);
    webhook->failing = false;
    webhook_batch_end(batch);
}

static void give_batch_up(struct webhook *webhook, struct webhook_batch *batch, enum webhook_drop reason,
                          const char *why, uint64_t now_ms) {
    counter_add(&webhook->counters.dropped[reason], batch->events);
    if (may_log(&webhook->drop_logged_ms, now_ms))
        log_error("webhook", "app \"%.*s\": webhooks[%zu]: %u events are dropped after %u attempts; the last one: %s",
                  SLICE_ARGS(webhook->app->id), webhook->index, batch->events, batch->attempts, why);
    webhook_batch_end(batch);
}

static void batch_failed(struct webhook *webhook, struct webhook_batch *batch, enum webhook_outcome outcome,
                         const char *why) {
    uint64_t now_ms = clock_monotonic_ms();
    bool again = webhook_batch_retry(batch, now_ms) && outcome != WEBHOOK_GONE;

    counter_add(&webhook->counters.failures, 1);
    webhook->failing = true;
    if (!again)
        give_batch_up(webhook, batch, outcome == WEBHOOK_GONE ? WEBHOOK_DROP_GONE : WEBHOOK_DROP_RETRIES, why, now_ms);
    else if (batch->attempts == 1 && may_log(&webhook->warned_ms, now_ms))
        log_warning("webhook", "app \"%.*s\": webhooks[%zu]: %u events were not accepted, and are sent again: %s",
                    SLICE_ARGS(webhook->app->id), webhook->index, batch->events, why);
}

/* Gives the webhooks that wait for a request to end their turn. */
static void feed_starved(struct delivery *delivery) {
    for (unsigned i = 0; i < STARVED_KINDS; i++) {
        if (!list_empty(&delivery->starved[i]) &&
            delivery->under_way < (i == STARVED_OF_FIRST ? UNDER_WAY_MAX : UNDER_WAY_SHARED)) {
            struct webhook *webhook = container_of(delivery->starved[i].next, struct webhook, starved);

            list_remove(&webhook->starved);
            webhook_table_update(&delivery->table, webhook);
        }
    }
}

/* Ends the attempt with its outcome. `why` is NULL if the batch was delivered. */
static void finish_attempt(struct delivery *delivery, struct attempt *attempt, enum webhook_outcome outcome,
                           const char *why) {
    struct webhook *webhook = attempt->webhook;
    struct webhook_batch *batch = attempt->batch;

    end_attempt(delivery, attempt);
    counter_add(&webhook->counters.requests, 1);
    if (batch->attempts > 0)
        counter_add(&webhook->counters.retries, 1);
    if (outcome == WEBHOOK_DELIVERED)
        batch_delivered(webhook, batch);
    else
        batch_failed(webhook, batch, outcome, why);
    list_remove(&webhook->starved);
    webhook_table_update(&delivery->table, webhook);
    feed_starved(delivery);
}

static void finish_request(struct delivery *delivery, struct attempt *attempt, CURLcode code) {
    struct error error = {0};
    unsigned status;
    enum webhook_outcome outcome = webhook_request_outcome(attempt->request, code, &status, &error);

    if (status == 403 && webhook_setting_of(attempt->webhook)->url.data == NULL)
        lambda_credentials_reject(delivery->lambda, &delivery->credentials);
    finish_attempt(delivery, attempt, outcome, error.text);
}

/* The signature covers the very bytes of the body. It is made once: each attempt sends the same. */
static void sign_batch(struct webhook_batch *batch, const struct app *record) {
    const struct slice body = {batch->body, batch->length};
    char signature[HMAC_SHA256_HEX];

    if (batch->signature != NULL)
        return;
    hmac_sha256_hex(&record->hmac, &body, 1, signature);
    batch->signature = alloc_copy(signature, sizeof signature);
    batch->key = alloc_copy(record->key.data, record->key.length);
}

/* Makes the attempt's request and hands it to libcurl. */
static void send_batch(struct delivery *delivery, struct attempt *attempt) {
    struct webhook_batch *batch = attempt->batch;
    const struct webhook_call call = {
        .webhook = webhook_setting_of(attempt->webhook),
        .body = {batch->body, batch->length},
        .key = batch->key,
        .signature = batch->signature,
        .credentials = &delivery->credentials,
    };
    struct error error;

    attempt->request = webhook_request_create(&delivery->sender, &call, &error);
    if (attempt->request == NULL) {
        finish_attempt(delivery, attempt, WEBHOOK_FAILED, error.text);
        return;
    }
    attempt->request->owner = attempt;
    curl_multi_add_handle(delivery->multi, attempt->request->easy);
}

static void start_attempt(struct delivery *delivery, struct webhook *webhook, struct webhook_batch *batch) {
    struct attempt *attempt = alloc_zero(sizeof *attempt);

    sign_batch(batch, webhook->app->record);
    attempt->webhook = webhook;
    attempt->batch = batch;
    list_append(&webhook->attempts, &attempt->link);
    webhook->under_way++;
    delivery->under_way++;
    if (webhook_setting_of(webhook)->url.data != NULL)
        send_batch(delivery, attempt);
    else
        list_append(&delivery->waiting_attempts, &attempt->waiting_link);
}

/* Goes on with the attempts that wait for credentials, if these have come. */
static void serve_waiting_attempts(struct delivery *delivery) {
    struct error error = {0};
    enum lambda_answer answer;

    if (list_empty(&delivery->waiting_attempts))
        return;
    answer = lambda_credentials_get(delivery->lambda, &delivery->credentials, &error);
    while (answer != LAMBDA_PENDING && !list_empty(&delivery->waiting_attempts)) {
        struct attempt *attempt = container_of(delivery->waiting_attempts.next, struct attempt, waiting_link);

        list_remove(&attempt->waiting_link);
        if (answer == LAMBDA_READY)
            send_batch(delivery, attempt);
        else
            finish_attempt(delivery, attempt, WEBHOOK_FAILED, error.text);
    }
}

static void wake_for_credentials(void *context) {
    struct delivery *delivery = context;

    curl_multi_wakeup(delivery->multi);
}

/* True if another request of the webhook may start. */
static bool may_start(const struct delivery *delivery, const struct webhook *webhook) {
    return delivery->under_way < (webhook->under_way == 0 ? UNDER_WAY_MAX : UNDER_WAY_SHARED);
}

/* Starts all that is due. */
static void start_due_attempts(struct delivery *delivery, uint64_t now_ms) {
    struct webhook *webhook;

    while ((webhook = webhook_table_due(&delivery->table, now_ms)) != NULL) {
        if (may_start(delivery, webhook)) {
            struct webhook_batch *batch = webhook_queue_take(&webhook->queue, now_ms);

            if (batch != NULL)
                start_attempt(delivery, webhook, batch);
        } else {
            list_append(&delivery->starved[webhook->under_way == 0 ? STARVED_OF_FIRST : STARVED_OF_MORE],
                        &webhook->starved);
        }
        webhook_table_update(&delivery->table, webhook);
    }
}

/* Lets libcurl work, and finishes the attempts that ended; true if there were any. */
static bool finish_ended_attempts(struct delivery *delivery) {
    int running, left;
    bool any = false;
    CURLMsg *message;

    curl_multi_perform(delivery->multi, &running);
    while ((message = curl_multi_info_read(delivery->multi, &left)) != NULL) {
        struct webhook_request *request;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request);
        finish_request(delivery, request->owner, code);
        any = true;
    }
    return any;
}

/* --- the interface --- */

static void cancel_attempts(struct webhook *webhook, void *context) {
    struct delivery *delivery = context;

    while (!list_empty(&webhook->attempts))
        end_attempt(delivery, container_of(webhook->attempts.next, struct attempt, link));
    feed_starved(delivery);
}

static bool open_spool(struct delivery *delivery, bool waits, struct error *error) {
    const char *path = delivery->config->webhooks.spool_path;
    bool held;

    if (path == NULL || path[0] == '\0')
        return true;
    delivery->spool = spool_open(path, (uint64_t)delivery->config->webhooks.spool_max_mb << 20, &held, error);
    if (delivery->spool != NULL)
        webhook_table_use_spool(&delivery->table, delivery->spool);
    else if (held && waits)
        delivery->open_spool_ms = clock_monotonic_ms() + OPEN_SPOOL_AGAIN_MS;
    return delivery->spool != NULL || (held && waits);
}

struct delivery *delivery_create(const struct config *config, bool waits, struct error *error) {
    struct delivery *delivery = alloc_zero(sizeof *delivery);

    delivery->config = config;
    delivery->open_spool_ms = UINT64_MAX;

    webhook_sender_init(&delivery->sender, config);
    webhook_table_init(&delivery->table, config);
    delivery->find_again_ms = UINT64_MAX;
    delivery->table.removed = cancel_attempts;
    delivery->table.context = delivery;
    delivery->lambda = lambda_credentials_create(config, lambda_endpoint_is_loopback(delivery->sender.lambda_endpoint),
                                                 wake_for_credentials, delivery);
    list_init(&delivery->waiting_attempts);
    for (unsigned i = 0; i < STARVED_KINDS; i++)
        list_init(&delivery->starved[i]);
    delivery->multi = curl_multi_init();
    if (delivery->multi == NULL) {
        delivery_destroy(delivery);
        error_set(error, "webhooks: libcurl has no memory");
        return NULL;
    }
    curl_multi_setopt(delivery->multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
    if (!open_spool(delivery, waits, error)) {
        delivery_destroy(delivery);
        return NULL;
    }
    return delivery;
}

void delivery_destroy(struct delivery *delivery) {
    if (delivery == NULL)
        return;
    if (delivery->table.events > 0)
        log_warning("webhook", "%zu events of webhooks could not be delivered in time%s", delivery->table.events,
                    delivery->spool != NULL ? "; the next server sends those in webhooks.spool_path"
                                            : " and are lost; webhooks.spool_path would keep them");
    lambda_credentials_destroy(delivery->lambda);
    aws_credentials_dispose(&delivery->credentials);
    webhook_table_dispose(&delivery->table);
    spool_close(delivery->spool);
    webhook_sender_dispose(&delivery->sender);
    curl_multi_cleanup(delivery->multi);
    free(delivery);
}

void delivery_add(struct delivery *delivery, struct app *app, size_t index, struct slice channel, struct slice json,
                  uint64_t time_ms) {
    webhook_table_add(&delivery->table, app, index, channel, json, time_ms, clock_monotonic_ms());
}

void delivery_app_changed(struct delivery *delivery, struct slice app_id, struct app *app) {
    webhook_table_change(&delivery->table, app_id, app);
}

void delivery_set_finder(struct delivery *delivery, void (*find)(struct slice app_id, void *context), void *context) {
    delivery->find_app = find;
    delivery->find_context = context;
}

/* The others are asked for first; when all have had their turn, after a while. */
static void leave_app_for_later(struct delivery *delivery, struct slice app_id, uint64_t now_ms) {
    if (may_log(&delivery->broken_logged_ms, now_ms))
        log_warning("webhook",
                    "app \"%.*s\": its record is broken; its events in webhooks.spool_path wait until it is repaired",
                    SLICE_ARGS(app_id));
    delivery->finding = spool_app_later(delivery->spool);
    if (delivery->finding)
        delivery->find_again_ms = now_ms + FIND_AGAIN_MS;
}

void delivery_app_found(struct delivery *delivery, enum delivery_answer answer, struct app *app) {
    const struct spool_restored *units;
    struct slice app_id;
    uint64_t now_ms = clock_monotonic_ms();
    size_t count;

    if (answer == DELIVERY_APP_UNAVAILABLE) {
        delivery->find_again_ms = now_ms + FIND_AGAIN_MS;
        return;
    }
    delivery->finding = false;
    if (!spool_next_app(delivery->spool, &app_id, &units, &count))
        return;
    if (answer == DELIVERY_APP_BROKEN) {
        leave_app_for_later(delivery, app_id, now_ms);
        return;
    }
    webhook_table_restore(&delivery->table, app, units, count, now_ms);
    spool_app_taken(delivery->spool);
}

bool delivery_restores(const struct delivery *delivery) {
    const struct spool_restored *units;
    struct slice app_id;
    size_t count;

    return delivery->open_spool_ms != UINT64_MAX ||
           (delivery->spool != NULL && spool_next_app(delivery->spool, &app_id, &units, &count));
}

uint64_t delivery_spool_dropped(const struct delivery *delivery) {
    return counter_read(&delivery->table.spool_dropped);
}

/* Asks for the next app that the spool has events for. */
static void find_next_app(struct delivery *delivery, uint64_t now_ms) {
    const struct spool_restored *units;
    struct slice app_id;
    size_t count;

    if (delivery->find_app == NULL || delivery->table.draining ||
        (delivery->finding && now_ms < delivery->find_again_ms) ||
        !spool_next_app(delivery->spool, &app_id, &units, &count))
        return;
    delivery->finding = true;
    delivery->find_again_ms = UINT64_MAX;
    delivery->find_app(app_id, delivery->find_context);
}

/* Tries again to open the spool that another process was using. */
static void open_spool_again(struct delivery *delivery, uint64_t now_ms) {
    struct error error;

    if (now_ms < delivery->open_spool_ms)
        return;
    delivery->open_spool_ms = UINT64_MAX;
    if (!open_spool(delivery, true, &error))
        log_error("webhook", "%s; what is pending is only in memory until a restart", error.text);
    else if (delivery->spool != NULL)
        log_info("webhook", "webhooks.spool_path %s is free now, and in use by this process",
                 delivery->config->webhooks.spool_path);
}

/* Keeps the spool in step. Returns when to call it again. */
static uint64_t run_spool(struct delivery *delivery, uint64_t now_ms) {
    const struct spool_segment *crowded;
    uint64_t next_ms;

    open_spool_again(delivery, now_ms);
    if (delivery->spool == NULL)
        return delivery->open_spool_ms;
    find_next_app(delivery, now_ms);
    crowded = spool_crowded(delivery->spool);
    if (crowded != NULL)
        webhook_table_put_again(&delivery->table, crowded);
    next_ms = spool_flush(delivery->spool, now_ms);
    return next_ms < delivery->find_again_ms || delivery->table.draining ? next_ms : delivery->find_again_ms;
}

uint64_t delivery_run(struct delivery *delivery, uint64_t now_ms) {
    const struct heap_node *first;
    uint64_t next_ms;

    start_due_attempts(delivery, now_ms);
    run_spool(delivery, now_ms); /* before anything is sent */
    serve_waiting_attempts(delivery);
    if (finish_ended_attempts(delivery)) /* that may have freed lanes */
        start_due_attempts(delivery, now_ms);
    serve_waiting_attempts(delivery);
    next_ms = run_spool(delivery, now_ms);
    first = heap_first(&delivery->table.timers);
    return first != NULL && first->key < next_ms ? first->key : next_ms;
}

bool delivery_wait(struct delivery *delivery, int event_fd, uint64_t now_ms, uint64_t until_ms) {
    struct curl_waitfd mailbox = {.fd = event_fd, .events = CURL_WAIT_POLLIN};
    uint64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;

    curl_multi_poll(delivery->multi, &mailbox, 1, wait_ms < INT_MAX ? (int)wait_ms : INT_MAX, NULL);
    return mailbox.revents != 0;
}

void delivery_drain(struct delivery *delivery) {
    webhook_table_drain(&delivery->table, clock_monotonic_ms());
}

bool delivery_idle(const struct delivery *delivery) {
    return delivery->table.events == 0;
}

void delivery_each_webhook(struct delivery *delivery,
                           void (*each)(struct slice app_id, size_t index, const struct webhook_counters *counters,
                                        void *context),
                           void *context) {
    webhook_table_each(&delivery->table, each, context);
}
