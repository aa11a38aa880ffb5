/*
 * The members of a presence channel, in a copy-on-write list.
 *
 *   member_list ---> block of 64 ---> member        immutable while another reference to the list exists: a change then
 *               \--> block of 64 ---> member        copies the head of the list and the one or two blocks that it
 *               \--> ...                            touches, but not the members
 *
 * A connection that joins takes a snapshot: a reference to the list, under the channel's mutex (one atomic addition).
 * It encodes its member list from the snapshot after the mutex is released, while other connections join and leave.
 *
 * struct presence_members belongs to its channel and is protected by the channel's mutex. Any thread may read a struct
 * member_list to which it holds a reference.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define MEMBERS_PER_BLOCK 64

struct presence_member {
    atomic_uint references;
    /* Protected by the channel's mutex, up to `told_by`. */
    uint32_t connections;         /* number of the user's connections to this node in the channel */
    uint32_t position;            /* position in the list */
    uint32_t info_length;         /* of the escaped user_info; immutable */
    uint64_t hash;                /* immutable */
    struct presence_member *next; /* next in the bucket of the hash table */
    /* Bit n: node n has the user; bit 0, this node, if `connections` is not 0. Alone, only bit 0 is ever set. */
    uint64_t nodes;
    uint64_t named;    /* bit n: the set of node n that is being taken in has named the user (remote.h) */
    uint64_t since_ms; /* wall clock: when the user came to the node whose user_info this is; 0 without other nodes */
    uint8_t told_by;   /* the number of that node */
    /* Immutable: the lengths of the texts in `storage`, one behind the other, with user_info as the last. The escaped
     * forms can be copied into a JSON string as they are. */
    uint16_t id_length;         /* decoded */
    uint16_t id_json_length;    /* "1" */
    uint16_t id_escaped_length; /* \"1\" */
    char storage[];             /* user_info: {\"name\":\"x\"} */
};

/* The texts of a member, valid as long as a reference to it: the id, decoded and escaped, and user_info. */
static inline struct slice presence_member_key(const struct presence_member *member) {
    return (struct slice){member->storage, member->id_length};
}

static inline struct slice presence_member_id_escaped(const struct presence_member *member) {
    return (struct slice){member->storage + member->id_length + member->id_json_length, member->id_escaped_length};
}

static inline struct slice presence_member_info_escaped(const struct presence_member *member) {
    struct slice id = presence_member_id_escaped(member);

    return (struct slice){id.data + id.length, member->info_length};
}

/* The place of one connection in a presence channel. */
struct presence_place {
    struct presence_member *member;
    uint64_t listed; /* the client has the members as of this number of the channel */
};

/* Creates a member with one reference. `id` is decoded, `info` is exact JSON text; both are copied. */
struct presence_member *presence_member_create(struct slice id, struct slice info);

/* The memory of a member in the account, with its place in the list and the table: the first one of a channel brings a
 * block, the list's head and the first buckets. Lists that readers still hold are not counted: a worker holds one for
 * its turn, the thread for long lists one at a time. */
size_t presence_member_bytes(const struct presence_member *member, bool first);

/* Takes a reference. Any thread that has one, or holds the channel's mutex. */
static inline struct presence_member *presence_member_ref(struct presence_member *member) {
    atomic_fetch_add_explicit(&member->references, 1, memory_order_relaxed);
    return member;
}

/* Drops a reference; NULL is ignored. Any thread. */
void presence_member_unref(struct presence_member *member);

/* Returns the user id as a JSON string with quotes. */
struct slice presence_member_id(const struct presence_member *member);

/* Appends the exact JSON text of user_info that the member was made with. */
void presence_member_append_info(const struct presence_member *member, struct buffer *out);

struct member_block {
    atomic_uint references;
    uint32_t count;
    struct presence_member *members[MEMBERS_PER_BLOCK];
};

struct member_list {
    atomic_uint references;
    uint32_t count;       /* members */
    uint32_t block_count; /* blocks in use */
    uint32_t capacity;    /* allocated length of `blocks` */
    struct member_block *blocks[];
};

struct presence_members {
    struct member_list *list; /* NULL while empty */
    struct presence_member **buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
};

/* Returns the number of members. */
static inline uint32_t presence_count(const struct presence_members *members) {
    return members->list != NULL ? members->list->count : 0;
}

/* The memory of all members in the account. */
size_t presence_members_bytes(const struct presence_members *members);

/* Drops all members. */
void presence_members_dispose(struct presence_members *members);

/* Returns the number of buckets to which the hash table must grow before one more member is added; 0: it need not grow.
 */
uint32_t presence_wants_buckets(const struct presence_members *members);

/* Moves the hash table to `buckets` (`count` zeroed pointers, allocated before the mutex was taken) and returns the old
 * array, which the caller frees. */
struct presence_member **presence_rehash(struct presence_members *members, struct presence_member **buckets,
                                         uint32_t count);

/* Takes the hash table from an empty list of members; the caller frees it. */
struct presence_member **presence_take_buckets(struct presence_members *members);

/* Finds a member; NULL if there is none. Takes no reference. */
struct presence_member *presence_find(const struct presence_members *members, struct slice id, uint64_t hash);

/* Adds a member and takes over the caller's reference. presence_wants_buckets must be 0. */
void presence_add(struct presence_members *members, struct presence_member *member);

/* Removes a member; the caller gets the table's reference. */
void presence_remove(struct presence_members *members, struct presence_member *member);

/* Returns the last member of the list, for emptying it; NULL if there are no members. Takes no reference. */
struct presence_member *presence_last(const struct presence_members *members);

/* Returns the current list with a reference for the caller; NULL if there are no members. */
struct member_list *presence_snapshot(const struct presence_members *members);

/* Drops a reference; NULL is ignored. Any thread. */
void member_list_unref(struct member_list *list);

/* A loop over the members of a list (may be NULL), in its order. */
#define member_list_each(list, member)                                                                                 \
    for (uint32_t block_ = 0; (list) != NULL && block_ < (list)->block_count; block_++)                                \
        for (uint32_t at_ = 0;                                                                                         \
             at_ < (list)->blocks[block_]->count && ((member) = (list)->blocks[block_]->members[at_], true); at_++)

/* Appends `{\"presence\":{\"count\":n,\"ids\":[...],\"hash\":{...}}}`, escaped to stand inside a JSON string. */
void member_list_append_escaped(const struct member_list *list, struct buffer *out);
