#include "aws/profile.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const char *const names[AWS_PROFILE_VALUES] = {
    [AWS_PROFILE_ACCESS_KEY_ID] = "aws_access_key_id",
    [AWS_PROFILE_SECRET_ACCESS_KEY] = "aws_secret_access_key",
    [AWS_PROFILE_SESSION_TOKEN] = "aws_session_token",
    [AWS_PROFILE_ROLE_ARN] = "role_arn",
    [AWS_PROFILE_ROLE_SESSION_NAME] = "role_session_name",
    [AWS_PROFILE_WEB_IDENTITY_TOKEN_FILE] = "web_identity_token_file",
    [AWS_PROFILE_SOURCE_PROFILE] = "source_profile",
    [AWS_PROFILE_CREDENTIAL_SOURCE] = "credential_source",
    [AWS_PROFILE_CREDENTIAL_PROCESS] = "credential_process",
    [AWS_PROFILE_SSO_SESSION] = "sso_session",
    [AWS_PROFILE_SSO_START_URL] = "sso_start_url",
};

const char *aws_profile_value_name(enum aws_profile_value value) {
    return names[value];
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice text) {
    while (text.length != 0 && is_blank(text.data[0]))
        text = slice_skip(text, 1);
    while (text.length != 0 && is_blank(text.data[text.length - 1]))
        text.length--;
    return text;
}

static struct slice take_line(struct slice *rest) {
    const char *end = rest->length != 0 ? memchr(rest->data, '\n', rest->length) : NULL;
    struct slice line = {rest->data, end != NULL ? (size_t)(end - rest->data) : rest->length};

    *rest = slice_skip(*rest, end != NULL ? line.length + 1 : line.length);
    return line;
}

/* Whether a line `[...]` begins the section of the profile. */
static bool is_section_of(struct slice line, const char *name, enum aws_profile_file file) {
    const char *end = memchr(line.data, ']', line.length);
    struct slice section;

    if (end == NULL)
        return false;
    section = trim((struct slice){line.data + 1, (size_t)(end - line.data) - 1});
    if (file == AWS_CREDENTIALS_FILE || (strcmp(name, "default") == 0 && slice_equal(section, SLICE("default"))))
        return slice_equal(section, slice_of(name));
    if (!slice_starts_with(section, SLICE("profile")) || section.length == 7 || !is_blank(section.data[7]))
        return false;
    return slice_equal(trim(slice_skip(section, 7)), slice_of(name));
}

/* A blank and `#` or `;` begin a comment behind a value. */
static struct slice without_comment(struct slice value) {
    for (size_t i = 1; i < value.length; i++)
        if ((value.data[i] == '#' || value.data[i] == ';') && is_blank(value.data[i - 1]))
            return trim((struct slice){value.data, i});
    return value;
}

static void forget(char *secret) {
    if (secret != NULL)
        OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

static void read_value(struct aws_profile *profile, struct slice line) {
    const char *sign = memchr(line.data, '=', line.length);
    struct slice name, value;

    if (sign == NULL)
        return;
    name = trim((struct slice){line.data, (size_t)(sign - line.data)});
    value = without_comment(trim(slice_skip(line, (size_t)(sign - line.data) + 1)));
    if (value.length == 0 || memchr(value.data, '\0', value.length) != NULL)
        return;
    for (unsigned i = 0; i < AWS_PROFILE_VALUES; i++) {
        if (slice_equal_ignoring_case(name, slice_of(names[i]))) {
            forget(profile->values[i]);
            profile->values[i] = alloc_copy(value.data, value.length);
        }
    }
}

void aws_profile_read(struct aws_profile *profile, const char *name, enum aws_profile_file file, struct slice text) {
    bool ours = false;

    if (slice_starts_with(text, SLICE("\xef\xbb\xbf")))
        text = slice_skip(text, 3);
    while (text.length != 0) {
        struct slice raw = take_line(&text), line = trim(raw);

        if (line.length == 0 || line.data[0] == '#' || line.data[0] == ';')
            continue;
        if (line.data[0] == '[') {
            ours = is_section_of(line, name, file);
            profile->found |= ours;
        } else if (ours && !is_blank(raw.data[0])) { /* an indented line belongs to the setting above */
            read_value(profile, line);
        }
    }
}

void aws_profile_dispose(struct aws_profile *profile) {
    for (unsigned i = 0; i < AWS_PROFILE_VALUES; i++)
        forget(profile->values[i]);
}
