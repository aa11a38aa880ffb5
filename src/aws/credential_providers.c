/*
 * The places of the credentials chain, in its order. Each answers that it is not set up, that it failed, or with the
 * credentials; what a place answers over HTTP is kept no longer than it takes to read it.
 */
#include <curl/curl.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "aws/credentials.h"
#include "aws/profile.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "net/http_client.h"

#define FILE_MAX (1u << 20)
#define METADATA_CONNECT_MS 1000 /* outside EC2 nobody answers at the metadata's address */
#define METADATA_TOKEN_TTL "X-aws-ec2-metadata-token-ttl-seconds: 21600"

enum place_answer { PLACE_UNUSED, PLACE_FAILED, PLACE_FOUND };

/* A variable that is set and not empty, else NULL. */
static const char *variable(const char *name) {
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool is_set(const char *text) {
    return text != NULL && text[0] != '\0';
}

static char *copy_text(const char *text) {
    return text != NULL ? alloc_copy(text, strlen(text)) : NULL;
}

static void text_dispose(struct buffer *text) {
    if (text->data != NULL)
        OPENSSL_cleanse(text->data, text->capacity);
    buffer_dispose(text);
}

/* The whole file, with a zero byte behind it; false if it cannot be read. */
static bool read_file(const char *path, struct buffer *text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = -1;

    if (fd < 0)
        return false;
    do {
        buffer_reserve(text, 4096);
        length = read(fd, text->data + text->length, 4095);
        text->length += length > 0 ? (size_t)length : 0;
    } while (length > 0 && text->length < FILE_MAX);
    close(fd);
    text->data[text->length] = '\0';
    return length == 0;
}

/* A token from a file: without the line's end. */
static bool read_token(const char *path, struct buffer *token, struct error *error) {
    if (!read_file(path, token))
        return error_set(error, "%s cannot be read", path);
    while (token->length != 0 && strchr(" \t\r\n", token->data[token->length - 1]) != NULL)
        token->data[--token->length] = '\0';
    for (size_t i = 0; i < token->length; i++)
        if (token->data[i] <= ' ' || token->data[i] > '~')
            return error_set(error, "%s holds more than one token", path);
    return token->length != 0 || error_set(error, "%s is empty", path);
}

/* --- 1 and 2: given keys --- */

static enum place_answer from_keys(const char *id, const char *secret, const char *token,
                                   struct aws_credentials *credentials) {
    if (!is_set(id) || !is_set(secret))
        return PLACE_UNUSED;
    *credentials = (struct aws_credentials){copy_text(id), copy_text(secret), copy_text(token), 0};
    return PLACE_FOUND;
}

/* --- 4: a web identity, exchanged at STS (AssumeRoleWithWebIdentity) --- */

static void append_escaped(struct buffer *form, const char *name, const char *value) {
    char *escaped = curl_easy_escape(NULL, value, 0);

    if (escaped == NULL)
        abort(); /* out of memory */
    buffer_appendf(form, "&%s=", name);
    buffer_append_string(form, escaped);
    curl_free(escaped);
}

static void sts_url(const char *region, char *url, size_t size) {
    const char *given = variable("AWS_ENDPOINT_URL_STS");

    if (given != NULL)
        snprintf(url, size, "%s", given);
    else
        snprintf(url, size, "https://sts.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static bool exchange(struct http_caller *caller, const char *region, struct slice form, const struct deadline *deadline,
                     struct aws_credentials *credentials, struct error *error) {
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    char url[512];
    struct buffer answer = {0};
    unsigned status;
    bool done = false;

    sts_url(region, url, sizeof url);
    status =
        http_caller_call(caller, &(struct http_call){.method = "POST", .url = url, .headers = headers, .body = form},
                         deadline, &answer, error);
    if (status == 200) {
        done = aws_credentials_from_sts(buffer_slice(&answer), credentials, error);
    } else if (status != 0) {
        const char *code = strstr(answer.data, "<Code>");
        int length = code != NULL ? (int)strcspn(code + 6, "<") : 0;
        error_set(error, "HTTP status %u %.*s", status, length < 100 ? length : 100, code != NULL ? code + 6 : "");
    }
    text_dispose(&answer);
    return done || error_prefix(error, "%s", url);
}

static enum place_answer from_web_identity(struct http_caller *caller, const struct aws_chain_settings *settings,
                                           const char *file, const char *role, const char *session,
                                           const struct deadline *deadline, struct aws_credentials *credentials,
                                           struct error *error) {
    struct buffer form = {0}, token = {0};
    bool done = false;

    if (file == NULL || role == NULL)
        return PLACE_UNUSED;
    if (read_token(file, &token, error)) {
        buffer_append_string(&form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
        append_escaped(&form, "RoleArn", role);
        append_escaped(&form, "RoleSessionName", session != NULL ? session : "curlew");
        append_escaped(&form, "WebIdentityToken", token.data);
        done = exchange(caller, settings->region, buffer_slice(&form), deadline, credentials, error);
    }
    text_dispose(&form);
    text_dispose(&token);
    if (!done)
        error_prefix(error, "AWS web identity for %s", role);
    return done ? PLACE_FOUND : PLACE_FAILED;
}

/* --- 3: a profile of the shared files --- */

static void read_profile_file(struct aws_profile *profile, const char *name, enum aws_profile_file kind,
                              const char *path_variable, const char *in_home) {
    const char *path = variable(path_variable), *home = variable("HOME");
    struct buffer text = {0};
    char in_home_path[512];

    if (path == NULL) {
        snprintf(in_home_path, sizeof in_home_path, "%s%s", home != NULL ? home : "", in_home);
        path = in_home_path;
    }
    if (read_file(path, &text))
        aws_profile_read(profile, name, kind, buffer_slice(&text));
    text_dispose(&text);
}

/* Ways of a profile that this program does not go. */
static bool unsupported(const struct aws_profile *profile, enum aws_profile_value *value) {
    static const enum aws_profile_value ways[] = {AWS_PROFILE_SOURCE_PROFILE,     AWS_PROFILE_CREDENTIAL_SOURCE,
                                                  AWS_PROFILE_CREDENTIAL_PROCESS, AWS_PROFILE_SSO_SESSION,
                                                  AWS_PROFILE_SSO_START_URL,      AWS_PROFILE_ROLE_ARN};

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        *value = ways[i];
        if (profile->values[ways[i]] != NULL)
            return true;
    }
    return false;
}

static enum place_answer from_profile_values(struct http_caller *caller, const struct aws_chain_settings *settings,
                                             const struct aws_profile *profile, const char *name, bool asked_for,
                                             const struct deadline *deadline, struct aws_credentials *credentials,
                                             struct error *error) {
    char *const *values = profile->values;
    enum aws_profile_value way;
    enum place_answer answer =
        from_web_identity(caller, settings, values[AWS_PROFILE_WEB_IDENTITY_TOKEN_FILE], values[AWS_PROFILE_ROLE_ARN],
                          values[AWS_PROFILE_ROLE_SESSION_NAME], deadline, credentials, error);

    if (answer == PLACE_UNUSED && values[AWS_PROFILE_ROLE_ARN] == NULL)
        answer = from_keys(values[AWS_PROFILE_ACCESS_KEY_ID], values[AWS_PROFILE_SECRET_ACCESS_KEY],
                           values[AWS_PROFILE_SESSION_TOKEN], credentials);
    if (answer != PLACE_UNUSED)
        return answer;
    if (unsupported(profile, &way))
        error_set(error,
                  "AWS profile \"%s\" uses %s, which is not supported: give it aws_access_key_id and "
                  "aws_secret_access_key, or let the environment hold the keys",
                  name, aws_profile_value_name(way));
    else if (!asked_for)
        return PLACE_UNUSED;
    else if (profile->found)
        error_set(error, "AWS profile \"%s\" has no aws_access_key_id and aws_secret_access_key", name);
    else
        error_set(error, "AWS profile \"%s\" is neither in the shared config file nor in the credentials file", name);
    return PLACE_FAILED;
}

static enum place_answer from_profile(struct http_caller *caller, const struct aws_chain_settings *settings,
                                      const struct deadline *deadline, struct aws_credentials *credentials,
                                      struct error *error) {
    const char *asked_for = is_set(settings->profile_name) ? settings->profile_name : variable("AWS_PROFILE");
    const char *name = asked_for != NULL ? asked_for : "default";
    struct aws_profile profile = {0};
    enum place_answer answer;

    read_profile_file(&profile, name, AWS_CONFIG_FILE, "AWS_CONFIG_FILE", "/.aws/config");
    read_profile_file(&profile, name, AWS_CREDENTIALS_FILE, "AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials");
    answer = from_profile_values(caller, settings, &profile, name, asked_for != NULL, deadline, credentials, error);
    aws_profile_dispose(&profile);
    return answer;
}

/* --- 5: the agent of ECS or EKS --- */

/* Tokens and keys travel to this machine, to the agents' addresses, or encrypted. */
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

static bool container_authorization(struct buffer *header, struct error *error) {
    const char *file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *given = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    struct buffer token = {0};
    bool done = true;

    buffer_append_string(header, "Authorization: ");
    if (file != NULL && (done = read_token(file, &token, error)))
        buffer_append(header, buffer_slice(&token));
    else if (file == NULL && given != NULL)
        buffer_append_string(header, given);
    else
        header->length = 0;
    buffer_append_byte(header, '\0');
    text_dispose(&token);
    return done;
}

static bool ask_container(struct http_caller *caller, const char *url, const struct deadline *deadline,
                          struct aws_credentials *credentials, struct error *error) {
    struct buffer authorization = {0}, answer = {0};
    unsigned status;
    bool done = false;

    if (container_authorization(&authorization, error)) {
        const char *const headers[] = {authorization.data[0] != '\0' ? authorization.data : NULL, NULL};
        struct http_call call = {
            .method = "GET", .url = url, .headers = headers, .connect_timeout_ms = METADATA_CONNECT_MS, .direct = true};
        status = http_caller_call(caller, &call, deadline, &answer, error);
        if (status == 200)
            done = aws_credentials_from_json(buffer_slice(&answer), credentials, error);
        else if (status != 0)
            error_set(error, "HTTP status %u", status);
    }
    text_dispose(&authorization);
    text_dispose(&answer);
    return done || error_prefix(error, "AWS container credentials from %s", url);
}

static enum place_answer from_container(struct http_caller *caller, const struct aws_chain_settings *settings,
                                        const struct deadline *deadline, struct aws_credentials *credentials,
                                        struct error *error) {
    const char *relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    char url[512];

    (void)settings;
    if (relative == NULL && full == NULL)
        return PLACE_UNUSED;
    snprintf(url, sizeof url, "%s%s", relative != NULL ? "http://169.254.170.2" : "",
             relative != NULL ? relative : full);
    if (!container_url_safe(url)) {
        error_set(
            error,
            "AWS_CONTAINER_CREDENTIALS_%s_URI is neither https nor a loopback, ECS or EKS address: no credentials "
            "are fetched from there",
            relative != NULL ? "RELATIVE" : "FULL");
        return PLACE_FAILED;
    }
    return ask_container(caller, url, deadline, credentials, error) ? PLACE_FOUND : PLACE_FAILED;
}

/* --- 6: the EC2 instance's role, IMDSv2 --- */

static bool ask_metadata(struct http_caller *caller, const char *method, const char *path, const char *header,
                         const struct deadline *deadline, struct buffer *answer, struct error *error) {
    const char *given = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *const headers[] = {header, NULL};
    char url[768];
    struct http_call call = {
        .method = method, .url = url, .headers = headers, .connect_timeout_ms = METADATA_CONNECT_MS, .direct = true};
    size_t length;
    unsigned status;

    given = given != NULL ? given : "http://169.254.169.254";
    length = strlen(given);
    snprintf(url, sizeof url, "%.*s%s", (int)(given[length - 1] == '/' ? length - 1 : length), given, path);
    status = http_caller_call(caller, &call, deadline, answer, error);
    if (status == 200)
        return true;
    if (status != 0)
        error_set(error, "HTTP status %u", status);
    return error_prefix(error, "EC2 instance metadata at %s", url);
}

static bool first_line_plain(struct buffer *text) {
    size_t length = strcspn(text->data, "\r\n");

    text->data[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (text->data[i] <= ' ' || text->data[i] > '~')
            return false;
    return length != 0;
}

static enum place_answer from_instance(struct http_caller *caller, const struct aws_chain_settings *settings,
                                       const struct deadline *deadline, struct aws_credentials *credentials,
                                       struct error *error) {
    const char *disabled = variable("AWS_EC2_METADATA_DISABLED");
    struct buffer token = {0}, role = {0}, answer = {0}, header = {0}, path = {0};
    enum place_answer found = PLACE_FAILED;

    (void)settings;
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return PLACE_UNUSED;
    if (!ask_metadata(caller, "PUT", "/latest/api/token", METADATA_TOKEN_TTL, deadline, &token, error) ||
        !first_line_plain(&token)) {
        found = PLACE_UNUSED; /* no EC2 instance, as far as one can tell from here */
        goto done;
    }
    buffer_appendf(&header, "X-aws-ec2-metadata-token: %s", token.data);
    buffer_append_byte(&header, '\0');
    buffer_append_string(&path, "/latest/meta-data/iam/security-credentials/");
    if (!ask_metadata(caller, "GET", "/latest/meta-data/iam/security-credentials/", header.data, deadline, &role,
                      error))
        goto done;
    if (!first_line_plain(&role)) {
        error_set(error, "the EC2 instance has no role");
        goto done;
    }
    buffer_append_string(&path, role.data);
    buffer_append_byte(&path, '\0');
    if (!ask_metadata(caller, "GET", path.data, header.data, deadline, &answer, error))
        goto done;
    if (aws_credentials_from_json(buffer_slice(&answer), credentials, error))
        found = PLACE_FOUND;
    else
        error_prefix(error, "EC2 instance metadata, role %s", role.data);
done:
    text_dispose(&token);
    text_dispose(&role);
    text_dispose(&answer);
    text_dispose(&header);
    text_dispose(&path);
    return found;
}

/* --- the walk --- */

static enum place_answer from_environment(struct http_caller *caller, const struct aws_chain_settings *settings,
                                          const struct deadline *deadline, struct aws_credentials *credentials,
                                          struct error *error) {
    (void)caller, (void)settings, (void)deadline, (void)error;
    return from_keys(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN"),
                     credentials);
}

static enum place_answer from_configuration(struct http_caller *caller, const struct aws_chain_settings *settings,
                                            const struct deadline *deadline, struct aws_credentials *credentials,
                                            struct error *error) {
    (void)caller, (void)deadline, (void)error;
    return from_keys(settings->access_key_id, settings->secret_access_key, NULL, credentials);
}

static enum place_answer from_token_file(struct http_caller *caller, const struct aws_chain_settings *settings,
                                         const struct deadline *deadline, struct aws_credentials *credentials,
                                         struct error *error) {
    return from_web_identity(caller, settings, variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN"),
                             variable("AWS_ROLE_SESSION_NAME"), deadline, credentials, error);
}

static const struct place {
    const char *name; /* for people */
    enum place_answer (*ask)(struct http_caller *caller, const struct aws_chain_settings *settings,
                             const struct deadline *deadline, struct aws_credentials *credentials, struct error *error);
} places[] = {
    {"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", from_environment},
    {"database.dynamodb.aws_access_key_id and aws_secret_access_key", from_configuration},
    {"a profile", from_profile},
    {"AWS_WEB_IDENTITY_TOKEN_FILE", from_token_file},
    {"the container's agent", from_container},
    {"the instance's role", from_instance},
};

static enum place_answer walk(struct http_caller *caller, const struct aws_chain_settings *settings,
                              const struct deadline *deadline, struct aws_credentials *credentials,
                              struct error *error) {
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        enum place_answer answer = places[i].ask(caller, settings, deadline, credentials, error);
        if (answer == PLACE_UNUSED)
            continue;
        credentials->source = places[i].name;
        return answer;
    }
    return PLACE_UNUSED;
}

bool aws_credentials_fetch(const struct aws_chain_settings *settings, const struct deadline *deadline,
                           struct aws_credentials *credentials, struct error *error) {
    struct http_caller *caller = http_caller_create();
    enum place_answer answer = walk(caller, settings, deadline, credentials, error);

    http_caller_destroy(caller);
    if (answer == PLACE_UNUSED && settings->needs_none) {
        log_info("app",
                 "no AWS credentials found: database.dynamodb.endpoint_url is on this machine, so made-up ones "
                 "are sent");
        answer = from_keys("local", "local", NULL, credentials);
        credentials->source = "nowhere (made up)";
    }
    if (answer == PLACE_UNUSED)
        error_set(error,
                  "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                  "database.dynamodb.aws_profile_name, or give the task or instance a role");
    return answer == PLACE_FOUND;
}
