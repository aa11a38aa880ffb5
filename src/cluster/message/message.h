/*
 * The messages between nodes, as bytes.
 *
 *   version (1) | kind (1) | length of the body (4) | sender (16) | sender's running number (8) | body
 *
 * This header never changes. Numbers are big-endian. A body is the fields of the table of its kind (message.c), in that
 * order: a text has its length before it (4 bytes), and so has a list, and so has each of its elements. Within a
 * version fields are only added, at the end of a body or of an element. A reader skips by length the bytes that it does
 * not know, and takes a field that is missing for 0 or empty if its row says that it came later. HELLO and HELLO_ANSWER
 * are read in every version, since they say which versions a node speaks.
 *
 * To add a kind: a structure and a member of the union here, a value of enum message_kind, a table of fields and a row
 * in message.c, an example in tests/unit/test_cluster_message.c.
 *
 * Pure functions for any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/nodes/node_id.h"
#include "cluster/roster/roster.h"

#define MESSAGE_HEADER_BYTES 30

/* The limit on a message other than one with a single event, member or cached event that is larger. */
#define MESSAGE_BYTES_MAX 65536

/* The limit on the elements of a list, so that the message stays below MESSAGE_BYTES_MAX whatever else is in it. */
#define MESSAGE_LIST_BYTES (MESSAGE_BYTES_MAX - 2048)

/* The highest version of a set or count. A higher one would make all later ones old: no node gets so far in its run, so
 * the message is broken. */
#define MESSAGE_SET_VERSION_MAX (UINT64_C(1) << 62)

/* --- versions --- */

struct message_versions {
    uint8_t lowest, highest;
};

/* The versions that this program speaks. */
struct message_versions message_versions_own(void);

/* Narrows `common` to what a node speaks as well. False, and `common` is unchanged, if no version is left. A node sends
 * the highest version of what is common to it and all live nodes. */
bool message_versions_narrow(struct message_versions *common, struct message_versions node);

/* --- kinds --- */

/* The numbers are part of the protocol. */
enum message_kind {
    MESSAGE_HELLO = 1,
    MESSAGE_HELLO_ANSWER = 2,
    MESSAGE_HEARTBEAT = 3,
    MESSAGE_BYE = 4,
    MESSAGE_DEAD = 5,
    MESSAGE_EVENT = 10,
    MESSAGE_TERMINATE = 11,
    MESSAGE_CHANGE = 20,
    MESSAGE_COUNT = 21,
    MESSAGE_TOLD = 22,
    MESSAGE_STATE_REQUEST = 30,
    MESSAGE_STATE_PART = 31,
    MESSAGE_STATE_CREDIT = 32,
    MESSAGE_GAP_REQUEST = 33,
    MESSAGE_DIGEST = 34,
    MESSAGE_PROBE = 35,
    MESSAGE_PROBE_ANSWER = 36,
    MESSAGE_QUOTAS = 40,
    MESSAGE_APP_CHANGES = 41,
    MESSAGE_ROSTER = 42,
    MESSAGE_ROSTER_ASK = 43,
    MESSAGE_API_REQUEST = 50,
    MESSAGE_API_ANSWER = 51,
    MESSAGE_KINDS = 64, /* all are less */
};

/* The name of a kind for metrics and the log, "event"; "unknown" for others. */
const char *message_kind_name(unsigned kind);

/* Connections per app: a change, or a part of all of them. On receipt of the last part in a row of all parts, apps that
 * the parts did not name have none. */
struct message_quotas {
    uint64_t whole; /* the same number in all parts; 0: a change, with the apps that changed */
    uint32_t part;  /* from 0 */
    bool last;
    struct slice apps; /* message_add_quota, message_next_quota */
};

struct message_quota {
    struct slice app;
    uint64_t connections;
};

/* On `n`: a node has come. Into an inbox: the answer of one that is there. */
struct message_hello {
    struct message_versions versions;
    struct node_id replaces; /* the sender's id before; none: it had none */
    struct slice name;       /* instance.process_id */
    struct slice address;
    uint64_t since_ms; /* wall clock: start of the run */
    uint64_t connections, channels;
    uint32_t load_permille;       /* of the busiest worker's time */
    struct message_quotas quotas; /* what does not fit follows in QUOTAS */
};

struct message_heartbeat {
    uint64_t connections, channels;
    uint32_t load_permille;
};

struct message_dead {
    struct node_id id;
};

/* An event on a channel or, by the name of the user's channel, to a user. */
struct message_event {
    struct slice app, channel;
    struct slice name;     /* JSON string */
    struct slice data;     /* JSON text: exactly what was published */
    struct slice user_id;  /* JSON string of the sender, or empty */
    struct slice tags;     /* empty, or what tags_parse reads */
    bool keep;             /* cache channels keep it */
    bool whole;            /* the publisher wants no delta of it */
    bool has_except;       /* a connection does not get it: */
    uint64_t except[2];    /* the two numbers of its socket id */
    uint64_t published_ms; /* wall clock */
    uint64_t left_ms;      /* of an event to keep: until it expires; 0: it does not */
};

/* Close the connections of a user. */
struct message_terminate {
    struct slice app, user_id;
    bool reconnect;     /* their clients are to come back at once */
    uint64_t waited_ms; /* connections that were made since then stay */
};

/* A change of the sender's own set of a channel. */
struct message_change {
    struct slice app, channel;
    uint64_t version, before; /* of the set, with this change and without; `before` 0: it was empty */
    bool added;
    bool empties;          /* the set is empty after it */
    bool known_already;    /* told anew: no webhook is due */
    struct slice id, info; /* of the member; id empty: the set is no list, only "occupied" */
    uint64_t since_ms;     /* wall clock: when the member came to the sender */
};

struct message_count {
    struct slice app, channel;
    uint64_t version;
    uint32_t count; /* subscriptions on the sender */
};

/* The version of the sender's own set, once more. */
struct message_told {
    struct slice app, channel;
    uint64_t version; /* 0: the set is empty */
};

/* What do you hold of these channels? On `n`, or as GAP_REQUEST into an inbox. Answered by STATE_PART into the inbox.
 */
struct message_state_request {
    uint64_t request;
    uint64_t credit;     /* bytes of parts that the sender takes before STATE_CREDIT says more */
    struct slice places; /* message_add_place, message_next_place */
};

struct message_place {
    struct slice app, channel;
};

struct message_state_part {
    uint64_t request;   /* of STATE_REQUEST, GAP_REQUEST or DIGEST */
    uint32_t part;      /* from 0 */
    bool last;          /* of what was asked for, sets that no part names are empty; of a DIGEST, they are as it says */
    struct slice sets;  /* message_add_set, message_next_set */
    struct slice empty; /* sets of a DIGEST that are empty and are not named: message_add_digest */
};

/* The sender's own set of a channel, or a part of it, all as of `version`. */
struct message_set {
    struct slice app, channel;
    uint64_t version;
    bool occupied;
    bool begins, ends;    /* this is the first part of the set, the last one */
    struct slice members; /* message_add_member, message_next_member */
    uint64_t count_version;
    uint32_t count;
    /* The event that a cache channel keeps; `name` is empty if there is none. */
    struct slice name, data;  /* JSON string, JSON text */
    struct node_id publisher; /* the node where it was published */
    uint64_t published_ms;    /* wall clock */
    uint64_t left_ms;         /* 0: it does not expire */
};

struct message_member {
    struct slice id, info; /* decoded; JSON text */
    uint64_t since_ms;     /* wall clock */
};

/* The sender has taken in parts of a request: so many bytes of them may be sent in all. */
struct message_state_credit {
    uint64_t request;
    uint64_t bytes; /* in all; 0: the answer is not wanted any more */
};

/* What the sender holds of the receiver's sets. Answered by STATE_PART with those that differ. */
struct message_digest {
    uint64_t request;
    uint64_t credit;      /* as in STATE_REQUEST */
    bool returned;        /* the sender was away: it wants a digest of what the receiver holds of its sets */
    struct slice entries; /* message_add_digest, message_next_digest */
};

struct message_digest_entry {
    uint64_t channel_hash; /* message_channel_hash */
    uint64_t version;      /* 0: it holds nothing */
};

/* On `n`, and the answer into the inbox: what was published before the answer has arrived before it. */
struct message_probe {
    uint64_t request;
};

struct message_app_changes {
    struct slice apps; /* message_add_app_change, message_next_app_change */
};

struct message_app_change {
    struct slice app;
    struct slice old_key, new_key; /* empty: there was none, there is none, or it is not known */
    bool meant;                    /* a person has changed it by a command for a node: its removal is not held */
};

/* A question of the HTTP API or the admin API to all nodes. Its owner defines the payload. */
struct message_api_request {
    uint64_t request;
    uint32_t operation;
    struct slice app; /* may be empty */
    struct slice payload;
};

struct message_api_answer {
    uint64_t request;
    uint32_t part; /* from 0 */
    bool last;
    uint32_t status; /* 0: answered */
    struct slice payload;
};

/* Who is in channels of apps with webhooks, and what was told of that: roster.h. ROSTER_ASK, without fields, asks for
 * everything anew. */
struct message_roster {
    uint64_t number;    /* of the batch; without items that of the last one, once more */
    bool begins;        /* it begins with everything: earlier batches do not matter */
    struct slice items; /* message_add_roster_item, message_next_roster_item: struct roster_item */
};

/* --- encoding and decoding --- */

struct cluster_message {
    enum message_kind kind;
    uint8_t version;
    struct node_id sender;
    uint64_t number;
    union {
        struct message_hello hello; /* HELLO, HELLO_ANSWER */
        struct message_heartbeat heartbeat;
        struct message_dead dead;
        struct message_event event;
        struct message_terminate terminate;
        struct message_change change;
        struct message_count count;
        struct message_told told;
        struct message_state_request state_request; /* STATE_REQUEST, GAP_REQUEST */
        struct message_state_part state_part;
        struct message_state_credit state_credit;
        struct message_digest digest;
        struct message_probe probe; /* PROBE, PROBE_ANSWER */
        struct message_quotas quotas;
        struct message_app_changes app_changes;
        struct message_roster roster;
        struct message_api_request api_request;
        struct message_api_answer api_answer;
    };
};

/* Encodes a message; NULL if the system has no memory. Its sender and number are set by message_seal. Texts and lists
 * are copied as they are. */
struct bus_bytes *message_encode(const struct cluster_message *message);

/* Writes the sender and its running number into an encoded message, when it is published: other threads encode. */
void message_seal(struct bus_bytes *bytes, struct node_id sender, uint64_t number);

/* Writes into an encoded message that is not published yet how long it has waited, where that matters: TERMINATE, and
 * the time that is left of an EVENT. */
void message_note_wait(struct bus_bytes *bytes, uint64_t waited_ms);

enum message_result {
    MESSAGE_GOOD,
    MESSAGE_BROKEN,        /* with an error */
    MESSAGE_UNKNOWN,       /* a kind that this program does not know; the header is good */
    MESSAGE_OTHER_VERSION, /* a version that it does not speak; the header is good */
};

/* Reads only the header, for `kind` of any number. False if it is broken, or the length is another one. */
bool message_decode_header(struct slice payload, struct cluster_message *message);

/* Reads a message; its texts and lists point into `payload`. No length in it is believed, and texts are checked: names
 * of channels, ids, UTF-8, JSON. The lists are checked to their end, so that the functions below cannot fail. */
enum message_result message_decode(struct slice payload, struct cluster_message *message, struct error *error);

/* Append an element to a list, until the list has MESSAGE_LIST_BYTES; and take the next element from a list, false at
 * its end. */
void message_add_quota(struct buffer *list, const struct message_quota *quota);
bool message_next_quota(struct slice *list, struct message_quota *quota);
void message_add_place(struct buffer *list, const struct message_place *place);
bool message_next_place(struct slice *list, struct message_place *place);
void message_add_set(struct buffer *list, const struct message_set *set);
bool message_next_set(struct slice *list, struct message_set *set);
void message_add_member(struct buffer *list, const struct message_member *member);
bool message_next_member(struct slice *list, struct message_member *member);
void message_add_digest(struct buffer *list, const struct message_digest_entry *entry);
bool message_next_digest(struct slice *list, struct message_digest_entry *entry);
void message_add_roster_item(struct buffer *list, const struct roster_item *item);
bool message_next_roster_item(struct slice *list, struct roster_item *item);
void message_add_app_change(struct buffer *list, const struct message_app_change *change);
bool message_next_app_change(struct slice *list, struct message_app_change *change);

/* A hash of a channel that is the same on all nodes: the first 8 bytes of SHA-256 of the app's id, a zero byte and the
 * channel's name. */
uint64_t message_channel_hash(struct slice app, struct slice channel);
