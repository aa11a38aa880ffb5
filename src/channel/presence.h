/*
 * The members of a presence channel, so kept that a newcomer can take the whole list in one step.
 *
 *   member_list ---> chunk of 64 ---> member        immutable once somebody else holds a reference to the list:
 *               \--> chunk of 64 ---> member        a change then copies the list's head and the one or two chunks it
 *               \--> ...                            touches, not the members
 *
 * A newcomer takes a reference under the channel's mutex (one atomic addition) and writes its list from it after the
 * mutex is released, while others join and leave.
 *
 * struct presence_members belongs to its channel and is used under the channel's mutex; a struct member_list that was
 * taken from it may be read by any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define MEMBERS_PER_CHUNK 64

struct presence_member {
    atomic_uint references;
    /* Under the channel's mutex. */
    uint32_t connections; /* of this user in the channel */
    uint32_t position;    /* in the list */
    uint64_t hash;
    struct presence_member *next; /* in the hash table */
    /* Immutable. `id` is decoded; the others are escaped once, ready to stand inside a JSON string. */
    struct slice id;
    struct slice id_json;      /* "1" with its quotes, not escaped */
    struct slice id_escaped;   /* \"1\" */
    struct slice info_escaped; /* {\"name\":\"x\"} */
    char storage[];
};

/* A member with one reference. `info` is exact JSON text. */
struct presence_member *presence_member_create(struct slice id, struct slice info);
void presence_member_unref(struct presence_member *member);

/* The user id as a JSON string with its quotes. */
struct slice presence_member_id(const struct presence_member *member);

struct member_chunk {
    atomic_uint references;
    uint32_t count;
    struct presence_member *members[MEMBERS_PER_CHUNK];
};

struct member_list {
    atomic_uint references;
    uint32_t count;       /* members */
    uint32_t chunk_count; /* chunks in use */
    uint32_t capacity;    /* room in `chunks` */
    struct member_chunk *chunks[];
};

struct presence_members {
    struct member_list *list; /* NULL while empty */
    struct presence_member **buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
};

static inline uint32_t presence_count(const struct presence_members *members) {
    return members->list != NULL ? members->list->count : 0;
}

void presence_members_dispose(struct presence_members *members);

/* The number of buckets that one more member asks for, when that is more than there are; else 0. */
uint32_t presence_wants_buckets(const struct presence_members *members);
/* Moves to `buckets` (`count` zeroed pointers, allocated before the mutex was taken) and returns the old array to free.
 */
struct presence_member **presence_rehash(struct presence_members *members, struct presence_member **buckets,
                                         uint32_t count);

struct presence_member *presence_find(const struct presence_members *members, struct slice id, uint64_t hash);
/* Adds a member; its reference goes to the table. Room was made by presence_rehash. */
void presence_add(struct presence_members *members, struct presence_member *member);
/* Takes a member out; the table's reference goes to the caller. */
void presence_remove(struct presence_members *members, struct presence_member *member);

/* The list as it is now, with a reference for the caller; NULL when there are no members. */
struct member_list *presence_snapshot(const struct presence_members *members);
void member_list_unref(struct member_list *list);

/* Calls for each member of the list in its order. */
#define member_list_each(list, member)                                                                                 \
    for (uint32_t chunk_ = 0; (list) != NULL && chunk_ < (list)->chunk_count; chunk_++)                                \
        for (uint32_t at_ = 0;                                                                                         \
             at_ < (list)->chunks[chunk_]->count && ((member) = (list)->chunks[chunk_]->members[at_], true); at_++)

/* Appends `{\"presence\":{\"count\":n,\"ids\":[...],\"hash\":{...}}}`, escaped to stand inside a JSON string. */
void member_list_append_escaped(const struct member_list *list, struct buffer *out);
