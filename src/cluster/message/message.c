#include "cluster/message/message.h"

#include <string.h>

#include "app/app.h"
#include "base/alloc.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/utf8.h"
#include "channel/channel_name.h"

/* --- the fields of each kind --- */

enum field_form { FORM_NUMBER, FORM_VERSION, FORM_FLAG, FORM_TEXT, FORM_LIST };

/* What a text must be. */
enum field_text {
    TEXT_BYTES,      /* anything */
    TEXT_UTF8,       /* may be empty */
    TEXT_APP,        /* the id or key of an app */
    TEXT_NO_APP,     /* the same, or empty */
    TEXT_CHANNEL,    /* the name of a channel */
    TEXT_USER,       /* the id of a user */
    TEXT_NO_CHANNEL, /* the same as these two, or empty */
    TEXT_NO_USER,
    TEXT_STRING,    /* a JSON string */
    TEXT_JSON,      /* any JSON */
    TEXT_NO_STRING, /* the same as these two, or empty */
    TEXT_NO_JSON,
};

struct field {
    enum field_form form;
    enum field_text text;
    size_t offset, size; /* in the structure */
    const struct fields *element;
    const char *name;
};

struct fields {
    const struct field *list;
    unsigned count;
};

#define NUMBER(structure, member)                                                                                      \
    {                                                                                                                  \
        FORM_NUMBER, TEXT_BYTES, offsetof(struct structure, member), sizeof((struct structure *)0)->member, NULL,      \
            #member                                                                                                    \
    }
#define VERSION(structure, member)                                                                                     \
    { FORM_VERSION, TEXT_BYTES, offsetof(struct structure, member), sizeof(uint64_t), NULL, #member }
#define FLAG(structure, member)                                                                                        \
    { FORM_FLAG, TEXT_BYTES, offsetof(struct structure, member), sizeof(bool), NULL, #member }
#define TEXT(structure, member, what)                                                                                  \
    { FORM_TEXT, TEXT_##what, offsetof(struct structure, member), sizeof(struct slice), NULL, #member }
#define LIST(structure, member, elements)                                                                              \
    { FORM_LIST, TEXT_BYTES, offsetof(struct structure, member), sizeof(struct slice), &(elements), #member }
#define FIELDS(rows)                                                                                                   \
    { rows, sizeof(rows) / sizeof(rows)[0] }

static const struct field quota_rows[] = {TEXT(message_quota, app, APP), NUMBER(message_quota, connections)};
static const struct fields quota_fields = FIELDS(quota_rows);

static const struct field place_rows[] = {TEXT(message_place, app, APP), TEXT(message_place, channel, CHANNEL)};
static const struct fields place_fields = FIELDS(place_rows);

static const struct field member_rows[] = {
    TEXT(message_member, id, UTF8),
    TEXT(message_member, info, NO_JSON),
    NUMBER(message_member, since_ms),
};
static const struct fields member_fields = FIELDS(member_rows);

static const struct field set_rows[] = {
    TEXT(message_set, app, APP),
    TEXT(message_set, channel, CHANNEL),
    VERSION(message_set, version),
    FLAG(message_set, occupied),
    FLAG(message_set, begins),
    FLAG(message_set, ends),
    LIST(message_set, members, member_fields),
    VERSION(message_set, count_version),
    NUMBER(message_set, count),
    TEXT(message_set, name, NO_STRING),
    TEXT(message_set, data, NO_JSON),
    NUMBER(message_set, publisher.high),
    NUMBER(message_set, publisher.low),
    NUMBER(message_set, published_ms),
    NUMBER(message_set, left_ms),
};
static const struct fields set_fields = FIELDS(set_rows);

static const struct field digest_entry_rows[] = {
    NUMBER(message_digest_entry, channel_hash),
    VERSION(message_digest_entry, version),
};
static const struct fields digest_entry_fields = FIELDS(digest_entry_rows);

static const struct field app_change_rows[] = {
    TEXT(message_app_change, app, APP),
    TEXT(message_app_change, old_key, NO_APP),
    TEXT(message_app_change, new_key, NO_APP),
    FLAG(message_app_change, meant),
};
static const struct fields app_change_fields = FIELDS(app_change_rows);

static const struct field roster_item_rows[] = {
    NUMBER(roster_item, type),        TEXT(roster_item, app, NO_APP), TEXT(roster_item, channel, NO_CHANNEL),
    TEXT(roster_item, user, NO_USER), NUMBER(roster_item, number),
};
static const struct fields roster_item_fields = FIELDS(roster_item_rows);

static const struct field hello_rows[] = {
    NUMBER(message_hello, versions.lowest), NUMBER(message_hello, versions.highest),
    NUMBER(message_hello, replaces.high),   NUMBER(message_hello, replaces.low),
    TEXT(message_hello, name, UTF8),        TEXT(message_hello, address, UTF8),
    NUMBER(message_hello, since_ms),        NUMBER(message_hello, connections),
    NUMBER(message_hello, channels),        NUMBER(message_hello, load_permille),
    NUMBER(message_hello, quotas.whole),    NUMBER(message_hello, quotas.part),
    FLAG(message_hello, quotas.last),       LIST(message_hello, quotas.apps, quota_fields),
};
static const struct field heartbeat_rows[] = {
    NUMBER(message_heartbeat, connections),
    NUMBER(message_heartbeat, channels),
    NUMBER(message_heartbeat, load_permille),
};
static const struct field dead_rows[] = {NUMBER(message_dead, id.high), NUMBER(message_dead, id.low)};
static const struct field event_rows[] = {
    TEXT(message_event, app, APP),
    TEXT(message_event, channel, CHANNEL),
    TEXT(message_event, name, STRING),
    TEXT(message_event, data, JSON),
    TEXT(message_event, user_id, NO_STRING),
    TEXT(message_event, tags, UTF8),
    FLAG(message_event, keep),
    FLAG(message_event, whole),
    FLAG(message_event, has_except),
    NUMBER(message_event, except[0]),
    NUMBER(message_event, except[1]),
    NUMBER(message_event, published_ms),
    NUMBER(message_event, left_ms),
};
static const struct field terminate_rows[] = {
    TEXT(message_terminate, app, APP),
    TEXT(message_terminate, user_id, USER),
    FLAG(message_terminate, reconnect),
    NUMBER(message_terminate, waited_ms),
};
static const struct field change_rows[] = {
    TEXT(message_change, app, APP),      TEXT(message_change, channel, CHANNEL),
    VERSION(message_change, version),    VERSION(message_change, before),
    FLAG(message_change, added),         FLAG(message_change, empties),
    FLAG(message_change, known_already), TEXT(message_change, id, UTF8),
    TEXT(message_change, info, NO_JSON), NUMBER(message_change, since_ms),
};
static const struct field count_rows[] = {
    TEXT(message_count, app, APP),
    TEXT(message_count, channel, CHANNEL),
    VERSION(message_count, version),
    NUMBER(message_count, count),
};
static const struct field told_rows[] = {
    TEXT(message_told, app, APP),
    TEXT(message_told, channel, CHANNEL),
    VERSION(message_told, version),
};
static const struct field state_request_rows[] = {
    NUMBER(message_state_request, request),
    NUMBER(message_state_request, credit),
    LIST(message_state_request, places, place_fields),
};
static const struct field state_part_rows[] = {
    NUMBER(message_state_part, request),
    NUMBER(message_state_part, part),
    FLAG(message_state_part, last),
    LIST(message_state_part, sets, set_fields),
    LIST(message_state_part, empty, digest_entry_fields),
};
static const struct field state_credit_rows[] = {
    NUMBER(message_state_credit, request),
    NUMBER(message_state_credit, bytes),
};
static const struct field digest_rows[] = {
    NUMBER(message_digest, request),
    NUMBER(message_digest, credit),
    FLAG(message_digest, returned),
    LIST(message_digest, entries, digest_entry_fields),
};
static const struct field probe_rows[] = {NUMBER(message_probe, request)};
static const struct field quotas_rows[] = {
    NUMBER(message_quotas, whole),
    NUMBER(message_quotas, part),
    FLAG(message_quotas, last),
    LIST(message_quotas, apps, quota_fields),
};
static const struct field app_changes_rows[] = {LIST(message_app_changes, apps, app_change_fields)};
static const struct field roster_rows[] = {
    NUMBER(message_roster, number),
    FLAG(message_roster, begins),
    LIST(message_roster, items, roster_item_fields),
};
static const struct field api_request_rows[] = {
    NUMBER(message_api_request, request),
    NUMBER(message_api_request, operation),
    TEXT(message_api_request, app, NO_APP),
    TEXT(message_api_request, payload, BYTES),
};
static const struct field api_answer_rows[] = {
    NUMBER(message_api_answer, request), NUMBER(message_api_answer, part),         FLAG(message_api_answer, last),
    NUMBER(message_api_answer, status),  TEXT(message_api_answer, payload, BYTES),
};

#define NO_LIMIT true

static const struct {
    const char *name; /* NULL: there is no such kind */
    struct fields fields;
    bool no_limit; /* one element may be larger than MESSAGE_BYTES_MAX */
} kinds[MESSAGE_KINDS] = {
    [MESSAGE_HELLO] = {"hello", FIELDS(hello_rows), false},
    [MESSAGE_HELLO_ANSWER] = {"hello_answer", FIELDS(hello_rows), false},
    [MESSAGE_HEARTBEAT] = {"heartbeat", FIELDS(heartbeat_rows), false},
    [MESSAGE_BYE] = {"bye", {NULL, 0}, false},
    [MESSAGE_DEAD] = {"dead", FIELDS(dead_rows), false},
    [MESSAGE_EVENT] = {"event", FIELDS(event_rows), NO_LIMIT},
    [MESSAGE_TERMINATE] = {"terminate", FIELDS(terminate_rows), false},
    [MESSAGE_CHANGE] = {"change", FIELDS(change_rows), NO_LIMIT},
    [MESSAGE_COUNT] = {"count", FIELDS(count_rows), false},
    [MESSAGE_TOLD] = {"told", FIELDS(told_rows), false},
    [MESSAGE_STATE_REQUEST] = {"state_request", FIELDS(state_request_rows), false},
    [MESSAGE_STATE_PART] = {"state_part", FIELDS(state_part_rows), NO_LIMIT},
    [MESSAGE_STATE_CREDIT] = {"state_credit", FIELDS(state_credit_rows), false},
    [MESSAGE_GAP_REQUEST] = {"gap_request", FIELDS(state_request_rows), false},
    [MESSAGE_DIGEST] = {"digest", FIELDS(digest_rows), false},
    [MESSAGE_PROBE] = {"probe", FIELDS(probe_rows), false},
    [MESSAGE_PROBE_ANSWER] = {"probe_answer", FIELDS(probe_rows), false},
    [MESSAGE_QUOTAS] = {"quotas", FIELDS(quotas_rows), false},
    [MESSAGE_APP_CHANGES] = {"app_changes", FIELDS(app_changes_rows), false},
    [MESSAGE_ROSTER] = {"roster", FIELDS(roster_rows), false},
    [MESSAGE_ROSTER_ASK] = {"roster_ask", {NULL, 0}, false},
    [MESSAGE_API_REQUEST] = {"api_request", FIELDS(api_request_rows), false},
    [MESSAGE_API_ANSWER] = {"api_answer", FIELDS(api_answer_rows), false},
};

const char *message_kind_name(unsigned kind) {
    return kind < MESSAGE_KINDS && kinds[kind].name != NULL ? kinds[kind].name : "unknown";
}

/* --- writing --- */

static char *write_number(char *at, uint64_t number, size_t bytes) {
    while (bytes-- != 0)
        *at++ = (char)(number >> (8 * bytes));
    return at;
}

static uint64_t member_number(const void *member, size_t size) {
    switch (size) {
    case 1:
        return *(const uint8_t *)member;
    case 4:
        return *(const uint32_t *)member;
    default:
        return *(const uint64_t *)member;
    }
}

static size_t fields_size(const struct fields *fields, const void *object) {
    size_t size = 0;

    for (unsigned i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];

        if (field->form <= FORM_FLAG)
            size += field->size;
        else
            size += 4 + ((const struct slice *)((const char *)object + field->offset))->length;
    }
    return size;
}

static char *write_fields(char *at, const struct fields *fields, const void *object) {
    for (unsigned i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        const void *member = (const char *)object + field->offset;
        const struct slice *text = member;

        if (field->form == FORM_FLAG) {
            *at++ = *(const bool *)member ? 1 : 0;
        } else if (field->form < FORM_FLAG) {
            at = write_number(at, member_number(member, field->size), field->size);
        } else {
            at = write_number(at, text->length, 4);
            if (text->length != 0)
                memcpy(at, text->data, text->length);
            at += text->length;
        }
    }
    return at;
}

struct bus_bytes *message_encode(const struct cluster_message *message) {
    const struct fields *fields = &kinds[message->kind].fields;
    size_t length = fields_size(fields, &message->hello);
    struct bus_bytes *bytes = bus_bytes_create(MESSAGE_HEADER_BYTES + length);
    char *at;

    if (bytes == NULL)
        return NULL;
    at = bytes->data;
    *at++ = (char)message->version;
    *at++ = (char)message->kind;
    at = write_number(at, length, 4);
    message_seal(bytes, message->sender, message->number);
    write_fields(at + 24, fields, &message->hello);
    return bytes;
}

void message_seal(struct bus_bytes *bytes, struct node_id sender, uint64_t number) {
    char *at = bytes->data + 6;

    at = write_number(at, sender.high, 8);
    at = write_number(at, sender.low, 8);
    write_number(at, number, 8);
}

static bool take_wire_number(struct slice *rest, size_t bytes, uint64_t *number) {
    if (rest->length < bytes)
        return false;
    *number = 0;
    for (size_t i = 0; i < bytes; i++)
        *number = *number << 8 | (unsigned char)rest->data[i];
    *rest = slice_skip(*rest, bytes);
    return true;
}

static bool take_wire_text(struct slice *rest, struct slice *text) {
    uint64_t length;

    if (!take_wire_number(rest, 4, &length) || length > rest->length)
        return false;
    *text = (struct slice){rest->data, (size_t)length};
    *rest = slice_skip(*rest, (size_t)length);
    return true;
}

/* Finds a number of a body that this program has encoded. */
static char *encoded_number(struct bus_bytes *bytes, size_t offset) {
    const struct fields *fields = &kinds[(unsigned char)bytes->data[1]].fields;
    struct slice rest = {bytes->data + MESSAGE_HEADER_BYTES, bytes->length - MESSAGE_HEADER_BYTES}, text;

    for (unsigned i = 0; i < fields->count && fields->list[i].offset != offset; i++)
        if (fields->list[i].form <= FORM_FLAG)
            rest = slice_skip(rest, fields->list[i].size);
        else
            take_wire_text(&rest, &text);
    return bytes->data + bytes->length - rest.length;
}

void message_note_wait(struct bus_bytes *bytes, uint64_t waited_ms) {
    struct slice rest;
    uint64_t left_ms;
    char *at;

    switch ((unsigned char)bytes->data[1]) {
    case MESSAGE_TERMINATE:
        write_number(encoded_number(bytes, offsetof(struct message_terminate, waited_ms)), waited_ms, 8);
        break;
    case MESSAGE_EVENT:
        at = encoded_number(bytes, offsetof(struct message_event, left_ms));
        rest = (struct slice){at, 8};
        take_wire_number(&rest, 8, &left_ms);
        if (left_ms != 0)
            write_number(at, left_ms > waited_ms ? left_ms - waited_ms : 1, 8);
        break;
    default:
        break;
    }
}

static void add_element(struct buffer *list, const struct fields *fields, const void *element) {
    size_t size = fields_size(fields, element);
    char *at;

    buffer_reserve(list, 4 + size);
    at = write_number(list->data + list->length, size, 4);
    write_fields(at, fields, element);
    list->length += 4 + size;
}

/* --- reading --- */

static bool is_json(struct slice text, bool only_string) {
    struct json_value value;

    return utf8_valid(text) && json_scan(text, &value, NULL) && (!only_string || value.type == JSON_TYPE_STRING) &&
           value.token.length == text.length;
}

static bool text_is_valid(struct slice text, enum field_text what) {
    switch (what) {
    case TEXT_BYTES:
        return true;
    case TEXT_UTF8:
        return utf8_valid(text);
    case TEXT_APP:
        return app_name_valid(text);
    case TEXT_NO_APP:
        return text.length == 0 || app_name_valid(text);
    case TEXT_CHANNEL:
        return channel_name_valid(text) && utf8_valid(text);
    case TEXT_USER:
        return text.length != 0 && text.length <= USER_ID_MAX && utf8_valid(text);
    case TEXT_NO_CHANNEL:
        return text.length == 0 || text_is_valid(text, TEXT_CHANNEL);
    case TEXT_NO_USER:
        return text.length == 0 || text_is_valid(text, TEXT_USER);
    case TEXT_STRING:
        return is_json(text, true);
    case TEXT_JSON:
        return is_json(text, false);
    case TEXT_NO_STRING:
        return text.length == 0 || is_json(text, true);
    case TEXT_NO_JSON:
        return text.length == 0 || is_json(text, false);
    }
    return false;
}

static void set_member_number(void *member, size_t size, uint64_t number) {
    switch (size) {
    case 1:
        *(uint8_t *)member = (uint8_t)number;
        break;
    case 4:
        *(uint32_t *)member = (uint32_t)number;
        break;
    default:
        *(uint64_t *)member = number;
    }
}

static uint64_t highest_number(const struct field *field) {
    if (field->form == FORM_FLAG)
        return 1;
    return field->form == FORM_VERSION ? MESSAGE_SET_VERSION_MAX : UINT64_MAX;
}

static bool take_number_field(struct slice *rest, const struct field *field, void *member) {
    uint64_t number;

    if (!take_wire_number(rest, field->size, &number) || number > highest_number(field))
        return false;
    if (member != NULL && field->form == FORM_FLAG)
        *(bool *)member = number == 1;
    else if (member != NULL)
        set_member_number(member, field->size, number);
    return true;
}

static bool read_fields(struct slice rest, const struct fields *fields, void *object, bool checked,
                        struct error *error);

/* Lists are in lists once at most. */
static bool list_is_valid(struct slice list, const struct fields *element, struct error *error) {
    struct slice bytes;

    while (list.length != 0)
        if (!take_wire_text(&list, &bytes))
            return error_set(error, "an element is longer than its list");
        else if (!read_fields(bytes, element, NULL, false, error))
            return false;
    return true;
}

/* Reads fields into `object`, which may be NULL. `checked`: the texts were checked before. What follows the last field
 * is from a later program, and skipped. */
static bool read_fields(struct slice rest, const struct fields *fields, void *object, bool checked,
                        struct error *error) {
    for (unsigned i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        void *member = object != NULL ? (char *)object + field->offset : NULL;
        struct slice text;

        if (field->form <= FORM_FLAG) {
            if (!take_number_field(&rest, field, member))
                return error_set(error, "the field \"%s\" is missing or wrong", field->name);
            continue;
        }
        if (!take_wire_text(&rest, &text))
            return error_set(error, "the field \"%s\" is longer than its message", field->name);
        if (member != NULL)
            *(struct slice *)member = text;
        if (checked)
            continue;
        if (field->form == FORM_LIST) {
            if (!list_is_valid(text, field->element, error))
                return error_prefix(error, "in the field \"%s\"", field->name);
        } else if (!text_is_valid(text, field->text)) {
            return error_set(error, "the field \"%s\" is no valid text", field->name);
        }
    }
    return true;
}

bool message_decode_header(struct slice payload, struct cluster_message *message) {
    struct slice rest = payload;
    uint64_t version, kind, length;

    if (!take_wire_number(&rest, 1, &version) || !take_wire_number(&rest, 1, &kind) ||
        !take_wire_number(&rest, 4, &length) || !take_wire_number(&rest, 8, &message->sender.high) ||
        !take_wire_number(&rest, 8, &message->sender.low) || !take_wire_number(&rest, 8, &message->number))
        return false;
    message->version = (uint8_t)version;
    message->kind = (enum message_kind)kind;
    return length == rest.length && version != 0 && !node_id_is_none(message->sender);
}

static bool version_is_spoken(const struct cluster_message *message) {
    const struct message_versions own = message_versions_own();

    return message->kind == MESSAGE_HELLO || message->kind == MESSAGE_HELLO_ANSWER ||
           (message->version >= own.lowest && message->version <= own.highest);
}

static bool hello_is_valid(const struct message_hello *hello, struct error *error) {
    if (hello->versions.lowest == 0 || hello->versions.lowest > hello->versions.highest)
        return error_set(error, "the versions are %u to %u", hello->versions.lowest, hello->versions.highest);
    return true;
}

enum message_result message_decode(struct slice payload, struct cluster_message *message, struct error *error) {
    *message = (struct cluster_message){0};
    if (!message_decode_header(payload, message)) {
        error_set(error, "a message of %zu bytes has no valid header", payload.length);
        return MESSAGE_BROKEN;
    }
    if (!version_is_spoken(message))
        return MESSAGE_OTHER_VERSION;
    if (message->kind >= MESSAGE_KINDS || kinds[message->kind].name == NULL)
        return MESSAGE_UNKNOWN;
    if (payload.length > MESSAGE_BYTES_MAX && !kinds[message->kind].no_limit)
        error_set(error, "it has %zu bytes, and may have %d", payload.length, MESSAGE_BYTES_MAX);
    else if (read_fields(slice_skip(payload, MESSAGE_HEADER_BYTES), &kinds[message->kind].fields, &message->hello,
                         false, error) &&
             (message->kind > MESSAGE_HELLO_ANSWER || hello_is_valid(&message->hello, error)))
        return MESSAGE_GOOD;
    error_prefix(error, "a message of the kind \"%s\" is broken", kinds[message->kind].name);
    return MESSAGE_BROKEN;
}

static bool next_element(struct slice *list, const struct fields *fields, void *element) {
    struct slice bytes;

    return take_wire_text(list, &bytes) && read_fields(bytes, fields, element, true, NULL);
}

/* --- elements of lists --- */

void message_add_quota(struct buffer *list, const struct message_quota *quota) {
    add_element(list, &quota_fields, quota);
}

bool message_next_quota(struct slice *list, struct message_quota *quota) {
    return next_element(list, &quota_fields, quota);
}

void message_add_place(struct buffer *list, const struct message_place *place) {
    add_element(list, &place_fields, place);
}

bool message_next_place(struct slice *list, struct message_place *place) {
    return next_element(list, &place_fields, place);
}

void message_add_set(struct buffer *list, const struct message_set *set) {
    add_element(list, &set_fields, set);
}

bool message_next_set(struct slice *list, struct message_set *set) {
    return next_element(list, &set_fields, set);
}

void message_add_member(struct buffer *list, const struct message_member *member) {
    add_element(list, &member_fields, member);
}

bool message_next_member(struct slice *list, struct message_member *member) {
    return next_element(list, &member_fields, member);
}

void message_add_digest(struct buffer *list, const struct message_digest_entry *entry) {
    add_element(list, &digest_entry_fields, entry);
}

bool message_next_digest(struct slice *list, struct message_digest_entry *entry) {
    return next_element(list, &digest_entry_fields, entry);
}

void message_add_roster_item(struct buffer *list, const struct roster_item *item) {
    add_element(list, &roster_item_fields, item);
}

bool message_next_roster_item(struct slice *list, struct roster_item *item) {
    return next_element(list, &roster_item_fields, item);
}

void message_add_app_change(struct buffer *list, const struct message_app_change *change) {
    add_element(list, &app_change_fields, change);
}

bool message_next_app_change(struct slice *list, struct message_app_change *change) {
    return next_element(list, &app_change_fields, change);
}

/* --- versions, channels --- */

bool message_versions_narrow(struct message_versions *common, struct message_versions node) {
    struct message_versions both = {
        common->lowest > node.lowest ? common->lowest : node.lowest,
        common->highest < node.highest ? common->highest : node.highest,
    };

    if (both.lowest > both.highest)
        return false;
    *common = both;
    return true;
}

uint64_t message_channel_hash(struct slice app, struct slice channel) {
    struct buffer text = {0};
    char hex[SHA256_HEX];
    uint64_t hash = 0;

    buffer_append(&text, app);
    buffer_append_byte(&text, '\0');
    buffer_append(&text, channel);
    sha256_hex(buffer_slice(&text), hex);
    buffer_dispose(&text);
    for (unsigned i = 0; i < 16; i++)
        hash = hash << 4 | (uint64_t)hex_digit_value(hex[i]);
    return hash;
}
