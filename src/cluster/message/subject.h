/*
 * The subjects on the bus.
 *
 *   plain  <prefix>curlew1:n | i:<node> | c:<app>:<channel> | u:<app>:<user>
 *   NATS   <prefix>.curlew1.n | i.<node> | c.<app>.<channel> | u.<app>.<user>
 *
 * n is for all nodes, i the inbox of one node. In plain subjects `:` and `=` of an app's id are written `=3A` and
 * `=3D`. On NATS each part is one token: bytes other than A-Z a-z 0-9 _ - are written as `=` and two hexadecimal
 * digits, and a part that then has over 512 bytes as `=H` and its SHA-256. An empty prefix is left out.
 *
 * Pure functions for any thread.
 */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"
#include "cluster/nodes/node_id.h"

enum subject_spelling { SUBJECT_PLAIN, SUBJECT_NATS };

/* What all subjects begin with. */
struct subjects {
    enum subject_spelling spelling;
    struct buffer prefix; /* as it is written */
};

/* `prefix` is the setting. Call subjects_dispose in the end. */
void subjects_init(struct subjects *subjects, enum subject_spelling spelling, struct slice prefix);
void subjects_dispose(struct subjects *subjects);

/* Append a subject: for all nodes, for one node, and of a channel; that of a user is the subject of the user's channel
 * (USER_CHANNEL_PREFIX in channel_name.h). */
void subject_append_all(struct buffer *out, const struct subjects *subjects);
void subject_append_inbox(struct buffer *out, const struct subjects *subjects, struct node_id node);
void subject_append_channel(struct buffer *out, const struct subjects *subjects, struct slice app,
                            struct slice channel);
