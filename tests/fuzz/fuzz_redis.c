/*
 * What a Redis may send: values, read in two parts, as answers to a login, to ROLE and to CLUSTER SLOTS. The first byte
 * says where the parts meet and who logs in. What is read is said as a command of ours, and read again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/redis/redis_login.h"
#include "cluster/redis/redis_output.h"
#include "cluster/redis/redis_topology.h"
#include "cluster/redis/redis_value.h"
#include "memory_socket.h"

#define VALUE_BYTES 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const struct redis_value *value) {
    MUST(value->type == REDIS_ARRAY || value->item_count == 0);
    MUST(value->text.data == NULL || value->text.data[value->text.length] == '\0');
    for (size_t i = 0; i < value->item_count; i++) {
        MUST(redis_value_item_text(value, i).data == value->items[i]->text.data);
        check_value(value->items[i]);
    }
    MUST(redis_value_item_text(value, value->item_count).length == 0);
}

/* The texts of an array arrive as they are. */
static void say_again(const struct redis_value *value) {
    struct redis_reader *reader = redis_reader_create(4 * VALUE_BYTES);
    struct redis_output output = {0};
    struct redis_value *again = NULL;
    struct iovec part;

    redis_output_command(&output, value->item_count);
    for (size_t i = 0; i < value->item_count; i++)
        redis_output_word(&output, redis_value_item_text(value, i));
    while (redis_output_parts(&output, &part, 1) > 0) {
        MUST(redis_reader_feed(reader, (struct slice){part.iov_base, part.iov_len}, NULL));
        redis_output_written(&output, part.iov_len);
    }
    MUST(redis_reader_next(reader, &again, NULL));
    MUST(again != NULL && again->item_count == value->item_count);
    for (size_t i = 0; i < value->item_count; i++)
        MUST(slice_equal(redis_value_item_text(again, i), redis_value_item_text(value, i)));
    redis_value_free(again);
    redis_reader_destroy(reader);
}

/* Takes the value for an answer to CLUSTER SLOTS: each slot has a master then. */
static void read_topology(const struct redis_value *value) {
    const struct redis_place asked = {"localhost", 6379};
    struct redis_topology topology = {0};
    struct error error = {0};

    if (!redis_topology_read(&topology, value, &asked, &error)) {
        MUST(error.text[0] != '\0' && topology.masters == NULL);
        return;
    }
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++)
        MUST(topology.owners[slot] < topology.master_count);
    redis_topology_dispose(&topology);
}

/* False: nothing more can be read. */
static bool read_values(struct redis_reader *reader, const struct redis_access *access, struct redis_login *login,
                        bool *logged_in) {
    struct redis_value *value;
    struct error error;

    while (redis_reader_next(reader, &value, &error)) {
        if (value == NULL)
            return true;
        check_value(value);
        if (!*logged_in)
            *logged_in = redis_login_answer(login, access, value, &error) != REDIS_LOGIN_GOES_ON;
        redis_role_is_master(value, &error);
        read_topology(value);
        if (value->type == REDIS_ARRAY)
            say_again(value);
        redis_value_free(value);
    }
    MUST(error.text[0] != '\0');
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t first = size > 0 ? data[0] : 0;
    const struct redis_access access = {.key = "database.redis",
                                        .label = "fuzz",
                                        .username = first & 1 ? "user" : NULL,
                                        .password = first & 2 ? "password" : NULL,
                                        .db = first & 4,
                                        .master_only = (first & 8) != 0};
    struct redis_reader *reader = redis_reader_create(VALUE_BYTES);
    struct redis_output output = {0};
    struct redis_login login = {0};
    bool logged_in = false;
    size_t half;

    size = size > 0 ? size - 1 : 0;
    half = size * (first >> 4) / 16;
    redis_login_begin(&login, &access, &output);
    redis_output_dispose(&output);
    if (redis_reader_feed(reader, (struct slice){(const char *)data + 1, half}, NULL) &&
        read_values(reader, &access, &login, &logged_in) &&
        redis_reader_feed(reader, (struct slice){(const char *)data + 1 + half, size - half}, NULL))
        read_values(reader, &access, &login, &logged_in);
    redis_reader_destroy(reader);
    return 0;
}
