/*
 * Any bytes as a message of another node: its texts lie inside the input, its lists can be read, and what was
 * understood gives the same bytes when it is written again. What follows that is from a later program.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "channel/channel_name.h"
#include "cluster/message/message.h"
#include "cluster/requests.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_sets(struct slice sets) {
    struct message_set set;
    struct message_member member;

    while (message_next_set(&sets, &set)) {
        MUST(utf8_valid(set.app) && utf8_valid(set.channel) && utf8_valid(set.data));
        while (message_next_member(&set.members, &member))
            MUST(utf8_valid(member.id) && utf8_valid(member.info));
        MUST(set.members.length == 0);
    }
    MUST(sets.length == 0);
}

static void walk_lists(struct cluster_message *message) {
    struct message_quota quota;
    struct message_place place;
    struct message_digest_entry entry;
    struct message_app_change change;
    struct channel_answer answer;
    struct roster_item item;

    switch (message->kind) {
    case MESSAGE_STATE_PART:
        walk_sets(message->state_part.sets);
        while (message_next_digest(&message->state_part.empty, &entry))
            continue;
        MUST(message->state_part.empty.length == 0);
        break;
    case MESSAGE_STATE_REQUEST:
    case MESSAGE_GAP_REQUEST:
        while (message_next_place(&message->state_request.places, &place))
            MUST(place.app.length != 0 && place.channel.length != 0);
        MUST(message->state_request.places.length == 0);
        break;
    case MESSAGE_QUOTAS:
        while (message_next_quota(&message->quotas.apps, &quota))
            MUST(quota.app.length != 0);
        MUST(message->quotas.apps.length == 0);
        break;
    case MESSAGE_HELLO:
        while (message_next_quota(&message->hello.quotas.apps, &quota))
            MUST(quota.app.length != 0);
        MUST(message->hello.quotas.apps.length == 0);
        break;
    case MESSAGE_DIGEST:
        while (message_next_digest(&message->digest.entries, &entry))
            continue;
        MUST(message->digest.entries.length == 0);
        break;
    case MESSAGE_API_ANSWER:
        while (requests_next(&message->api_answer.payload, &answer))
            MUST(channel_name_valid(answer.name));
        break;
    case MESSAGE_ROSTER:
        while (message_next_roster_item(&message->roster.items, &item))
            continue;
        MUST(message->roster.items.length == 0);
        break;
    case MESSAGE_APP_CHANGES:
        while (message_next_app_change(&message->app_changes.apps, &change))
            MUST(change.app.length != 0);
        MUST(message->app_changes.apps.length == 0);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = alloc_copy(data, size);
    struct slice all = {copy, size};
    struct cluster_message message;
    struct bus_bytes *again;
    struct error error = {0};

    if (message_decode(all, &message, &error) == MESSAGE_GOOD) {
        again = message_encode(&message);
        MUST(again != NULL && again->length <= size);
        MUST(memcmp(again->data + 6, copy + 6, again->length - 6) == 0);
        bus_bytes_unref(again);
        walk_lists(&message);
    }
    free(copy);
    return 0;
}
