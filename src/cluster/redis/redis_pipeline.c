#include "cluster/redis/redis_pipeline.h"

/* --- the end --- */

/* Tells all requests that no answer comes. They may not send new ones: the pipeline is closed. */
static void end_redis_requests(struct redis_pipeline *pipeline) {
    while (!list_empty(&pipeline->requests)) {
        struct redis_request *request = container_of(pipeline->requests.next, struct redis_request, link);
        list_remove(&request->link);
        request->answered(request, NULL);
    }
}

void redis_pipeline_close(struct redis_pipeline *pipeline) {
    redis_connection_destroy(pipeline->connection);
    pipeline->connection = NULL;
    pipeline->sent = pipeline->answered = 0;
    end_redis_requests(pipeline);
}

static void on_pipeline_lost(void *context, const char *why) {
    struct redis_pipeline *pipeline = context;
    struct error error;

    error_set(&error, "%s", why);
    redis_pipeline_close(pipeline);
    pipeline->events.lost(pipeline->events.context, error.text);
}

/* --- answers --- */

static void on_pipeline_value(void *context, struct redis_value *value) {
    struct redis_pipeline *pipeline = context;
    struct redis_request *first =
        list_empty(&pipeline->requests) ? NULL : container_of(pipeline->requests.next, struct redis_request, link);

    if (pipeline->answered == pipeline->sent) {
        redis_connection_fail(pipeline->connection, "it answered what nobody asked");
    } else if (pipeline->answered++, first != NULL && first->number == pipeline->answered) {
        list_remove(&first->link);
        first->answered(first, value);
    } else if (value->type != REDIS_INTEGER) {
        redis_connection_refused(pipeline->connection, "publish", value);
    }
    redis_value_free(value);
    if (pipeline->connection != NULL && redis_pipeline_is_idle(pipeline) && pipeline->events.idle != NULL)
        pipeline->events.idle(pipeline->events.context);
}

static void on_probe_answered(struct redis_request *request, const struct redis_value *value) {
    struct redis_pipeline *pipeline = container_of(request, struct redis_pipeline, probe);

    pipeline->probing = false;
    if (value != NULL)
        redis_connection_answered(pipeline->connection);
}

/* PING is what the answer is waited for; the owner's own commands go before it. */
static void on_pipeline_probe(void *context) {
    struct redis_pipeline *pipeline = context;
    static const struct slice ping = SLICE_INIT("PING");

    if (pipeline->events.probe != NULL)
        pipeline->events.probe(pipeline->events.context);
    if (pipeline->connection == NULL || pipeline->probing)
        return;
    pipeline->probing = true;
    pipeline->probe.answered = on_probe_answered;
    redis_pipeline_request(pipeline, &pipeline->probe, &ping, 1);
}

static void on_pipeline_up(void *context) {
    struct redis_pipeline *pipeline = context;

    pipeline->events.up(pipeline->events.context);
}

/* --- the owner's functions --- */

void redis_pipeline_init(struct redis_pipeline *pipeline, struct loop *loop,
                         const struct redis_pipeline_events *events) {
    *pipeline = (struct redis_pipeline){.loop = loop, .events = *events};
    list_init(&pipeline->requests);
}

void redis_pipeline_open(struct redis_pipeline *pipeline, const struct redis_place *place,
                         const struct redis_access *access, uint64_t timeout_ms) {
    const struct redis_connection_events events = {.up = on_pipeline_up,
                                                   .lost = on_pipeline_lost,
                                                   .value = on_pipeline_value,
                                                   .probe = on_pipeline_probe,
                                                   .context = pipeline};

    pipeline->connection = redis_connection_open(pipeline->loop, place, access, timeout_ms, &events);
}

bool redis_pipeline_is_up(const struct redis_pipeline *pipeline) {
    return pipeline->connection != NULL && redis_connection_is_up(pipeline->connection);
}

void redis_pipeline_publish(struct redis_pipeline *pipeline, struct slice command, struct slice subject,
                            struct bus_bytes *bytes) {
    struct redis_output *output = redis_connection_output(pipeline->connection);

    redis_output_command(output, 3);
    redis_output_word(output, command);
    redis_output_word(output, subject);
    redis_output_shared_word(output, bytes);
    pipeline->sent++;
}

void redis_pipeline_publish_request(struct redis_pipeline *pipeline, struct redis_request *request,
                                    struct slice command, struct slice subject, struct bus_bytes *bytes) {
    redis_pipeline_publish(pipeline, command, subject, bytes);
    request->number = pipeline->sent;
    list_append(&pipeline->requests, &request->link);
}

void redis_pipeline_request(struct redis_pipeline *pipeline, struct redis_request *request, const struct slice *words,
                            size_t count) {
    struct redis_output *output = redis_connection_output(pipeline->connection);

    redis_output_command(output, count);
    for (size_t i = 0; i < count; i++)
        redis_output_word(output, words[i]);
    request->number = ++pipeline->sent;
    list_append(&pipeline->requests, &request->link);
}

void redis_pipeline_flush(struct redis_pipeline *pipeline) {
    if (pipeline->connection != NULL)
        redis_connection_flush(pipeline->connection);
}

size_t redis_pipeline_waiting(const struct redis_pipeline *pipeline) {
    return pipeline->connection != NULL ? redis_connection_output(pipeline->connection)->waiting : 0;
}

bool redis_pipeline_is_idle(const struct redis_pipeline *pipeline) {
    return pipeline->answered == pipeline->sent;
}
