#include "aws/credential_endpoints.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/secret_text.h"
#include "net/http_client.h"

#define CONNECT_TIMEOUT_MS 1000 /* outside EC2 nothing answers at the address of the metadata service */
#define METADATA_TOKEN_TTL "X-aws-ec2-metadata-token-ttl-seconds: 21600"
#define METADATA_ROLES_PATH "/latest/meta-data/iam/security-credentials/"

/* --- the agent of a container --- */

/* Whether tokens and keys may travel there: over TLS, to this machine, or to an address of an agent. */
static bool container_url_safe(const char *url) {
    static const char *const agents[] = {"http://169.254.170.2/",  "http://169.254.170.2:",  "http://169.254.170.23/",
                                         "http://169.254.170.23:", "http://[fd00:ec2::23]/", "http://[fd00:ec2::23]:"};
    bool loopback;

    if (!http_url_valid(url, &loopback))
        return false;
    if (loopback || strncasecmp(url, "https://", 8) == 0)
        return true;
    for (size_t i = 0; i < sizeof agents / sizeof agents[0]; i++)
        if (strncmp(url, agents[i], strlen(agents[i])) == 0)
            return true;
    return false;
}

/* Makes the header with the agent's token; empty if there is no token. */
static bool make_container_authorization(struct buffer *header, struct error *error) {
    const char *file = environment_value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *given = environment_value("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    struct buffer token = {0};
    bool done = true;

    buffer_append_string(header, "Authorization: ");
    if (file != NULL && (done = secret_read_token(file, &token, error)))
        buffer_append(header, buffer_slice(&token));
    else if (file == NULL && given != NULL)
        buffer_append_string(header, given);
    else
        header->length = 0;
    secret_buffer_dispose(&token);
    return done;
}

static bool ask_container(const struct provider_request *request, const char *url, struct aws_credentials *credentials,
                          struct error *error) {
    struct buffer authorization = {0}, answer = {0};
    unsigned status;
    bool done = false;

    if (make_container_authorization(&authorization, error)) {
        const char *const headers[] = {authorization.length != 0 ? buffer_string(&authorization) : NULL, NULL};
        const struct http_call call = {
            .method = "GET", .url = url, .headers = headers, .connect_timeout_ms = CONNECT_TIMEOUT_MS, .direct = true};
        status = http_caller_call(request->caller, &call, request->deadline, &answer, error);
        if (status == 200)
            done = aws_credentials_from_json(buffer_slice(&answer), credentials, error);
        else if (status != 0)
            error_set(error, "HTTP status %u", status);
    }
    secret_buffer_dispose(&authorization);
    secret_buffer_dispose(&answer);
    return done || error_prefix(error, "AWS container credentials from %s", url);
}

enum provider_answer container_credentials_fetch(const struct provider_request *request,
                                                 struct aws_credentials *credentials, struct error *error) {
    const char *relative = environment_value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment_value("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    char url[512];

    if (relative == NULL && full == NULL)
        return PROVIDER_NOT_SET_UP;
    snprintf(url, sizeof url, "%s%s", relative != NULL ? "http://169.254.170.2" : "",
             relative != NULL ? relative : full);
    if (!container_url_safe(url)) {
        error_set(
            error,
            "AWS_CONTAINER_CREDENTIALS_%s_URI is neither https nor a loopback, ECS or EKS address: no credentials "
            "are fetched from there",
            relative != NULL ? "RELATIVE" : "FULL");
        return PROVIDER_FAILED;
    }
    return ask_container(request, url, credentials, error) ? PROVIDER_FOUND : PROVIDER_FAILED;
}

/* --- the role of an EC2 instance --- */

static bool ask_metadata(const struct provider_request *request, const char *method, const char *path,
                         const char *header, struct buffer *answer, struct error *error) {
    const char *given = environment_value("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *const headers[] = {header, NULL};
    char url[768];
    const struct http_call call = {
        .method = method, .url = url, .headers = headers, .connect_timeout_ms = CONNECT_TIMEOUT_MS, .direct = true};
    size_t length;
    unsigned status;

    given = given != NULL ? given : "http://169.254.169.254";
    length = strlen(given);
    snprintf(url, sizeof url, "%.*s%s", (int)(given[length - 1] == '/' ? length - 1 : length), given, path);
    status = http_caller_call(request->caller, &call, request->deadline, answer, error);
    if (status == 200)
        return true;
    if (status != 0)
        error_set(error, "HTTP status %u", status);
    return error_prefix(error, "EC2 instance metadata at %s", url);
}

/* Cuts a response after its first line; false unless that is printable ASCII without blanks. */
static bool keep_first_line(struct buffer *text) {
    size_t length = strcspn(text->data, "\r\n");

    text->data[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (text->data[i] <= ' ' || text->data[i] > '~')
            return false;
    return length != 0;
}

/* Asks for the name of the instance's role, and for its credentials. */
static bool ask_for_role(const struct provider_request *request, const char *header,
                         struct aws_credentials *credentials, struct error *error) {
    struct buffer role = {0}, path = {0}, answer = {0};
    bool done = false;

    if (ask_metadata(request, "GET", METADATA_ROLES_PATH, header, &role, error)) {
        if (!keep_first_line(&role)) {
            error_set(error, "the EC2 instance has no role");
        } else {
            buffer_appendf(&path, METADATA_ROLES_PATH "%s", role.data);
            if (ask_metadata(request, "GET", buffer_string(&path), header, &answer, error))
                done = aws_credentials_from_json(buffer_slice(&answer), credentials, error) ||
                       error_prefix(error, "EC2 instance metadata, role %s", role.data);
        }
    }
    secret_buffer_dispose(&role);
    secret_buffer_dispose(&path);
    secret_buffer_dispose(&answer);
    return done;
}

enum provider_answer instance_credentials_fetch(const struct provider_request *request,
                                                struct aws_credentials *credentials, struct error *error) {
    const char *disabled = environment_value("AWS_EC2_METADATA_DISABLED");
    enum provider_answer found = PROVIDER_NOT_SET_UP;
    struct buffer token = {0}, header = {0};

    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return PROVIDER_NOT_SET_UP;
    if (ask_metadata(request, "PUT", "/latest/api/token", METADATA_TOKEN_TTL, &token, error) &&
        keep_first_line(&token)) {
        buffer_appendf(&header, "X-aws-ec2-metadata-token: %s", token.data);
        found = ask_for_role(request, buffer_string(&header), credentials, error) ? PROVIDER_FOUND : PROVIDER_FAILED;
    }
    secret_buffer_dispose(&token);
    secret_buffer_dispose(&header);
    return found;
}
