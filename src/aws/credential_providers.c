#include "aws/credential_providers.h"

#include <stdio.h>

#include "aws/credential_endpoints.h"
#include "aws/profile.h"
#include "aws/web_identity.h"
#include "base/log.h"
#include "base/secret_text.h"
#include "net/http_client.h"

/* --- keys that are given --- */

static bool is_given(const char *text) {
    return text != NULL && text[0] != '\0';
}

static enum provider_answer use_keys(const char *id, const char *secret, const char *token,
                                     struct aws_credentials *credentials) {
    const struct aws_credentials given = {
        .access_key_id = (char *)id, .secret_access_key = (char *)secret, .session_token = (char *)token};

    if (!is_given(id) || !is_given(secret))
        return PROVIDER_NOT_SET_UP;
    aws_credentials_copy(credentials, &given);
    return PROVIDER_FOUND;
}

static enum provider_answer ask_environment(const struct provider_request *request, struct aws_credentials *credentials,
                                            struct error *error) {
    (void)request, (void)error;
    return use_keys(environment_value("AWS_ACCESS_KEY_ID"), environment_value("AWS_SECRET_ACCESS_KEY"),
                    environment_value("AWS_SESSION_TOKEN"), credentials);
}

static enum provider_answer ask_configuration(const struct provider_request *request,
                                              struct aws_credentials *credentials, struct error *error) {
    (void)error;
    return use_keys(request->settings->access_key_id, request->settings->secret_access_key, NULL, credentials);
}

/* --- a profile of the shared files --- */

static void read_profile_file(struct aws_profile *profile, const char *name, enum aws_profile_file kind,
                              const char *path_variable, const char *in_home) {
    const char *path = environment_value(path_variable), *home = environment_value("HOME");
    struct buffer text = {0};
    char in_home_path[512];

    if (path == NULL) {
        snprintf(in_home_path, sizeof in_home_path, "%s%s", home != NULL ? home : "", in_home);
        path = in_home_path;
    }
    if (secret_read_file(path, &text))
        aws_profile_read(profile, name, kind, buffer_slice(&text));
    secret_buffer_dispose(&text);
}

/* Whether the profile gets its credentials in a way that Curlew does not support; `value` is the setting. */
static bool is_unsupported(const struct aws_profile *profile, enum aws_profile_value *value) {
    static const enum aws_profile_value unsupported[] = {AWS_PROFILE_SOURCE_PROFILE,     AWS_PROFILE_CREDENTIAL_SOURCE,
                                                         AWS_PROFILE_CREDENTIAL_PROCESS, AWS_PROFILE_SSO_SESSION,
                                                         AWS_PROFILE_SSO_START_URL,      AWS_PROFILE_ROLE_ARN};

    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        *value = unsupported[i];
        if (profile->values[unsupported[i]] != NULL)
            return true;
    }
    return false;
}

/* The answer for a profile that holds no credentials; one that the user did not name is simply not set up. */
static enum provider_answer explain_profile(const struct aws_profile *profile, const char *name, bool named,
                                            struct error *error) {
    enum aws_profile_value value;

    if (is_unsupported(profile, &value))
        error_set(error,
                  "AWS profile \"%s\" uses %s, which is not supported: give it aws_access_key_id and "
                  "aws_secret_access_key, or let the environment hold the keys",
                  name, aws_profile_value_name(value));
    else if (!named)
        return PROVIDER_NOT_SET_UP;
    else if (profile->found)
        error_set(error, "AWS profile \"%s\" has no aws_access_key_id and aws_secret_access_key", name);
    else
        error_set(error, "AWS profile \"%s\" is neither in the shared config file nor in the credentials file", name);
    return PROVIDER_FAILED;
}

static enum provider_answer ask_profile(const struct provider_request *request, struct aws_credentials *credentials,
                                        struct error *error) {
    const char *configured = request->settings->profile_name;
    const char *named = is_given(configured) ? configured : environment_value("AWS_PROFILE");
    const char *name = named != NULL ? named : "default";
    struct aws_profile profile = {0};
    char *const *values = profile.values;
    enum provider_answer answer;

    read_profile_file(&profile, name, AWS_CONFIG_FILE, "AWS_CONFIG_FILE", "/.aws/config");
    read_profile_file(&profile, name, AWS_CREDENTIALS_FILE, "AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials");
    answer = web_identity_fetch(request, values[AWS_PROFILE_WEB_IDENTITY_TOKEN_FILE], values[AWS_PROFILE_ROLE_ARN],
                                values[AWS_PROFILE_ROLE_SESSION_NAME], credentials, error);
    if (answer == PROVIDER_NOT_SET_UP && values[AWS_PROFILE_ROLE_ARN] == NULL)
        answer = use_keys(values[AWS_PROFILE_ACCESS_KEY_ID], values[AWS_PROFILE_SECRET_ACCESS_KEY],
                          values[AWS_PROFILE_SESSION_TOKEN], credentials);
    if (answer == PROVIDER_NOT_SET_UP)
        answer = explain_profile(&profile, name, named != NULL, error);
    aws_profile_dispose(&profile);
    return answer;
}

/* --- all of them --- */

static enum provider_answer ask_web_identity(const struct provider_request *request,
                                             struct aws_credentials *credentials, struct error *error) {
    return web_identity_fetch(request, environment_value("AWS_WEB_IDENTITY_TOKEN_FILE"),
                              environment_value("AWS_ROLE_ARN"), environment_value("AWS_ROLE_SESSION_NAME"),
                              credentials, error);
}

static const struct credential_provider {
    const char *name; /* for messages */
    provider_function *ask;
} providers[] = {
    {"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", ask_environment},
    {"database.dynamodb.aws_access_key_id and aws_secret_access_key", ask_configuration},
    {"a profile", ask_profile},
    {"AWS_WEB_IDENTITY_TOKEN_FILE", ask_web_identity},
    {"the container's agent", container_credentials_fetch},
    {"the instance's role", instance_credentials_fetch},
};

static enum provider_answer ask_providers(const struct provider_request *request, struct aws_credentials *credentials,
                                          struct error *error) {
    for (size_t i = 0; i < sizeof providers / sizeof providers[0]; i++) {
        enum provider_answer answer = providers[i].ask(request, credentials, error);
        if (answer == PROVIDER_NOT_SET_UP)
            continue;
        credentials->source = providers[i].name;
        return answer;
    }
    return PROVIDER_NOT_SET_UP;
}

bool aws_credentials_fetch(const struct aws_provider_settings *settings, const struct deadline *deadline,
                           struct aws_credentials *credentials, struct error *error) {
    const struct provider_request request = {settings, http_caller_create(), deadline};
    enum provider_answer answer = ask_providers(&request, credentials, error);

    http_caller_destroy(request.caller);
    if (answer == PROVIDER_NOT_SET_UP && settings->may_be_made_up) {
        log_info("app",
                 "no AWS credentials found: database.dynamodb.endpoint_url is on this machine, so made-up ones "
                 "are sent");
        answer = use_keys("local", "local", NULL, credentials);
        credentials->source = "nowhere (made up)";
    }
    if (answer == PROVIDER_NOT_SET_UP)
        error_set(error,
                  "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                  "database.dynamodb.aws_profile_name, or give the task or instance a role");
    return answer == PROVIDER_FOUND;
}
