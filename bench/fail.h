/*
 * How the load generator gives up.
 *
 * A benchmark that met something it did not expect has nothing to go on with, so it says what it met and ends with
 * status 1. Lost or reordered events are not of this kind: they are results, and make their row of the table fail.
 */
#pragma once

/* Writes "curlew-bench: " and the sentence to standard error and ends the process with status 1. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The same for a mistake on the command line: status 2, with a hint at --help. */
void fail_usage(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
