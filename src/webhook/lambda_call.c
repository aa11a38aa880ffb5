#include "webhook/lambda_call.h"

#include <stdlib.h>
#include <string.h>

#include "aws/signature.h"
#include "base/clock.h"
#include "net/http_client.h"

#define DEFAULT_REGION "us-east-1"

static const char *set_variable(const char *name) {
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *lambda_endpoint(void) {
    const char *endpoint = set_variable("AWS_ENDPOINT_URL_LAMBDA");

    return endpoint != NULL ? endpoint : set_variable("AWS_ENDPOINT_URL");
}

bool lambda_endpoint_is_loopback(const char *endpoint) {
    bool loopback;

    return endpoint != NULL && http_url_valid(endpoint, &loopback) && loopback;
}

/* Writes the endpoint without a slash at its end. A region becomes a part of a host name: nothing else may be in it. */
static bool write_endpoint(const char *endpoint, const char *region, struct buffer *url, struct error *error) {
    size_t length = strlen(region);

    if (length > 63 || strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != length)
        return error_set(error, "\"%.63s\" is not a region: letters, digits and - only, us-east-1 for example", region);
    if (endpoint == NULL) {
        buffer_appendf(url, "https://lambda.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
        return true;
    }
    if (!http_url_valid(endpoint, NULL))
        return error_set(error, "AWS_ENDPOINT_URL_LAMBDA or AWS_ENDPOINT_URL is not a URL of http:// or https://");
    buffer_append_string(url, endpoint);
    while (url->length > 0 && url->data[url->length - 1] == '/')
        url->length--;
    return true;
}

static void add_lambda_header(struct lambda_call *call, const char *name, struct slice value) {
    struct buffer *line = &call->headers[call->header_count++];

    buffer_appendf(line, "%s: ", name);
    buffer_append(line, value);
}

static void sign_lambda_call(struct lambda_call *call, struct slice host,
                             const struct aws_signed_request *unsigned_part,
                             const struct aws_credentials *credentials) {
    struct aws_signed_request request = *unsigned_part;
    char date[AWS_DATE_TEXT];
    struct buffer authorization = {0};
    struct aws_signed_header headers[5] = {
        {"content-type", SLICE("application/json")},
        {"host", host},
        {"x-amz-date", {date, AWS_DATE_TEXT - 1}},
        {"x-amz-invocation-type", SLICE("Event")},
        {"x-amz-security-token", slice_of(credentials->session_token)},
    };

    aws_date_write((time_t)(clock_wall_ms() / 1000), date);
    request.headers = headers;
    request.header_count = credentials->session_token != NULL ? 5 : 4;
    aws_sign_request(&request, credentials, date, &authorization);
    for (size_t i = 0; i < request.header_count; i++)
        add_lambda_header(call, headers[i].name, headers[i].value);
    add_lambda_header(call, "authorization", buffer_slice(&authorization));
    buffer_dispose(&authorization);
}

bool lambda_call_make(struct lambda_call *call, const char *endpoint, const struct app_webhook *webhook,
                      struct slice body, const struct aws_credentials *credentials, struct error *error) {
    const char *region = webhook->lambda_region.length > 0 ? webhook->lambda_region.data : DEFAULT_REGION;
    struct aws_signed_request request = {.method = "POST", .body = body, .region = region, .service = "lambda"};
    size_t host, path;
    const char *slash;

    if (!write_endpoint(endpoint, region, &call->url, error))
        return false;
    host = (size_t)(strstr(buffer_string(&call->url), "//") + 2 - call->url.data);
    slash = strchr(call->url.data + host, '/');
    path = slash != NULL ? (size_t)(slash - call->url.data) : call->url.length;
    buffer_append_string(&call->url, "/2015-03-31/functions/");
    aws_escape(webhook->lambda_function, false, &call->url);
    buffer_append_string(&call->url, "/invocations");
    buffer_string(&call->url);
    request.path = slice_skip(buffer_slice(&call->url), path);
    sign_lambda_call(call, (struct slice){call->url.data + host, path - host}, &request, credentials);
    return true;
}

void lambda_call_dispose(struct lambda_call *call) {
    buffer_dispose(&call->url);
    for (size_t i = 0; i < call->header_count; i++)
        buffer_dispose(&call->headers[i]);
}
