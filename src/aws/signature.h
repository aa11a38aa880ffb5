/*
 * AWS Signature Version 4 for a request without a query.
 *
 * libcurl makes such signatures, too, but the version of Debian 12 signs the path as it is sent. AWS expects it encoded
 * once more, which matters for a path with escapes, such as one with the ARN of a function.
 */
#pragma once

#include <time.h>

#include "aws/credentials.h"
#include "base/buffer.h"
#include "base/slice.h"

struct aws_signed_header {
    const char *name; /* in lower case */
    struct slice value;
};

struct aws_signed_request {
    const char *method;
    struct slice path;                       /* with escapes, as it is sent */
    const struct aws_signed_header *headers; /* in order of their names; "host" and "x-amz-date" are among them */
    size_t header_count;
    struct slice body;
    const char *region, *service;
};

/* Room for the value of X-Amz-Date, with the terminating zero. */
#define AWS_DATE_TEXT 17

void aws_date_write(time_t now, char date[AWS_DATE_TEXT]);

/* Appends the value of the header Authorization. `date` is that of x-amz-date. */
void aws_sign_request(const struct aws_signed_request *request, const struct aws_credentials *credentials,
                      const char *date, struct buffer *authorization);

/* Appends `text` with everything escaped but letters, digits, `-_.~` and, if `slashes`, `/`. */
void aws_escape(struct slice text, bool slashes, struct buffer *escaped);
