/*
 * Any bytes as a shared file of AWS, and as an answer of STS or of an agent: what is taken for credentials can go into
 * a header, whatever it came from.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "aws/credentials.h"
#include "aws/profile.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_profile(struct slice text, const char *name, enum aws_profile_file file) {
    struct aws_profile profile = {0};

    aws_profile_read(&profile, name, file, text);
    for (unsigned i = 0; i < AWS_PROFILE_VALUES; i++) {
        const char *value = profile.values[i];
        MUST(value == NULL || (profile.found && value[0] != '\0' && strchr(value, '\n') == NULL));
    }
    aws_profile_dispose(&profile);
}

static void check_plain(const char *text) {
    for (const char *c = text; *c != '\0'; c++)
        MUST(*c > ' ' && *c <= '~');
}

static void check_answer(bool done, struct aws_credentials *credentials, const struct error *error) {
    if (!done) {
        MUST(credentials->access_key_id == NULL && error->text[0] != '\0');
        return;
    }
    check_plain(credentials->access_key_id);
    check_plain(credentials->secret_access_key);
    if (credentials->session_token != NULL)
        check_plain(credentials->session_token);
    aws_credentials_dispose(credentials);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {(const char *)data, size};
    struct aws_credentials credentials;
    struct error error = {0};

    check_profile(text, "default", AWS_CONFIG_FILE);
    check_profile(text, "work", AWS_CONFIG_FILE);
    check_profile(text, "work", AWS_CREDENTIALS_FILE);
    check_answer(aws_credentials_from_sts(text, &credentials, &error), &credentials, &error);
    check_answer(aws_credentials_from_json(text, &credentials, &error), &credentials, &error);
    return 0;
}
