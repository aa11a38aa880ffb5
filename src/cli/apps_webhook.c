/*
 * `curlew apps test-webhook`: sends a webhook of an app one event, in place, and prints what came back.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "app/webhook_event.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/near_miss.h"
#include "base/utf8.h"
#include "cli/apps_commands.h"
#include "cli/print.h"
#include "webhook/event_json.h"
#include "webhook/lambda_call.h"
#include "webhook/lambda_credentials.h"
#include "webhook/webhook_request.h"

/* So much of the answer's body is printed. */
#define SHOWN_BYTES 1000

struct webhook_test {
    const struct cli_options *options;
    struct cli_store store;
    struct webhook_sender sender;
    struct app *app;
    unsigned only_event; /* of --event; 0: any */
    json_t *results;     /* for --json */
    size_t tested, failed;
};

/* What came back. */
struct webhook_result {
    enum app_webhook_event event;
    enum webhook_outcome outcome;
    unsigned status; /* 0: no answer */
    uint64_t time_ms;
    struct buffer body;
    struct error error;
};

/* --- the event --- */

static bool parse_event_option(const char *name, unsigned *event, struct error *error) {
    struct near_miss miss = near_miss_of(slice_of(name));

    for (unsigned bit = WEBHOOK_CHANNEL_OCCUPIED; bit <= WEBHOOK_SUBSCRIPTION_COUNT; bit <<= 1) {
        if (strcmp(app_webhook_event_name(bit), name) == 0) {
            *event = bit;
            return true;
        }
        near_miss_offer(&miss, slice_of(app_webhook_event_name(bit)));
    }
    if (miss.best.length != 0)
        return error_set(error, "there is no webhook event %s; did you mean %.*s?", name, SLICE_ARGS(miss.best));
    return error_set(error, "there is no webhook event %s; docs/webhooks.md lists them", name);
}

/* The first event that the webhook takes; 0: none, or not the one of --event. */
static enum app_webhook_event choose_event(const struct webhook_test *test, const struct app_webhook *webhook) {
    unsigned events = test->only_event != 0 ? webhook->event_types & test->only_event : webhook->event_types;

    return (enum app_webhook_event)(events & -events);
}

/* Writes the body of a request with an event as the server would send it. */
static void write_test_body(enum app_webhook_event kind, struct buffer *body) {
    struct webhook_event *event = alloc_zero(sizeof *event);

    event->kind = kind;
    event->count = 1;
    event->details.channel = SLICE("presence-test-webhook");
    if (kind == WEBHOOK_CACHE_MISS)
        event->details.channel = SLICE("cache-test-webhook");
    if (kind == WEBHOOK_MEMBER_ADDED || kind == WEBHOOK_MEMBER_REMOVED || kind == WEBHOOK_CLIENT_EVENT)
        event->details.user_id = SLICE("\"test-user\"");
    if (kind == WEBHOOK_CLIENT_EVENT) {
        event->details.event = SLICE("\"client-test-webhook\"");
        event->details.data = SLICE("{\"test\":true}");
        event->details.socket_id = SLICE("1.1");
    }
    buffer_appendf(body, "{\"time_ms\":%llu,\"events\":[", (unsigned long long)clock_wall_ms());
    webhook_event_append(body, event);
    buffer_append_string(body, "]}");
    free(event);
}

/* --- the request --- */

static void call_webhook(struct webhook_test *test, const struct webhook_call *call, struct webhook_result *result) {
    struct webhook_request *request = webhook_request_create(&test->sender, call, &result->error);
    uint64_t before_ms = clock_monotonic_ms();

    result->outcome = WEBHOOK_FAILED;
    if (request == NULL)
        return;
    request->kept = &result->body;
    result->outcome =
        webhook_request_outcome(request, curl_easy_perform(request->easy), &result->status, &result->error);
    result->time_ms = clock_monotonic_ms() - before_ms;
    webhook_request_destroy(request);
}

static void test_with_body(struct webhook_test *test, const struct app_webhook *webhook, struct slice body,
                           struct webhook_result *result) {
    char signature[HMAC_SHA256_HEX + 1] = "";
    struct aws_credentials credentials = {0};
    const struct webhook_call call = {
        .webhook = webhook,
        .body = body,
        .key = test->app->key.data,
        .signature = signature,
        .credentials = &credentials,
    };

    hmac_sha256_hex(&test->app->hmac, &body, 1, signature);
    if (webhook->url.data != NULL ||
        lambda_credentials_fetch(&test->store.config, lambda_endpoint_is_loopback(test->sender.lambda_endpoint),
                                 &credentials, &result->error))
        call_webhook(test, &call, result);
    else
        result->outcome = WEBHOOK_FAILED;
    aws_credentials_dispose(&credentials);
}

/* --- the result --- */

/* The target, without the user and the password of a URL, and without a query, which may hold a token. */
static void write_target(const struct app_webhook *webhook, struct buffer *text) {
    CURLU *url = curl_url();
    char *shown = NULL;

    if (webhook->url.data == NULL) {
        buffer_append_string(text, "Lambda function ");
        buffer_append(text, webhook->lambda_function);
    } else if (url != NULL && curl_url_set(url, CURLUPART_URL, webhook->url.data, 0) == CURLUE_OK &&
               curl_url_set(url, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
               curl_url_set(url, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
               curl_url_set(url, CURLUPART_QUERY, NULL, 0) == CURLUE_OK &&
               curl_url_get(url, CURLUPART_URL, &shown, 0) == CURLUE_OK) {
        buffer_append_string(text, shown);
    } else {
        buffer_append_string(text, "its url");
    }
    curl_free(shown);
    curl_url_cleanup(url);
}

/* The beginning of the answer's body, cut between characters; empty if it is not text. */
static struct slice shown_body(const struct webhook_result *result) {
    struct slice body = buffer_slice(&result->body);

    if (body.length > SHOWN_BYTES) {
        body.length = SHOWN_BYTES;
        while (body.length > 0 && ((unsigned char)body.data[body.length] & 0xc0) == 0x80)
            body.length--;
    }
    return utf8_valid(body) ? body : SLICE("");
}

static void add_json_result(struct webhook_test *test, size_t index, struct slice target,
                            const struct webhook_result *result) {
    struct slice body = shown_body(result);
    json_t *object = json_pack("{s:I, s:s%, s:s, s:b, s:I}", "webhook", (json_int_t)index, "target", target.data,
                               target.length, "event", app_webhook_event_name(result->event), "delivered",
                               result->outcome == WEBHOOK_DELIVERED, "time_ms", (json_int_t)result->time_ms);

    if (result->status != 0)
        json_object_set_new(object, "status", json_integer(result->status));
    if (result->outcome != WEBHOOK_DELIVERED)
        json_object_set_new(object, "error", json_string(result->error.text));
    if (body.length > 0)
        json_object_set_new(object, "body", json_stringn(body.data, body.length));
    json_array_append_new(test->results, object);
}

static void print_webhook_result(size_t index, struct slice target, const struct webhook_result *result) {
    struct slice body = shown_body(result);

    printf("webhooks[%zu] ", index);
    print_text(stdout, target);
    printf(": %s: ", app_webhook_event_name(result->event));
    if (result->status != 0)
        printf("status %u in %llu ms\n", result->status, (unsigned long long)result->time_ms);
    else
        printf("no answer\n");
    if (body.length > 0) {
        fputs("  ", stdout);
        print_text(stdout, body);
        putchar('\n');
    } else if (result->body.length > 0) {
        printf("  (%zu bytes that are not text)\n", result->body.length);
    }
}

static void report_result(struct webhook_test *test, size_t index, const struct app_webhook *webhook,
                          const struct webhook_result *result) {
    struct buffer target = {0};

    write_target(webhook, &target);
    if (test->options->json)
        add_json_result(test, index, buffer_slice(&target), result);
    else
        print_webhook_result(index, buffer_slice(&target), result);
    if (result->outcome != WEBHOOK_DELIVERED) {
        struct error error;

        test->failed++;
        error_set(&error, "webhooks[%zu] did not accept the event: %s", index, result->error.text);
        fflush(stdout);
        print_failure(test->options->json, error.text);
    }
    buffer_dispose(&target);
}

/* --- the command --- */

static void test_webhook(struct webhook_test *test, size_t index) {
    const struct app_webhook *webhook = &test->app->webhooks[index];
    struct webhook_result result = {.event = choose_event(test, webhook)};
    struct buffer body = {0};

    if (result.event == 0)
        return;
    test->tested++;
    write_test_body(result.event, &body);
    test_with_body(test, webhook, buffer_slice(&body), &result);
    report_result(test, index, webhook, &result);
    buffer_dispose(&body);
    buffer_dispose(&result.body);
}

/* Tests the webhooks that the options choose; false with an error if there are none. */
static bool test_chosen_webhooks(struct webhook_test *test, struct error *error) {
    const struct cli_options *options = test->options;
    size_t count = test->app->webhook_count;
    unsigned long long only = 0;

    if (count == 0)
        return error_set(error, "app \"%s\" has no webhooks", test->app->id.data);
    if (options->webhook != NULL && !slice_to_number(slice_of(options->webhook), count - 1, &only))
        return error_set(error, "--webhook %s: app \"%s\" has the webhooks 0 to %zu", options->webhook,
                         test->app->id.data, count - 1);
    for (size_t i = 0; i < count; i++)
        if (options->webhook == NULL || i == only)
            test_webhook(test, i);
    if (test->tested > 0)
        return true;
    if (options->event == NULL)
        return error_set(error, "the event_types of the webhook name no event that this server sends");
    return error_set(error, "no webhook that was chosen has %s in its event_types", options->event);
}

static enum cli_exit test_webhooks_of_app(struct webhook_test *test, struct error *error) {
    const char *id = test->options->arguments[0];
    enum store_answer answer = cli_store_find_by_id(&test->store, slice_of(id), &test->app, error);

    if (answer != STORE_OK) {
        if (answer == STORE_NOT_FOUND)
            error_set(error, "there is no app with the id %s", id);
        return CLI_NOT_DONE;
    }
    if (!config_webhooks_enabled(&test->store.config))
        print_warning(test->options->json, "queue.driver is none: a server with this configuration sends no webhooks");
    test->results = json_array();
    webhook_sender_init(&test->sender, &test->store.config);
    if (!test_chosen_webhooks(test, error))
        return CLI_NOT_DONE;
    if (test->options->json)
        print_json(stdout, json_pack("{s:O}", "webhooks", test->results));
    return test->failed == 0 ? CLI_DONE : CLI_NOT_DONE;
}

enum cli_exit apps_test_webhook(const struct cli_options *options) {
    struct webhook_test test = {.options = options};
    struct error error = {0};
    enum cli_exit code;

    if (options->event != NULL && !parse_event_option(options->event, &test.only_event, &error)) {
        print_failure(options->json, error.text);
        return CLI_MISUSED;
    }
    code = cli_store_open(&test.store, options->config_file, CLI_READS, &error);
    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    code = test_webhooks_of_app(&test, &error);
    if (code != CLI_DONE && test.failed == 0)
        print_failure(options->json, error.text);
    if (test.results != NULL)
        webhook_sender_dispose(&test.sender);
    json_decref(test.results);
    app_unref(test.app);
    cli_store_close(&test.store);
    return code;
}
