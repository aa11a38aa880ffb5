#include "aws/credentials.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/secret_text.h"

static char *copy_credential_text(const char *text) {
    return text != NULL ? alloc_copy(text, strlen(text)) : NULL;
}

void aws_credentials_copy(struct aws_credentials *to, const struct aws_credentials *from) {
    *to = (struct aws_credentials){.access_key_id = copy_credential_text(from->access_key_id),
                                   .secret_access_key = copy_credential_text(from->secret_access_key),
                                   .session_token = copy_credential_text(from->session_token),
                                   .expires_ms = from->expires_ms,
                                   .source = from->source};
}

void aws_credentials_dispose(struct aws_credentials *credentials) {
    free(credentials->access_key_id);
    secret_free(credentials->secret_access_key);
    secret_free(credentials->session_token);
    *credentials = (struct aws_credentials){0};
}

/* `2026-01-31T12:00:00Z`, as milliseconds since 1970. */
static bool time_from_text(const char *text, uint64_t *ms) {
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    time_t seconds;

    if (rest == NULL || (*rest != 'Z' && *rest != '.'))
        return false;
    seconds = timegm(&parts);
    if (seconds <= 0)
        return false;
    *ms = (uint64_t)seconds * 1000;
    return true;
}

/* A key or token goes into a header: printable ASCII without blanks. */
static bool is_header_value(const char *text) {
    for (const char *c = text; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return *text != '\0';
}

static bool credentials_from_texts(const char *id, const char *secret, const char *token, const char *expires,
                                   struct aws_credentials *credentials, struct error *error) {
    *credentials = (struct aws_credentials){0};
    if (id == NULL || secret == NULL || !is_header_value(id) || !is_header_value(secret) ||
        (token != NULL && !is_header_value(token)))
        return error_set(error, "the answer holds no credentials");
    if (expires != NULL && !time_from_text(expires, &credentials->expires_ms))
        return error_set(error, "the answer has an expiry time of an unknown form");
    credentials->access_key_id = copy_credential_text(id);
    credentials->secret_access_key = copy_credential_text(secret);
    credentials->session_token = copy_credential_text(token);
    return true;
}

bool aws_credentials_from_json(struct slice json, struct aws_credentials *credentials, struct error *error) {
    json_t *answer = json_loadb(json.data, json.length, 0, NULL);
    const char *code = json_string_value(json_object_get(answer, "Code"));
    bool done;

    if (code != NULL && strcmp(code, "Success") != 0) /* only an instance sends a code */
        done = error_set(error, "the answer is %s", code);
    else
        done = credentials_from_texts(json_string_value(json_object_get(answer, "AccessKeyId")),
                                      json_string_value(json_object_get(answer, "SecretAccessKey")),
                                      json_string_value(json_object_get(answer, "Token")),
                                      json_string_value(json_object_get(answer, "Expiration")), credentials, error);
    json_decref(answer);
    return done;
}

/* The text of the first element of that name without attributes; NULL if there is none. The caller's to free. */
static char *element_text(struct slice xml, const char *name) {
    char tag[64];
    const char *start, *end;

    snprintf(tag, sizeof tag, "<%s>", name);
    start = memmem(xml.data, xml.length, tag, strlen(tag));
    if (start == NULL)
        return NULL;
    start += strlen(tag);
    snprintf(tag, sizeof tag, "</%s>", name);
    end = memmem(start, xml.length - (size_t)(start - xml.data), tag, strlen(tag));
    return end != NULL ? alloc_copy(start, (size_t)(end - start)) : NULL;
}

bool aws_credentials_from_sts(struct slice xml, struct aws_credentials *credentials, struct error *error) {
    char *id = element_text(xml, "AccessKeyId");
    char *secret = element_text(xml, "SecretAccessKey");
    char *token = element_text(xml, "SessionToken");
    char *expires = element_text(xml, "Expiration");
    bool done = credentials_from_texts(id, secret, token, expires, credentials, error);

    free(id);
    secret_free(secret);
    secret_free(token);
    free(expires);
    return done;
}
