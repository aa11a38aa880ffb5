/*
 * The grace of webhooks: a channel that is empty, or a user who has left, for less than three seconds causes no event.
 *
 *   channel_vacated, member_removed    are held for the grace, in a table by app, channel and user
 *   channel_occupied, member_added     end what is held for the same channel and user: neither of the two is sent
 *   everything else                    is sent at once
 *
 * While another process has clients of the same channels, channel_occupied and member_added are held, too. That process
 * passes on what happens there, and a client that changes over ends both: its leave there, and its coming here.
 *
 * The table is bounded: over a bound the oldest event of the app that holds the most is sent at once. On the webhook
 * thread.
 */
#pragma once

#include <stdint.h>

#include "app/webhook_event.h"

#define WEBHOOK_GRACE_MS 3000

struct webhook_grace;

struct webhook_grace_settings {
    size_t max_events, max_bytes; /* that are held */
    /* Sends an event, and takes it over. */
    void (*send)(void *context, struct webhook_event *event);
    void *context;
};

struct webhook_grace *webhook_grace_create(const struct webhook_grace_settings *settings);

/* Frees it with what is held. */
void webhook_grace_destroy(struct webhook_grace *grace);

/* Takes an event over: holds it, sends it, or ends with it what is held. `now_ms` is the monotonic clock. */
void webhook_grace_add(struct webhook_grace *grace, struct webhook_event *event, uint64_t now_ms);

/* Sends what has been held for the whole grace. Returns when to call it again; UINT64_MAX: after the next event. */
uint64_t webhook_grace_run(struct webhook_grace *grace, uint64_t now_ms);

/* Begins or ends the time in which another process has clients. At the end, what has come here is sent. */
void webhook_grace_overlap(struct webhook_grace *grace, bool overlap);

/* Gives away all that is held, for another process. */
void webhook_grace_take_all(struct webhook_grace *grace, void (*take)(void *context, struct webhook_event *event),
                            void *context);

/* The process ends: sends what is held, oldest first, and holds nothing any more. */
void webhook_grace_finish(struct webhook_grace *grace);
