#include "aws/profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/secret_text.h"
#include "base/utf8.h"

static const char *const value_names[AWS_PROFILE_VALUES] = {
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
    return value_names[value];
}

static bool is_profile_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Takes the next line from `rest`, without its end (LF or CR LF). */
static struct slice take_profile_line(struct slice *rest) {
    const char *end = rest->length != 0 ? memchr(rest->data, '\n', rest->length) : NULL;
    struct slice line = {rest->data, end != NULL ? (size_t)(end - rest->data) : rest->length};

    *rest = slice_skip(*rest, end != NULL ? line.length + 1 : line.length);
    if (slice_ends_with(line, SLICE("\r")))
        line.length--;
    return line;
}

/* Whether a line `[...]` begins the section of that profile. */
static bool is_section_of(struct slice line, const char *name, enum aws_profile_file file) {
    const char *end = memchr(line.data, ']', line.length);
    struct slice section;

    if (end == NULL)
        return false;
    section = slice_trim((struct slice){line.data + 1, (size_t)(end - line.data) - 1});
    if (file == AWS_CREDENTIALS_FILE || (strcmp(name, "default") == 0 && slice_equal(section, SLICE("default"))))
        return slice_equal(section, slice_of(name));
    if (!slice_starts_with(section, SLICE("profile")) || section.length == 7 || !is_profile_blank(section.data[7]))
        return false;
    return slice_equal(slice_trim(slice_skip(section, 7)), slice_of(name));
}

/* After a value, a blank and `#` or `;` begin a comment. */
static struct slice strip_comment(struct slice value) {
    for (size_t i = 1; i < value.length; i++)
        if ((value.data[i] == '#' || value.data[i] == ';') && is_profile_blank(value.data[i - 1]))
            return slice_trim((struct slice){value.data, i});
    return value;
}

/* Reads a line `name = value`; a name that is not known is skipped. */
static void read_profile_value(struct aws_profile *profile, struct slice line) {
    const char *sign = memchr(line.data, '=', line.length);
    struct slice name, value;

    if (sign == NULL)
        return;
    name = slice_trim((struct slice){line.data, (size_t)(sign - line.data)});
    value = strip_comment(slice_trim(slice_skip(line, (size_t)(sign - line.data) + 1)));
    if (value.length == 0 || memchr(value.data, '\0', value.length) != NULL)
        return;
    for (unsigned i = 0; i < AWS_PROFILE_VALUES; i++) {
        if (slice_equal_ignoring_case(name, slice_of(value_names[i]))) {
            secret_free(profile->values[i]);
            profile->values[i] = alloc_copy(value.data, value.length);
        }
    }
}

void aws_profile_read(struct aws_profile *profile, const char *name, enum aws_profile_file file, struct slice text) {
    bool in_section = false;

    text = utf8_without_mark(text);
    while (text.length != 0) {
        struct slice raw = take_profile_line(&text), line = slice_trim(raw);

        if (line.length == 0 || line.data[0] == '#' || line.data[0] == ';')
            continue;
        if (line.data[0] == '[') {
            in_section = is_section_of(line, name, file);
            profile->found |= in_section;
        } else if (in_section && !is_profile_blank(raw.data[0])) { /* an indented line belongs to the setting above */
            read_profile_value(profile, line);
        }
    }
}

void aws_profile_dispose(struct aws_profile *profile) {
    for (unsigned i = 0; i < AWS_PROFILE_VALUES; i++)
        secret_free(profile->values[i]);
}
