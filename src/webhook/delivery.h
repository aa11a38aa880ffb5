/*
 * Delivery of webhook events: they wait in a queue for each webhook, are joined to batches, signed, sent, and sent
 * again after a failure.
 *
 * A webhook is a number in the list of an app's record. Everything here runs on the webhook thread, except where a
 * function says "any thread".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/app.h"
#include "base/error.h"
#include "base/slice.h"
#include "webhook/webhook_counters.h"

struct config;
struct delivery;

/* `config` outlives the delivery. With `waits` the spool may be in use by another process, which ends soon: until then
 * what is pending is only in memory. NULL with an error if the configuration can never work. On the main thread. */
struct delivery *delivery_create(const struct config *config, bool waits, struct error *error);
/* Frees it with what still waits. When its thread has ended. */
void delivery_destroy(struct delivery *delivery);

/*
 * Adds an event for webhook `index` of the record `app`, which is the one in force: it replaces an older record, as
 * delivery_app_changed does. `json` is the event's JSON object, copied. Events of one `channel` are delivered in the
 * order in which they are added. `time_ms` is when the event happened, on the wall clock.
 */
void delivery_add(struct delivery *delivery, struct app *app, size_t index, struct slice channel, struct slice json,
                  uint64_t time_ms);

/*
 * Takes over the record `app` (NULL: the app was deleted). A webhook keeps its queue if the new list has one with the
 * same target; what waits for others is dropped. New batches are signed with the new secret.
 */
void delivery_app_changed(struct delivery *delivery, struct slice app_id, struct app *app);

/*
 * Finds the records of apps for which the spool has events of an earlier process: `find` is called on the webhook
 * thread with the id of one of them (valid until the answer), and delivery_app_found gives the answer to it. Before the
 * thread starts.
 */
void delivery_set_finder(struct delivery *delivery, void (*find)(struct slice app_id, void *context), void *context);

enum delivery_answer {
    DELIVERY_APP_KNOWN,       /* `app` is the record; NULL: there is no such app, and what is kept for it is dropped */
    DELIVERY_APP_BROKEN,      /* the record is broken: it is asked for again, after the other apps */
    DELIVERY_APP_UNAVAILABLE, /* the store could not be asked, and is asked again */
};
void delivery_app_found(struct delivery *delivery, enum delivery_answer answer, struct app *app);

/* True while the spool has events of an earlier process that are not taken over yet, or may have some. Before the
 * thread starts. */
bool delivery_restores(const struct delivery *delivery);

/* Events in the spool whose app or webhook was gone when the process started. Any thread. */
uint64_t delivery_spool_dropped(const struct delivery *delivery);

/* Sends what is due. Returns when to call it again, on the monotonic clock; UINT64_MAX: when there is something new. */
uint64_t delivery_run(struct delivery *delivery, uint64_t now_ms);

/* Waits until the network or `event_fd` is ready, or until `until_ms`; true if `event_fd` is ready. */
bool delivery_wait(struct delivery *delivery, int event_fd, uint64_t now_ms, uint64_t until_ms);

/* From now on nothing waits for others to join its batch; what waits for its next attempt is sent at once. */
void delivery_drain(struct delivery *delivery);

/* True if nothing waits and nothing is on its way. */
bool delivery_idle(const struct delivery *delivery);

/* Calls `each` for every webhook that has had an event. Any thread; the webhook thread may wait meanwhile, so `each` is
 * quick. */
void delivery_each_webhook(struct delivery *delivery,
                           void (*each)(struct slice app_id, size_t index, const struct webhook_counters *counters,
                                        void *context),
                           void *context);
