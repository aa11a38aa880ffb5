#include "cluster/redis/redis_value.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"

struct redis_reader {
    redisReader *reader;
    size_t max_bytes;
    size_t held_bytes; /* of the value that is being read */
};

void redis_value_free(struct redis_value *value) {
    if (value == NULL)
        return;
    /* The reader bounds the depth. */
    for (size_t i = 0; i < value->item_count; i++)
        redis_value_free(value->items[i]);
    free(value);
}

struct slice redis_value_item_text(const struct redis_value *value, size_t index) {
    if (value->type != REDIS_ARRAY || index >= value->item_count)
        return (struct slice){0};
    return value->items[index]->text;
}

bool redis_value_begins_with(const struct redis_value *value, const char *word) {
    size_t length = strlen(word);

    return (value->type == REDIS_ERROR || value->type == REDIS_STATUS) && value->text.length >= length &&
           strncasecmp(value->text.data, word, length) == 0;
}

/* --- what hiredis calls to make values; NULL ends the reading --- */

/* Makes a value with `room` bytes behind it, in its place in the array around it. */
static struct redis_value *make_redis_value(const redisReadTask *task, enum redis_type type, size_t room) {
    struct redis_reader *reader = task->privdata;
    size_t size = sizeof(struct redis_value) + room;
    struct redis_value *value;

    if (size > reader->max_bytes - reader->held_bytes)
        return NULL;
    value = calloc(1, size);
    if (value == NULL)
        return NULL;
    reader->held_bytes += size;
    value->type = type;
    if (task->parent != NULL) {
        struct redis_value *parent = task->parent->obj;
        parent->items[task->idx] = value;
    }
    return value;
}

static void *make_redis_text(const redisReadTask *task, char *text, size_t length) {
    enum redis_type type = task->type == REDIS_REPLY_STRING   ? REDIS_TEXT
                           : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
                                                              : REDIS_ERROR;
    struct redis_reader *reader = task->privdata;
    struct redis_value *value = length < reader->max_bytes ? make_redis_value(task, type, length + 1) : NULL;

    if (value == NULL)
        return NULL;
    memcpy(value->items, text, length);
    value->text = (struct slice){(const char *)value->items, length};
    return value;
}

#if HIREDIS_MAJOR >= 1
static void *make_redis_array(const redisReadTask *task, size_t count) {
#else
static void *make_redis_array(const redisReadTask *task, int given) {
    size_t count = given < 0 ? SIZE_MAX : (size_t)given;
#endif
    struct redis_value *value =
        count <= REDIS_ITEMS_MAX ? make_redis_value(task, REDIS_ARRAY, count * sizeof(struct redis_value *)) : NULL;

    /* free() of a value that is not whole skips the items that are missing. */
    if (value != NULL)
        value->item_count = count;
    return value;
}

static void *make_redis_integer(const redisReadTask *task, long long integer) {
    struct redis_value *value = make_redis_value(task, REDIS_INTEGER, 0);

    if (value != NULL)
        value->integer = integer;
    return value;
}

static void *make_redis_nil(const redisReadTask *task) {
    return make_redis_value(task, REDIS_NIL, 0);
}

static void free_redis_object(void *value) {
    redis_value_free(value);
}

#if HIREDIS_MAJOR >= 1
/* Types of RESP3, which nobody asked for. */
static void *refuse_redis_double(const redisReadTask *task, double value, char *text, size_t length) {
    (void)task;
    (void)value;
    (void)text;
    (void)length;
    return NULL;
}

static void *refuse_redis_bool(const redisReadTask *task, int value) {
    (void)task;
    (void)value;
    return NULL;
}
#endif

static redisReplyObjectFunctions value_functions = {
    .createString = make_redis_text,
    .createArray = make_redis_array,
    .createInteger = make_redis_integer,
#if HIREDIS_MAJOR >= 1
    .createDouble = refuse_redis_double,
    .createBool = refuse_redis_bool,
#endif
    .createNil = make_redis_nil,
    .freeObject = free_redis_object,
};

/* --- the reader --- */

struct redis_reader *redis_reader_create(size_t max_bytes) {
    struct redis_reader *reader = alloc_zero(sizeof *reader);

    reader->max_bytes = max_bytes;
    reader->reader = redisReaderCreateWithFunctions(&value_functions);
    if (reader->reader != NULL)
        reader->reader->privdata = reader;
    return reader;
}

void redis_reader_destroy(struct redis_reader *reader) {
    if (reader == NULL)
        return;
    if (reader->reader != NULL)
        redisReaderFree(reader->reader);
    free(reader);
}

bool redis_reader_feed(struct redis_reader *reader, struct slice bytes, struct error *error) {
    if (reader->reader == NULL || redisReaderFeed(reader->reader, bytes.data, bytes.length) != 0)
        return error_set(error, "there is no memory for what it sent");
    return true;
}

bool redis_reader_next(struct redis_reader *reader, struct redis_value **value, struct error *error) {
    void *found = NULL;

    *value = NULL;
    if (redisReaderGetReply(reader->reader, &found) != 0)
        return error_set(error, "it sent what is not of the protocol RESP2, or too much at once: %.120s",
                         reader->reader->errstr);
    if (found != NULL)
        reader->held_bytes = 0;
    else if (reader->reader->len - reader->reader->pos > reader->max_bytes)
        return error_set(error, "it sent a value of more than %zu bytes", reader->max_bytes);
    *value = found;
    return true;
}
