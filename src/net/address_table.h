/*
 * How many connections each client address has: exact over all workers, since every close takes its connection out.
 *
 * The table knows of each connection by its descriptor, so a connection holds no memory of its own for it. An address
 * takes memory while it has connections. Only with a limit there is a table.
 *
 *   descriptor --> entry (address, count)        address -- keyed hash --> bucket of entries, in one of 64 shards
 *
 * A descriptor belongs to one worker until it is closed; all functions that take one are for that worker's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address_table;

/* Creates a table for descriptors below `descriptors`; higher ones are not counted. An address may have `most`
 * connections. `at_accept`: connections are counted when they are accepted, and not request by request. */
struct address_table *address_table_create(uint32_t most, size_t descriptors, bool at_accept);

/* Frees the table; NULL is ignored. */
void address_table_destroy(struct address_table *table);

uint32_t address_table_most(const struct address_table *table);
bool address_table_counts_at_accept(const struct address_table *table);

/* Counts the connection for the address; false if that has its most connections. Does nothing if the connection is
 * counted already. */
bool address_table_enter(struct address_table *table, int fd, uint64_t address);

/* The same for a connection without an address: it may have any number. */
void address_table_enter_unknown(struct address_table *table, int fd);

/* True if the connection is counted. */
bool address_table_holds(const struct address_table *table, int fd);

/* Takes the connection out, if it is counted. Call it before the descriptor is closed. */
void address_table_leave(struct address_table *table, int fd);

/* Connections and requests that were refused, and addresses that are there. Any thread. */
void address_table_count_refusal(struct address_table *table);
void address_table_read(const struct address_table *table, uint64_t *refusals, uint64_t *addresses);
