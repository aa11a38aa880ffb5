#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/crypto.h"
#include "store/dynamodb/dynamodb_internal.h"

#define BACKOFF_FIRST_MS 50 /* doubling; each pause is drawn at random between 0 and this */
#define BACKOFF_LAST_MS 2000

/* What to do after a response. */
enum verdict { VERDICT_FINAL, VERDICT_RETRY, VERDICT_OTHER_CREDENTIALS };

struct outcome {
    enum verdict verdict;
    enum dynamodb_answer answer;
};

static const struct exception {
    const char *name;
    struct outcome outcome;
} exceptions[] = {
    {"ConditionalCheckFailedException", {VERDICT_FINAL, DYNAMODB_CONDITION_FAILED}},
    {"ResourceNotFoundException", {VERDICT_FINAL, DYNAMODB_MISSING}},
    {"ResourceInUseException", {VERDICT_FINAL, DYNAMODB_IN_USE}},
    {"TableAlreadyExistsException", {VERDICT_FINAL, DYNAMODB_IN_USE}},
    {"AccessDeniedException", {VERDICT_FINAL, DYNAMODB_DENIED}},
    {"ValidationException", {VERDICT_FINAL, DYNAMODB_REFUSED}},
    {"ItemCollectionSizeLimitExceededException", {VERDICT_FINAL, DYNAMODB_REFUSED}},
    {"ProvisionedThroughputExceededException", {VERDICT_RETRY, DYNAMODB_UNAVAILABLE}},
    {"ThrottlingException", {VERDICT_RETRY, DYNAMODB_UNAVAILABLE}},
    {"RequestLimitExceeded", {VERDICT_RETRY, DYNAMODB_UNAVAILABLE}},
    {"LimitExceededException", {VERDICT_RETRY, DYNAMODB_UNAVAILABLE}},
    {"InternalServerError", {VERDICT_RETRY, DYNAMODB_UNAVAILABLE}},
    {"ExpiredTokenException", {VERDICT_OTHER_CREDENTIALS, DYNAMODB_UNAVAILABLE}},
    {"UnrecognizedClientException", {VERDICT_OTHER_CREDENTIALS, DYNAMODB_UNAVAILABLE}},
    {"InvalidSignatureException", {VERDICT_OTHER_CREDENTIALS, DYNAMODB_UNAVAILABLE}},
};

json_t *dynamodb_new_request(const struct dynamodb_connection *connection) {
    return json_pack("{s:s}", "TableName", connection->store->table);
}

/* The name of the exception in a response: the part after the `#` if there is one. NULL: there is no exception. */
static const char *exception_of(const json_t *body) {
    const char *type = json_string_value(json_object_get(body, "__type")), *hash;

    if (type == NULL)
        return NULL;
    hash = strrchr(type, '#');
    return hash != NULL ? hash + 1 : type;
}

static void describe_exception(const struct dynamodb_connection *connection, const char *operation, unsigned status,
                               const json_t *body, struct error *error) {
    const char *name = exception_of(body), *message = json_string_value(json_object_get(body, "message"));

    if (message == NULL)
        message = json_string_value(json_object_get(body, "Message"));
    if (name == NULL)
        error_set(error, "%s: DynamoDB %s at %s: HTTP status %u%s", connection->store->setting, operation,
                  connection->store->url, status, status == 200 ? " without a JSON object that is whole" : "");
    else
        error_set(error, "DynamoDB %s of table %s in %s: %s%s%s", operation, connection->store->table,
                  connection->store->region, name, message != NULL ? ": " : "", message != NULL ? message : "");
}

static struct outcome classify_response(unsigned status, const json_t *body) {
    const char *name = exception_of(body);

    if (status == 200)
        return json_is_object(body) ? (struct outcome){VERDICT_FINAL, DYNAMODB_OK}
                                    : (struct outcome){VERDICT_FINAL, DYNAMODB_UNAVAILABLE};
    for (size_t i = 0; name != NULL && i < sizeof exceptions / sizeof exceptions[0]; i++)
        if (strcmp(name, exceptions[i].name) == 0)
            return exceptions[i].outcome;
    if (status >= 500 || status == 429)
        return (struct outcome){VERDICT_RETRY, DYNAMODB_UNAVAILABLE};
    return (struct outcome){VERDICT_FINAL, name != NULL ? DYNAMODB_REFUSED : DYNAMODB_UNAVAILABLE};
}

/* Sends the request once. `answer` is the JSON of the response if the outcome is DYNAMODB_OK. */
static struct outcome send_request(struct dynamodb_connection *connection, const char *operation, struct slice body,
                                   const struct aws_credentials *credentials, json_t **answer, struct error *error) {
    struct dynamodb_store *store = connection->store;
    char target[64];
    const char *const headers[] = {"Content-Type: application/x-amz-json-1.0", target, NULL};
    const struct http_signature signature = {.access_key_id = credentials->access_key_id,
                                             .secret_access_key = credentials->secret_access_key,
                                             .session_token = credentials->session_token,
                                             .region = store->region,
                                             .service = "dynamodb"};
    const struct http_call call = {.method = "POST",
                                   .url = store->url,
                                   .headers = headers,
                                   .body = body,
                                   .direct = store->loopback,
                                   .signature = &signature};
    struct outcome outcome;
    unsigned status;

    snprintf(target, sizeof target, "X-Amz-Target: DynamoDB_20120810.%s", operation);
    status = http_caller_call(connection->caller, &call, &connection->base.deadline, &connection->answer, error);
    if (status == 0) {
        error_prefix(error, "%s: DynamoDB at %s", store->setting, store->url);
        return (struct outcome){VERDICT_FINAL, DYNAMODB_UNAVAILABLE};
    }
    *answer = json_loadb(connection->answer.data, connection->answer.length, JSON_ALLOW_NUL, NULL);
    outcome = classify_response(status, *answer);
    if (outcome.answer == DYNAMODB_OK)
        return outcome;
    describe_exception(connection, operation, status, *answer, error);
    if (outcome.verdict == VERDICT_OTHER_CREDENTIALS)
        error_prefix(error, "the credentials from %s are refused", credentials->source);
    json_decref(*answer);
    *answer = NULL;
    return outcome;
}

static uint32_t random_pause_ms(uint32_t most_ms) {
    uint32_t drawn;

    random_bytes(&drawn, sizeof drawn);
    return drawn % (most_ms + 1);
}

/* Sends the request again, after pauses or with other credentials, until the response is final. */
static enum dynamodb_answer send_until_final(struct dynamodb_connection *connection, const char *operation,
                                             struct slice body, json_t **answer, struct error *error) {
    struct aws_chain *chain = connection->store->chain;
    struct aws_credentials credentials;
    uint32_t pause_ms = 0;
    bool rejected = false;

    connection->repeated = false;
    for (;; connection->repeated = true) {
        struct outcome outcome;

        if (!aws_chain_get(chain, &connection->base.deadline, &credentials, error))
            return DYNAMODB_UNAVAILABLE;
        outcome = send_request(connection, operation, body, &credentials, answer, error);
        if (outcome.verdict == VERDICT_OTHER_CREDENTIALS)
            aws_chain_reject(chain, &credentials);
        aws_credentials_dispose(&credentials);
        if (outcome.verdict == VERDICT_FINAL || (outcome.verdict == VERDICT_OTHER_CREDENTIALS && rejected))
            return outcome.answer;
        if (outcome.verdict == VERDICT_OTHER_CREDENTIALS) {
            rejected = true;
            continue;
        }
        pause_ms = backoff_next_ms(pause_ms, BACKOFF_FIRST_MS, BACKOFF_LAST_MS);
        if (!deadline_sleep(&connection->base.deadline, random_pause_ms(pause_ms)))
            return outcome.answer;
    }
}

enum dynamodb_answer dynamodb_request(struct dynamodb_connection *connection, const char *operation, json_t *request,
                                      json_t **answer, struct error *error) {
    char *body = json_dumps(request, JSON_COMPACT);
    enum dynamodb_answer result;

    *answer = NULL;
    json_decref(request);
    result = send_until_final(connection, operation, slice_of(body), answer, error);
    free(body);
    return result;
}
