/*
 * Fatal errors of the load generator.
 *
 * A benchmark cannot continue after an unexpected error, so it prints the error and exits with status 1. Lost or
 * reordered events are results, not errors: they only mark their row of the table as failed.
 */
#pragma once

/* Prints "curlew-bench: " and the message to standard error and exits with status 1. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Prints the message and a hint at --help for an invalid command line, and exits with status 2. */
void fail_usage(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
