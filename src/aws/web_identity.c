#include "aws/web_identity.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/secret_text.h"
#include "net/http_client.h"

static void append_form_field(struct buffer *form, const char *name, const char *value) {
    char *escaped = curl_easy_escape(NULL, value, 0);

    if (escaped == NULL)
        abort(); /* out of memory */
    buffer_appendf(form, "&%s=", name);
    buffer_append_string(form, escaped);
    curl_free(escaped);
}

static void write_sts_url(const char *region, char *url, size_t size) {
    const char *given = environment_value("AWS_ENDPOINT_URL_STS");

    if (given != NULL)
        snprintf(url, size, "%s", given);
    else
        snprintf(url, size, "https://sts.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static bool ask_sts(const struct provider_request *request, struct slice form, struct aws_credentials *credentials,
                    struct error *error) {
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    char url[512];
    const struct http_call call = {.method = "POST", .url = url, .headers = headers, .body = form};
    struct buffer answer = {0};
    unsigned status;
    bool done = false;

    write_sts_url(request->settings->region, url, sizeof url);
    status = http_caller_call(request->caller, &call, request->deadline, &answer, error);
    if (status == 200) {
        done = aws_credentials_from_sts(buffer_slice(&answer), credentials, error);
    } else if (status != 0) {
        const char *code = strstr(answer.data, "<Code>");
        int length = code != NULL ? (int)strcspn(code + 6, "<") : 0;
        error_set(error, "HTTP status %u %.*s", status, length < 100 ? length : 100, code != NULL ? code + 6 : "");
    }
    secret_buffer_dispose(&answer);
    return done || error_prefix(error, "%s", url);
}

enum provider_answer web_identity_fetch(const struct provider_request *request, const char *token_file,
                                        const char *role, const char *session, struct aws_credentials *credentials,
                                        struct error *error) {
    struct buffer form = {0}, token = {0};
    bool done = false;

    if (token_file == NULL || role == NULL)
        return PROVIDER_NOT_SET_UP;
    if (secret_read_token(token_file, &token, error)) {
        buffer_append_string(&form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
        append_form_field(&form, "RoleArn", role);
        append_form_field(&form, "RoleSessionName", session != NULL ? session : "curlew");
        append_form_field(&form, "WebIdentityToken", token.data);
        done = ask_sts(request, buffer_slice(&form), credentials, error);
    }
    secret_buffer_dispose(&form);
    secret_buffer_dispose(&token);
    if (!done)
        error_prefix(error, "AWS web identity for %s", role);
    return done ? PROVIDER_FOUND : PROVIDER_FAILED;
}
