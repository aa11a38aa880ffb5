/*
 * A certificate with its key in files, for tests of TLS.
 */
#pragma once

struct tls_context;
struct tls_tickets;

extern char tls_fixture_cert[], tls_fixture_key[];

/* Set-up and tear-down of a group of tests: write and remove the files. */
int tls_fixture_write(void **state);
int tls_fixture_remove(void **state);

/* Creates a context with the certificate; `ca_path` and `tickets` may be NULL. */
struct tls_context *tls_fixture_context(struct tls_tickets *tickets, const char *ca_path);
