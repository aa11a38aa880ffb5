/*
 * Webhook events on the webhook thread: from the mailbox through the grace to the delivery.
 *
 *   outlet ---> the record in force ---> grace ---> JSON, once ---> delivery_add for each webhook that takes it
 *
 * An event that waited belongs to the record that is in force when it is sent, not to the one when it happened: a
 * webhook that was removed meanwhile does not get it, and nobody gets those of an app that was deleted.
 */
#pragma once

#include "app/webhook_event.h"
#include "webhook/webhook_thread.h"

struct webhook_events;

/* Joins the thread, which does not run yet: it becomes its work (webhook_thread_set_work). On the main thread. */
struct webhook_events *webhook_events_create(struct webhook_thread *thread);
/* Frees it with the events that are still held; NULL is accepted. After webhook_thread_destroy. */
void webhook_events_destroy(struct webhook_events *events);

/* Where workers post events. */
struct webhook_outlet *webhook_events_outlet(struct webhook_events *events);

/* The process after this one goes on: from now on `forward` gets the events about channels and members that arrive and
 * leave, on the webhook thread, also those in their grace. What it returns false for is sent from here. Any thread. */
void webhook_events_forward(struct webhook_events *events,
                            bool (*forward)(void *context, const struct webhook_event *event), void *context);

/* The process before this one still has clients, and forwards its events: see grace.h. The begin before the thread is
 * started, the end on any thread. */
void webhook_events_begin_overlap(struct webhook_events *events);
void webhook_events_end_overlap(struct webhook_events *events);

/* One record has replaced another, or an app is new or gone, as in struct app_manager_hooks. Any thread, without a
 * lock, until the thread is stopped. */
void webhook_events_app_replaced(struct webhook_events *events, struct app *before, struct app *after);
