#include "api/api_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/cors.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "net/chunk.h"
#include "net/client_address.h"

/* Of a path, in the log. */
#define LOGGED_PATH_MAX 500

/* --- the call --- */

struct api_call *api_call_create(struct http_connection *connection, struct http_request *request) {
    struct api_call *call = alloc_zero(sizeof *call);

    call->api = http_connection_handler(connection)->context;
    call->worker = http_worker(connection);
    call->connection = connection;
    call->request = request;
    return call;
}

void api_call_release(struct api_call *call) {
    if (call->on_abort != NULL)
        return;
    if (call->on_release != NULL)
        call->on_release(call);
    if (call->repeated != NULL)
        frame_unref(call->repeated);
    if (call->listed != NULL)
        frame_unref(call->listed);
    buffer_dispose(&call->decoded);
    buffer_dispose(&call->answers);
    free(call);
}

void api_call_wait(struct api_call *call, void *waits_for, void (*on_abort)(struct api_call *call)) {
    call->waits_for = waits_for;
    call->on_abort = on_abort;
    http_set_pending(call->connection, call);
}

void api_call_resume(struct api_call *call) {
    call->waits_for = NULL;
    call->on_abort = NULL;
    http_set_pending(call->connection, NULL);
}

void api_call_abort(struct api_call *call) {
    call->on_abort(call);
    call->on_abort = NULL;
    api_call_release(call);
}

/* --- jobs on the store --- */

static void on_job_done(struct app_job *job) {
    struct api_job *done = container_of(job, struct api_job, job);
    struct api_call *call = done->call;

    api_call_resume(call);
    done->ended(call, done);
    api_call_release(call);
}

static void forget_job(struct api_call *call) {
    ((struct api_job *)call->waits_for)->job.done = NULL;
}

void api_submit(struct api_call *call, struct api_job *job, uint32_t timeout_ms) {
    job->call = call;
    job->job.done = on_job_done;
    api_call_wait(call, job, forget_job);
    app_manager_submit(call->api->apps, call->worker, &job->job, timeout_ms);
}

/* --- answers --- */

/* The app's part whose counters this call adds to; NULL for health checks and unknown apps. */
static struct app_part *part_of(struct api_call *call) {
    if (call->route == NULL || call->route->needs < ROUTE_SIGNED || call->lookup.slot == NULL)
        return NULL;
    return slot_part(call->lookup.slot, call->worker);
}

/* Appends the CORS headers to those of the answer, if it has others. */
static struct slice all_headers(const struct api_call *call, struct slice headers, struct buffer *storage) {
    struct slice cors;

    if (!call->cross_origin)
        return headers;
    cors = cors_headers(call->api->config, call->request, storage);
    if (headers.length == 0)
        return cors;
    if (cors.length != 0 && storage->length == 0)
        buffer_append(storage, cors);
    buffer_append(storage, headers);
    return buffer_slice(storage);
}

/* Logs the request without its query, which holds the signature. `refusal` may be NULL. */
static void log_request(struct api_call *call, unsigned status, const char *refusal) {
    uint32_t hops = call->api->config->rate_limiter.api_rate_limit.trust_hops;
    struct slice path = call->request->path;
    char address[CLIENT_ADDRESS_TEXT];

    if (!log_enabled(LOG_DEBUG))
        return;
    if (path.length > LOGGED_PATH_MAX)
        path.length = LOGGED_PATH_MAX;
    client_address_write(call->connection, call->request, hops, address);
    log_debug("api", "%s: %.*s %.*s%s%s: %u%s%s", address, SLICE_ARGS(call->request->method), SLICE_ARGS(path),
              call->lookup.slot != NULL ? " of app " : "", call->lookup.slot != NULL ? call->lookup.slot->id : "",
              status, refusal != NULL ? ": " : "", refusal != NULL ? refusal : "");
}

/* Logs the addresses of clients that are refused: a wrong signature, or too many requests. */
static void log_refused_client(struct api_call *call, unsigned status) {
    bool unsigned_call = status == 401 && call->route != NULL && call->route->needs >= ROUTE_SIGNED;
    uint32_t hops = call->api->config->rate_limiter.api_rate_limit.trust_hops;
    char address[CLIENT_ADDRESS_TEXT];

    if (call->api->refused == NULL || call->refusal == NULL || (!unsigned_call && status != 429))
        return;
    address_log_refused(call->api->refused, client_address_write(call->connection, call->request, hops, address),
                        call->worker->now_ms, "a request%s%s was refused with %u: %s",
                        call->lookup.slot != NULL ? " to app " : "",
                        call->lookup.slot != NULL ? call->lookup.slot->id : "", status, call->refusal);
}

static void send_response(struct api_call *call, struct http_response *response) {
    struct app_part *part = part_of(call);
    struct buffer storage = {0};
    size_t received = call->request->received_bytes;
    size_t sent;

    log_request(call, response->status, call->refusal);
    log_refused_client(call, response->status);
    response->headers = all_headers(call, response->headers, &storage);
    response->app = part != NULL ? call->lookup.slot->budget : NULL;
    sent = http_respond(call->connection, response);
    buffer_dispose(&storage);
    if (part != NULL) {
        counter_add(&part->counters.http_calls, 1);
        counter_add(&part->counters.http_bytes_received, received);
        counter_add(&part->counters.http_bytes_sent, sent);
    }
}

void api_answer_with(struct api_call *call, unsigned status, struct slice type, struct slice headers,
                     struct slice body) {
    send_response(call,
                  &(struct http_response){.status = status, .content_type = type, .headers = headers, .body = body});
}

void api_answer_frame(struct api_call *call, struct slice type, struct frame *frame) {
    send_response(call, &(struct http_response){.status = 200, .content_type = type, .body_frame = frame});
}

void api_answer(struct api_call *call, struct slice body) {
    api_answer_with(call, 200, SLICE(""), SLICE(""), body);
}

void api_refuse_with(struct api_call *call, unsigned status, enum refusal reason, struct slice headers,
                     const char *text) {
    struct app_part *part = part_of(call);
    struct buffer body = {0};

    if (part != NULL)
        counter_add(&part->counters.refusals[reason], 1);
    if (call->read_rate.limit != 0)
        token_bucket_return(&call->lookup.slot->rates[RATE_READS], call->read_rate, 1);
    call->read_rate.limit = 0;
    call->refusal = text;
    buffer_append(&body, SLICE("{\"error\":"));
    json_append_string(&body, slice_of(text));
    buffer_append_byte(&body, '}');
    api_answer_with(call, status, SLICE(""), headers, buffer_slice(&body));
    call->refusal = NULL;
    buffer_dispose(&body);
}

void api_refuse(struct api_call *call, unsigned status, enum refusal reason, const char *format, ...) {
    struct error error;
    va_list arguments;

    va_start(arguments, format);
    error_set_list(&error, format, arguments);
    va_end(arguments);
    api_refuse_with(call, status, reason, SLICE(""), error.text);
}
