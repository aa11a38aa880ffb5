/*
 * File descriptors when they run short: which connections may take the last ones.
 *
 *   0          websockets        requests     operators           limit of the process (RLIMIT_NOFILE)
 *   |-- all ------|-- API requests --|-- metrics ---|-- the process ---|
 *                 |                  |  admin API   |   itself         |
 *
 * The kernel gives the lowest number that is free, so a new descriptor at or above a bound tells that all below it are
 * taken. No connection has to be counted.
 *
 * A connection at or above `websockets` is *short-lived*: a WebSocket is refused with 4100, and an HTTP connection
 * closes after its answer. For each of them the HTTP connection of its worker that has waited longest for its client is
 * closed. At or above `requests` the listeners of the main port pause until a connection has closed.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* Descriptors that are kept for API requests: this share of the limit, between the two numbers. */
#define DESCRIPTORS_REQUESTS_SHARE 16
#define DESCRIPTORS_REQUESTS_LEAST 16
#define DESCRIPTORS_REQUESTS_MOST 1024
#define DESCRIPTORS_OPERATORS 8

/* No bound: every descriptor is below. */
#define DESCRIPTORS_NO_BOUND INT32_MAX

struct descriptor_bounds {
    unsigned workers;        /* threads that accept, each of which may go over `requests` by one connection */
    unsigned process;        /* descriptors that the process itself needs, at most: databases, files */
    atomic_int websockets;   /* at or above: short-lived connections */
    atomic_int requests;     /* at or above: only for operators and the process */
    atomic_int operators;    /* at or above: only for the process */
    atomic_uint logged_at_s; /* when a shortage was logged */
};

/* Without bounds, until descriptors_read_limit. */
void descriptors_init(struct descriptor_bounds *bounds, unsigned workers);

/* Sets the bounds for a limit of `limit` descriptors. A small limit leaves at least half for WebSockets. */
void descriptors_apply_limit(struct descriptor_bounds *bounds, uint64_t limit);

/* The same for the limit of the process, which may change while it runs (prlimit). Any thread. */
void descriptors_read_limit(struct descriptor_bounds *bounds);

/* Logs that descriptors are short, at most once a minute. Any thread. */
void descriptors_log_shortage(struct descriptor_bounds *bounds, const char *text);
