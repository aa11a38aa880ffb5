#include "channel/presence.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/json.h"

#define FIRST_BUCKETS 8

/* A pointer in a block, and one to two buckets of the table. */
#define PLACE_BYTES (3 * sizeof(struct presence_member *))

/* Appends `text` escaped for use inside a JSON string. */
static void append_escaped(struct buffer *out, struct slice text) {
    size_t start = out->length;

    json_append_string(out, text);
    /* Remove the quotes of json_append_string. */
    memmove(out->data + start, out->data + start + 1, out->length - start - 2);
    out->length -= 2;
}

struct presence_member *presence_member_create(struct slice id, struct slice info) {
    struct buffer text = {0};
    size_t id_json, id_escaped, info_escaped;
    struct presence_member *member;

    buffer_append(&text, id);
    id_json = text.length;
    json_append_string(&text, id);
    id_escaped = text.length;
    buffer_reserve(&text, (id_escaped - id_json) * 6 + 2); /* keep the source in place while it is read */
    append_escaped(&text, (struct slice){text.data + id_json, id_escaped - id_json});
    info_escaped = text.length;
    append_escaped(&text, info);

    member = alloc(sizeof *member + text.length);
    *member = (struct presence_member){
        .hash = hash_bytes(id),
        .info_length = (uint32_t)(text.length - info_escaped),
        .id_length = (uint16_t)id_json,
        .id_json_length = (uint16_t)(id_escaped - id_json),
        .id_escaped_length = (uint16_t)(info_escaped - id_escaped),
    };
    atomic_init(&member->references, 1);
    memcpy(member->storage, text.data, text.length);
    buffer_dispose(&text);
    return member;
}

static size_t member_texts_bytes(const struct presence_member *member) {
    return (size_t)member->id_length + member->id_json_length + member->id_escaped_length + member->info_length;
}

size_t presence_member_bytes(const struct presence_member *member, bool first) {
    size_t bytes = alloc_footprint(sizeof *member + member_texts_bytes(member)) + PLACE_BYTES;

    if (first)
        bytes += alloc_footprint(sizeof(struct member_block)) +
                 alloc_footprint(sizeof(struct member_list) + 2 * sizeof(struct member_block *)) +
                 alloc_footprint(FIRST_BUCKETS * sizeof(struct presence_member *));
    return bytes;
}

void presence_member_unref(struct presence_member *member) {
    if (member != NULL && atomic_fetch_sub_explicit(&member->references, 1, memory_order_acq_rel) == 1)
        free(member);
}

static void member_block_unref(struct member_block *block) {
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < block->count; i++)
        presence_member_unref(block->members[i]);
    free(block);
}

void member_list_unref(struct member_list *list) {
    if (list == NULL || atomic_fetch_sub_explicit(&list->references, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < list->block_count; i++)
        member_block_unref(list->blocks[i]);
    free(list);
}

struct member_list *presence_snapshot(const struct presence_members *members) {
    if (members->list != NULL)
        atomic_fetch_add_explicit(&members->list->references, 1, memory_order_relaxed);
    return members->list;
}

size_t presence_members_bytes(const struct presence_members *members) {
    const struct presence_member *member;
    size_t bytes = 0;

    member_list_each(members->list, member) bytes += presence_member_bytes(member, bytes == 0);
    return bytes;
}

void presence_members_dispose(struct presence_members *members) {
    member_list_unref(members->list);
    for (uint32_t i = 0; i < members->bucket_count; i++) {
        struct presence_member *member = members->buckets[i];
        while (member != NULL) {
            struct presence_member *next = member->next;
            presence_member_unref(member);
            member = next;
        }
    }
    free(members->buckets);
    *members = (struct presence_members){0};
}

/* --- the table by id --- */

uint32_t presence_wants_buckets(const struct presence_members *members) {
    if (presence_count(members) < members->bucket_count)
        return 0;
    return members->bucket_count == 0 ? FIRST_BUCKETS : members->bucket_count * 2;
}

struct presence_member **presence_rehash(struct presence_members *members, struct presence_member **buckets,
                                         uint32_t count) {
    struct presence_member **old = members->buckets;

    for (uint32_t i = 0; i < members->bucket_count; i++) {
        struct presence_member *member = old[i];
        while (member != NULL) {
            struct presence_member *next = member->next;
            struct presence_member **bucket = &buckets[member->hash & (count - 1)];
            member->next = *bucket;
            *bucket = member;
            member = next;
        }
    }
    members->buckets = buckets;
    members->bucket_count = count;
    return old;
}

struct presence_member **presence_take_buckets(struct presence_members *members) {
    struct presence_member **buckets = members->buckets;

    members->buckets = NULL;
    members->bucket_count = 0;
    return buckets;
}

struct presence_member *presence_find(const struct presence_members *members, struct slice id, uint64_t hash) {
    struct presence_member *member;

    if (members->bucket_count == 0)
        return NULL;
    member = members->buckets[hash & (members->bucket_count - 1)];
    while (member != NULL && !(member->hash == hash && slice_equal(presence_member_key(member), id)))
        member = member->next;
    return member;
}

/* --- the list --- */

struct presence_member *presence_last(const struct presence_members *members) {
    const struct member_list *list = members->list;
    const struct member_block *block = list != NULL ? list->blocks[list->block_count - 1] : NULL;

    return block != NULL ? block->members[block->count - 1] : NULL;
}

/* Ensures that the head of the list has no other references and capacity for one more block; copies it if needed. */
static void own_list(struct presence_members *members) {
    struct member_list *old = members->list;
    uint32_t wanted = old != NULL ? old->block_count + 1 : 1;
    struct member_list *list;

    /* References are taken only under this channel's mutex, so a count of one cannot increase now. */
    if (old != NULL && atomic_load_explicit(&old->references, memory_order_acquire) == 1 && old->capacity >= wanted)
        return;
    wanted += wanted / 2;
    list = alloc(sizeof *list + wanted * sizeof list->blocks[0]);
    atomic_init(&list->references, 1);
    list->count = old != NULL ? old->count : 0;
    list->block_count = old != NULL ? old->block_count : 0;
    list->capacity = wanted;
    for (uint32_t i = 0; i < list->block_count; i++) {
        list->blocks[i] = old->blocks[i];
        atomic_fetch_add_explicit(&list->blocks[i]->references, 1, memory_order_relaxed);
    }
    members->list = list;
    member_list_unref(old);
}

/* Ensures that a block of a list that own_list has prepared has no other references; copies it if needed. */
static struct member_block *own_block(struct member_list *list, uint32_t index) {
    struct member_block *old = list->blocks[index];
    struct member_block *block;

    if (atomic_load_explicit(&old->references, memory_order_acquire) == 1)
        return old;
    block = alloc(sizeof *block);
    atomic_init(&block->references, 1);
    block->count = old->count;
    for (uint32_t i = 0; i < block->count; i++) {
        block->members[i] = old->members[i];
        presence_member_ref(block->members[i]);
    }
    list->blocks[index] = block;
    member_block_unref(old);
    return block;
}

void presence_add(struct presence_members *members, struct presence_member *member) {
    struct presence_member **bucket = &members->buckets[member->hash & (members->bucket_count - 1)];
    struct member_block *block;
    struct member_list *list;

    own_list(members);
    list = members->list;
    if (list->count == list->block_count * MEMBERS_PER_BLOCK) {
        block = alloc(sizeof *block);
        atomic_init(&block->references, 1);
        block->count = 0;
        list->blocks[list->block_count++] = block;
    }
    block = own_block(list, list->block_count - 1);
    block->members[block->count++] = member;
    presence_member_ref(member);
    member->position = list->count++;
    member->next = *bucket;
    *bucket = member;
}

void presence_remove(struct presence_members *members, struct presence_member *member) {
    struct presence_member **at = &members->buckets[member->hash & (members->bucket_count - 1)];
    struct member_block *block, *last;
    struct presence_member *moved;
    struct member_list *list;

    while (*at != member)
        at = &(*at)->next;
    *at = member->next;

    own_list(members);
    list = members->list;
    last = own_block(list, list->block_count - 1);
    block = own_block(list, member->position / MEMBERS_PER_BLOCK);
    moved = last->members[--last->count]; /* the list's last member fills the gap */
    if (moved != member) {
        block->members[member->position % MEMBERS_PER_BLOCK] = moved;
        moved->position = member->position;
    }
    presence_member_unref(member); /* the block's reference; the table's goes to the caller */
    list->count--;
    if (last->count == 0) {
        list->block_count--;
        member_block_unref(last);
    }
    if (list->count == 0) {
        members->list = NULL;
        member_list_unref(list);
    }
}

void member_list_append_escaped(const struct member_list *list, struct buffer *out) {
    struct presence_member *member;
    bool first = true;

    buffer_append(out, SLICE("{\\\"presence\\\":{\\\"count\\\":"));
    buffer_append_number(out, list != NULL ? list->count : 0);
    buffer_append(out, SLICE(",\\\"ids\\\":["));
    member_list_each(list, member) {
        if (!first)
            buffer_append_byte(out, ',');
        first = false;
        buffer_append(out, presence_member_id_escaped(member));
    }
    buffer_append(out, SLICE("],\\\"hash\\\":{"));
    first = true;
    member_list_each(list, member) {
        if (!first)
            buffer_append_byte(out, ',');
        first = false;
        buffer_append(out, presence_member_id_escaped(member));
        buffer_append_byte(out, ':');
        buffer_append(out, presence_member_info_escaped(member));
    }
    buffer_append(out, SLICE("}}}"));
}

struct slice presence_member_id(const struct presence_member *member) {
    return (struct slice){member->storage + member->id_length, member->id_json_length};
}

void presence_member_append_info(const struct presence_member *member, struct buffer *out) {
    struct buffer quoted = {0}, storage = {0};
    struct slice escaped = presence_member_info_escaped(member);
    struct json_value value = {JSON_TYPE_STRING, memchr(escaped.data, '\\', escaped.length) != NULL, {0}};

    buffer_append_byte(&quoted, '"');
    buffer_append(&quoted, escaped);
    buffer_append_byte(&quoted, '"');
    value.token = buffer_slice(&quoted);
    buffer_append(out, json_decode_string(value, &storage));
    buffer_dispose(&quoted);
    buffer_dispose(&storage);
}
