/*
 * What the tests of the whole cache share: an app manager over a SQLite file, on workers whose turns the test makes;
 * another handle on the file, for the changes of others; a disk that hangs.
 */
#pragma once

#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "net/worker.h"

#define FIXTURE_WORKERS 2
#define FIXTURE_TIMEOUT_MS 120000

struct cache_fixture {
    struct workers workers;
    struct app_manager *manager;
    char database_path[96];
    bool has_channels;          /* the test makes channels */
    unsigned told[WORKERS_MAX]; /* how often each worker heard that apps were disabled or deleted */
    struct buffer replaced;     /* records that were replaced: "a 1>2" is a line for max_connections, 0 for none */
    unsigned answered;          /* lookups that were answered later than at once */
    uint64_t address;           /* of the client whose lookups they are */
    struct app_lookup last;     /* the lookup of fixture_by_key and fixture_by_id */
    char reason[512];           /* of the last answer: its own reason and record are valid for a turn only */
    unsigned limit;             /* max_connections of the record of the last answer */
    struct error error;
};

extern struct cache_fixture fixture;

/* A table with one app: id "a", key "ka", max_connections 1. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* Starts the manager, with members of "app_manager.cache". */
void fixture_open(const char *cache, unsigned timeout_ms);

/* --- changes of others --- */

void fixture_run_sql(const char *sql);
void fixture_insert(const char *id, const char *key, const char *max_connections);

/* True if the manager has told of a record that was replaced: "a 1>2\n". */
bool fixture_was_told(const char *line);

/* --- lookups --- */

/* On that worker; the answer may come later. */
enum app_answer fixture_start(struct app_lookup *lookup, unsigned worker, bool by_key, const char *name);
/* Turns until `count` lookups were answered later than at once. */
void fixture_await_answers(unsigned count);
/* On worker 0; waits for the answer. */
enum app_answer fixture_by_key(const char *key);
enum app_answer fixture_by_id(const char *id);
/* Looks up again and again until the answer is this; for what a refresh brings about. */
void fixture_until(bool by_key, const char *name, enum app_answer answer, unsigned max_connections);
/* A turn of every worker, and what comes of it. */
void fixture_settle(void);

struct app_lookup_stats fixture_lookups(void);
/* Operations that the store has answered. */
uint64_t fixture_queries(void);

/* --- a store that fails --- */

/* The file is exchanged for a folder, which cannot be opened. */
void fixture_lose_store(void);
void fixture_bring_back_store(void);

/* A disk that hangs as one on a network does: threads that want to read wait in the kernel. To be called before
 * fixture_open. */
void fixture_use_hanging_disk(void);
void fixture_let_disk_hang(bool hangs);
/* Waits until a thread hangs. */
void fixture_await_hanging(void);
