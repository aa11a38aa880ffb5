#include "aws/credentials.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define RENEW_BEFORE_MS UINT64_C(300000)
#define RENEW_AGAIN_MS 10000 /* after a renewal that failed */
#define LOOK_MS 50           /* how often a thread that waits for another's renewal looks at its deadline */

struct aws_chain {
    struct aws_chain_settings settings;
    pthread_mutex_t mutex;
    pthread_cond_t renewed;
    struct aws_credentials current; /* without a key: none yet */
    bool renewing;                  /* by some thread */
    uint64_t retry_ms;              /* no renewal before that, on the monotonic clock */
};

static void forget(char *secret) {
    if (secret != NULL)
        OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

void aws_credentials_dispose(struct aws_credentials *credentials) {
    free(credentials->access_key_id);
    forget(credentials->secret_access_key);
    forget(credentials->session_token);
    *credentials = (struct aws_credentials){0};
}

static char *copy_text(const char *text) {
    return text != NULL ? alloc_copy(text, strlen(text)) : NULL;
}

static void copy_credentials(struct aws_credentials *to, const struct aws_credentials *from) {
    *to = (struct aws_credentials){.access_key_id = copy_text(from->access_key_id),
                                   .secret_access_key = copy_text(from->secret_access_key),
                                   .session_token = copy_text(from->session_token),
                                   .expires_ms = from->expires_ms,
                                   .source = from->source};
}

struct aws_chain *aws_chain_create(const struct aws_chain_settings *settings) {
    struct aws_chain *chain = alloc_zero(sizeof *chain);
    pthread_condattr_t attributes;

    chain->settings = *settings;
    pthread_mutex_init(&chain->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&chain->renewed, &attributes);
    pthread_condattr_destroy(&attributes);
    return chain;
}

void aws_chain_destroy(struct aws_chain *chain) {
    aws_credentials_dispose(&chain->current);
    pthread_cond_destroy(&chain->renewed);
    pthread_mutex_destroy(&chain->mutex);
    free(chain);
}

/* --- in force; all with the mutex held --- */

static bool valid_in(const struct aws_credentials *credentials, uint64_t ms) {
    return credentials->access_key_id != NULL &&
           (credentials->expires_ms == 0 || clock_wall_ms() + ms < credentials->expires_ms);
}

static bool is_due(const struct aws_chain *chain) {
    if (!valid_in(&chain->current, 0))
        return true;
    return !valid_in(&chain->current, RENEW_BEFORE_MS) && clock_monotonic_ms() >= chain->retry_ms;
}

/* Waits for the thread that renews; false if deadline ended first. */
static bool wait_for_renewal(struct aws_chain *chain, const struct deadline *deadline) {
    uint64_t until_ns = clock_monotonic_ns() + LOOK_MS * UINT64_C(1000000);
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};

    pthread_cond_timedwait(&chain->renewed, &chain->mutex, &until);
    return !deadline_passed(deadline);
}

/* Credentials that still work are not to cost the request that came upon their end all of its time. */
static struct deadline renewal_deadline(const struct aws_chain *chain, const struct deadline *deadline) {
    if (!valid_in(&chain->current, 0))
        return *deadline;
    return deadline_after(deadline_remaining_ms(deadline) / 2, deadline->cancel_fd);
}

static void renew(struct aws_chain *chain, const struct deadline *deadline, struct error *error) {
    const struct deadline enough = renewal_deadline(chain, deadline);
    struct aws_credentials fetched = {0};
    bool done;

    chain->renewing = true;
    pthread_mutex_unlock(&chain->mutex);
    done = aws_credentials_fetch(&chain->settings, &enough, &fetched, error);
    pthread_mutex_lock(&chain->mutex);
    chain->renewing = false;
    if (done) {
        aws_credentials_dispose(&chain->current);
        chain->current = fetched;
        chain->retry_ms = clock_monotonic_ms() + RENEW_AGAIN_MS;
    } else if (valid_in(&chain->current, 0)) {
        chain->retry_ms = clock_monotonic_ms() + RENEW_AGAIN_MS;
        log_warning("app", "AWS credentials that expire soon could not be renewed: %s", error->text);
    }
    pthread_cond_broadcast(&chain->renewed);
}

bool aws_chain_get(struct aws_chain *chain, const struct deadline *deadline, struct aws_credentials *credentials,
                   struct error *error) {
    bool have;

    *credentials = (struct aws_credentials){0};
    pthread_mutex_lock(&chain->mutex);
    error_set(error, "AWS credentials: no answer in time");
    while (!valid_in(&chain->current, 0) && chain->renewing)
        if (!wait_for_renewal(chain, deadline))
            break;
    if (!chain->renewing && is_due(chain))
        renew(chain, deadline, error);
    have = valid_in(&chain->current, 0);
    if (have)
        copy_credentials(credentials, &chain->current);
    pthread_mutex_unlock(&chain->mutex);
    return have;
}

void aws_chain_reject(struct aws_chain *chain, const struct aws_credentials *credentials) {
    pthread_mutex_lock(&chain->mutex);
    if (chain->current.access_key_id != NULL && strcmp(chain->current.access_key_id, credentials->access_key_id) == 0 &&
        strcmp(chain->current.secret_access_key, credentials->secret_access_key) == 0)
        aws_credentials_dispose(&chain->current);
    pthread_mutex_unlock(&chain->mutex);
}

/* --- what the places answer --- */

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

/* A key or token goes into a header: no blank or control character. */
static bool is_plain(const char *text) {
    for (const char *c = text; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return *text != '\0';
}

static bool take_credentials(const char *id, const char *secret, const char *token, const char *expires,
                             struct aws_credentials *credentials, struct error *error) {
    *credentials = (struct aws_credentials){0};
    if (id == NULL || secret == NULL || !is_plain(id) || !is_plain(secret) || (token != NULL && !is_plain(token)))
        return error_set(error, "the answer holds no credentials");
    if (expires != NULL && !time_from_text(expires, &credentials->expires_ms))
        return error_set(error, "the answer says in no known form when the credentials expire");
    credentials->access_key_id = copy_text(id);
    credentials->secret_access_key = copy_text(secret);
    credentials->session_token = copy_text(token);
    return true;
}

bool aws_credentials_from_json(struct slice json, struct aws_credentials *credentials, struct error *error) {
    json_t *answer = json_loadb(json.data, json.length, 0, NULL);
    const char *code = json_string_value(json_object_get(answer, "Code"));
    bool done;

    if (code != NULL && strcmp(code, "Success") != 0) /* of the instance's role */
        done = error_set(error, "the answer is %s", code);
    else
        done = take_credentials(json_string_value(json_object_get(answer, "AccessKeyId")),
                                json_string_value(json_object_get(answer, "SecretAccessKey")),
                                json_string_value(json_object_get(answer, "Token")),
                                json_string_value(json_object_get(answer, "Expiration")), credentials, error);
    json_decref(answer);
    return done;
}

/* The text of the first element of that name, which has no attributes; NULL if there is none. */
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
    bool done = take_credentials(id, secret, token, expires, credentials, error);

    free(id);
    forget(secret);
    forget(token);
    free(expires);
    return done;
}
