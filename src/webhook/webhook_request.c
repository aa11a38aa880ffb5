#include "webhook/webhook_request.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "config/config.h"
#include "net/http_client.h"
#include "webhook/lambda_call.h"

#define IDLE_MAX 64

/* Services that tell a machine, and whoever can make it send a request, its credentials. */
static const char *const metadata_networks[] = {"169.254.0.0/16", "fe80::/10", "fd00:ec2::254"};

#define METADATA_NETWORKS (sizeof metadata_networks / sizeof metadata_networks[0])

void webhook_sender_init(struct webhook_sender *sender, const struct config *config) {
    const struct config_list *denied = &config->webhooks.denied_networks;

    *sender = (struct webhook_sender){.timeout_ms = config->webhooks.request_timeout_ms,
                                      .lambda_endpoint = lambda_endpoint()};
    sender->denied = alloc_array(NULL, METADATA_NETWORKS + denied->count, sizeof *sender->denied);
    sender->idle = alloc_array(NULL, IDLE_MAX, sizeof(CURL *));
    for (size_t i = 0; i < METADATA_NETWORKS; i++)
        if (network_parse(metadata_networks[i], &sender->denied[sender->denied_count]))
            sender->denied_count++;
    for (size_t i = 0; i < denied->count; i++)
        if (network_parse(denied->items[i], &sender->denied[sender->denied_count]))
            sender->denied_count++;
    http_client_init();
}

void webhook_sender_dispose(struct webhook_sender *sender) {
    while (sender->idle_count > 0)
        curl_easy_cleanup(sender->idle[--sender->idle_count]);
    free(sender->idle);
    free(sender->denied);
}

/* --- callbacks of libcurl --- */

static curl_socket_t open_allowed_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    struct webhook_request *request = context;

    (void)purpose;
    for (size_t i = 0; i < request->sender->denied_count; i++) {
        if (network_contains(&request->sender->denied[i], &address->addr)) {
            network_write_address(&address->addr, request->refused);
            return CURL_SOCKET_BAD;
        }
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Counts what was read; 0 at the bound, which ends the transfer. */
static size_t count_answer(struct webhook_request *request, size_t length) {
    request->answer_bytes += length;
    request->too_long = request->answer_bytes > WEBHOOK_ANSWER_MAX_BYTES;
    return request->too_long ? 0 : length;
}

static size_t receive_answer_head(char *data, size_t size, size_t count, void *context) {
    (void)data;
    return count_answer(context, size * count);
}

static size_t receive_answer_body(char *data, size_t size, size_t count, void *context) {
    struct webhook_request *request = context;

    if (request->kept != NULL)
        buffer_append_bytes(request->kept, data, size * count);
    return count_answer(request, size * count);
}

/* --- the request --- */

static void add_line(struct webhook_request *request, const char *line) {
    struct curl_slist *longer = curl_slist_append(request->headers, line);

    if (longer == NULL)
        abort(); /* out of memory */
    request->headers = longer;
}

static void add_webhook_header(struct webhook_request *request, struct slice name, struct slice value) {
    struct buffer line = {0};

    buffer_append(&line, name);
    /* libcurl removes a header that ends with a colon, and sends one without a value for a semicolon. */
    buffer_append_string(&line, value.length > 0 ? ": " : ";");
    buffer_append(&line, value);
    add_line(request, buffer_string(&line));
    buffer_dispose(&line);
}

static void address_url(struct webhook_request *request, const struct webhook_call *call) {
    const struct app_webhook *webhook = call->webhook;
    bool expects = false;

    curl_easy_setopt(request->easy, CURLOPT_URL, webhook->url.data); /* ends with a zero byte */
    curl_easy_setopt(request->easy, CURLOPT_OPENSOCKETFUNCTION, open_allowed_socket);
    curl_easy_setopt(request->easy, CURLOPT_OPENSOCKETDATA, request);
    add_webhook_header(request, SLICE("Content-Type"), SLICE("application/json"));
    add_webhook_header(request, SLICE("X-Pusher-Key"), slice_of(call->key));
    add_webhook_header(request, SLICE("X-Pusher-Signature"), slice_of(call->signature));
    for (size_t i = 0; i < webhook->header_count; i++) {
        add_webhook_header(request, webhook->headers[i].name, webhook->headers[i].value);
        expects |= slice_equal_ignoring_case(webhook->headers[i].name, SLICE("Expect"));
    }
    if (!expects)
        add_line(request, "Expect:"); /* libcurl would wait a second for "100 Continue" before a long body */
}

/* Denied networks do not count: the record of an app does not decide the host. */
static bool address_lambda(struct webhook_request *request, const struct webhook_call *call, struct error *error) {
    struct lambda_call lambda = {0};
    bool good = lambda_call_make(&lambda, request->sender->lambda_endpoint, call->webhook, call->body,
                                 call->credentials, error);

    if (good)
        curl_easy_setopt(request->easy, CURLOPT_URL, lambda.url.data);
    curl_easy_setopt(request->easy, CURLOPT_PATH_AS_IS, 1L);
    if (request->sender->lambda_endpoint != NULL)
        /* A kept connection would let URLs reach this host, whose address was not checked. */
        curl_easy_setopt(request->easy, CURLOPT_FORBID_REUSE, 1L);
    for (size_t i = 0; i < lambda.header_count; i++)
        add_line(request, buffer_string(&lambda.headers[i]));
    add_line(request, "Expect:");
    lambda_call_dispose(&lambda);
    return good;
}

static CURL *take_idle_handle(struct webhook_sender *sender) {
    CURL *easy = sender->idle_count > 0 ? sender->idle[--sender->idle_count] : curl_easy_init();

    if (easy == NULL)
        abort(); /* out of memory */
    return easy;
}

static void set_request_options(struct webhook_request *request, const struct webhook_call *call) {
    CURL *easy = request->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not join a resolver thread that hangs */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "curlew");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->why);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_answer_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive_answer_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->sender->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)request->sender->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.length);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.data);
}

struct webhook_request *webhook_request_create(struct webhook_sender *sender, const struct webhook_call *call,
                                               struct error *error) {
    struct webhook_request *request = alloc_zero(sizeof *request);
    bool good = true;

    request->sender = sender;
    request->easy = take_idle_handle(sender);
    set_request_options(request, call);
    if (call->webhook->url.data != NULL)
        address_url(request, call);
    else
        good = address_lambda(request, call, error);
    curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
    if (good)
        return request;
    webhook_request_destroy(request);
    return NULL;
}

void webhook_request_destroy(struct webhook_request *request) {
    struct webhook_sender *sender = request->sender;

    curl_slist_free_all(request->headers);
    if (sender->idle_count < IDLE_MAX) {
        curl_easy_reset(request->easy);
        sender->idle[sender->idle_count++] = request->easy;
    } else {
        curl_easy_cleanup(request->easy);
    }
    free(request);
}

static bool set_transfer_error(const struct webhook_request *request, CURLcode code, struct error *error) {
    if (request->refused[0] != '\0' && code == CURLE_COULDNT_CONNECT)
        return error_set(error,
                         "the address %s is not called: it belongs to a metadata service or to "
                         "webhooks.denied_networks",
                         request->refused);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_set(error, "no answer within %u ms", request->sender->timeout_ms);
    return error_set(error, "%s", request->why[0] != '\0' ? request->why : curl_easy_strerror(code));
}

enum webhook_outcome webhook_request_outcome(struct webhook_request *request, CURLcode code, unsigned *status,
                                             struct error *error) {
    long answered = 0;

    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &answered);
    *status = (unsigned)answered;
    if (code != CURLE_OK && !(request->too_long && code == CURLE_WRITE_ERROR && answered >= 200)) {
        set_transfer_error(request, code, error);
        return WEBHOOK_FAILED;
    }
    if (answered >= 200 && answered < 300)
        return WEBHOOK_DELIVERED;
    error_set(error, "the answer has the status %ld%s", answered,
              answered >= 300 && answered < 400 ? "; redirects are not followed" : "");
    return answered == 410 ? WEBHOOK_GONE : WEBHOOK_FAILED;
}
