/*
 * Channel names, and the types that their prefixes give. Pure functions for any thread.
 */
#pragma once

#include <stdbool.h>

#include "app/app_slot.h"
#include "base/slice.h"

enum channel_kind { CHANNEL_PUBLIC, CHANNEL_PRIVATE, CHANNEL_ENCRYPTED, CHANNEL_PRESENCE, CHANNEL_USER };

struct channel_type {
    enum channel_kind kind;
    bool caches; /* the channel keeps its last event */
};

#define USER_CHANNEL_PREFIX "#server-to-user-"
#define USER_ID_MAX 255

/* Returns the type that the name's prefix gives: `private-my-cache-x` is private and does not cache. */
struct channel_type channel_type_of(struct slice name);

/* True if the name has only characters that the protocol allows, or is the name of a user's channel with an id of 1 to
 * 255 bytes. The caller checks the app's max_channel_name_length. */
bool channel_name_valid(struct slice name);

/* True if subscribers to channels of the type can ask for deltas: clients cannot decode them in encrypted channels, and
 * ignore them in users' channels. */
static inline bool channel_type_has_deltas(struct channel_type type) {
    return type.kind != CHANNEL_ENCRYPTED && type.kind != CHANNEL_USER;
}

/* Returns the label in the metrics; all kinds of cache channels have LABEL_CACHE. */
enum channel_label channel_label_of(struct channel_type type);
