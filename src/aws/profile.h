/*
 * A profile of AWS's shared files, `config` and `credentials`: sections of `name = value` lines.
 *
 *     [default]                 [profile work]            (config; in credentials just [work])
 *     aws_access_key_id = A     aws_access_key_id = B
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

enum aws_profile_value {
    AWS_PROFILE_ACCESS_KEY_ID,
    AWS_PROFILE_SECRET_ACCESS_KEY,
    AWS_PROFILE_SESSION_TOKEN,
    AWS_PROFILE_ROLE_ARN,
    AWS_PROFILE_ROLE_SESSION_NAME,
    AWS_PROFILE_WEB_IDENTITY_TOKEN_FILE,
    AWS_PROFILE_SOURCE_PROFILE,
    AWS_PROFILE_CREDENTIAL_SOURCE,
    AWS_PROFILE_CREDENTIAL_PROCESS,
    AWS_PROFILE_SSO_SESSION,
    AWS_PROFILE_SSO_START_URL,
    AWS_PROFILE_VALUES,
};

/* Zero-initialise it. */
struct aws_profile {
    bool found; /* one of the files has its section */
    char *values[AWS_PROFILE_VALUES];
};

enum aws_profile_file { AWS_CONFIG_FILE, AWS_CREDENTIALS_FILE };

/* Adds the values that the text of a file gives for the profile; they replace those that are set already. */
void aws_profile_read(struct aws_profile *profile, const char *name, enum aws_profile_file file, struct slice text);
void aws_profile_dispose(struct aws_profile *profile);

/* The name of a value as the files spell it, for messages. */
const char *aws_profile_value_name(enum aws_profile_value value);
