#include "webhook/spool_record.h"

#include <endian.h>
#include <zlib.h>

#define HEAD_BYTES 8

void spool_append_number(struct buffer *file, uint64_t number) {
    uint64_t little = htole64(number);

    buffer_append_bytes(file, &little, sizeof little);
}

uint64_t spool_number_at(const char *bytes) {
    uint64_t little;

    memcpy(&little, bytes, sizeof little);
    return le64toh(little);
}

static uint32_t checksum_of(const char *bytes, size_t length) {
    return (uint32_t)crc32_z(0, (const Bytef *)bytes, length);
}

void spool_record_append(struct buffer *file, const struct spool_record *record) {
    size_t start = file->length;
    uint32_t head[2] = {0};
    uint16_t id_length = htole16((uint16_t)record->app_id.length);
    uint32_t count = htole32((uint32_t)(record->event_numbers.length / 8));

    buffer_append_bytes(file, head, sizeof head);
    buffer_append_byte(file, (char)record->type);
    spool_append_number(file, record->number);
    if (record->type != SPOOL_DONE) {
        spool_append_number(file, record->wall_ms);
        buffer_append_byte(file, (char)record->lanes);
        buffer_append_bytes(file, record->target, SPOOL_TARGET_BYTES);
        buffer_append_bytes(file, &id_length, sizeof id_length);
        buffer_append(file, record->app_id);
    }
    if (record->type == SPOOL_BATCH) {
        buffer_append_bytes(file, &count, sizeof count);
        buffer_append(file, record->event_numbers);
    }
    buffer_append(file, record->text);
    head[0] = htole32((uint32_t)(file->length - start - HEAD_BYTES));
    head[1] = htole32(checksum_of(file->data + start + HEAD_BYTES, file->length - start - HEAD_BYTES));
    memcpy(file->data + start, head, sizeof head);
}

/* Takes `length` bytes from the front; false if there are fewer. */
static bool take_record_bytes(struct slice *rest, size_t length, struct slice *taken) {
    if (rest->length < length)
        return false;
    *taken = (struct slice){rest->data, length};
    *rest = slice_skip(*rest, length);
    return true;
}

static bool take_spool_number(struct slice *rest, uint64_t *number) {
    struct slice bytes;

    if (!take_record_bytes(rest, 8, &bytes))
        return false;
    *number = spool_number_at(bytes.data);
    return true;
}

/* Reads what events and batches have in common. */
static bool read_place(struct slice *rest, struct spool_record *record) {
    struct slice lanes, target, length;
    uint16_t id_length;

    if (!take_spool_number(rest, &record->wall_ms) || !take_record_bytes(rest, 1, &lanes) ||
        !take_record_bytes(rest, SPOOL_TARGET_BYTES, &target) || !take_record_bytes(rest, 2, &length))
        return false;
    record->lanes = (uint8_t)lanes.data[0];
    memcpy(record->target, target.data, SPOOL_TARGET_BYTES);
    memcpy(&id_length, length.data, sizeof id_length);
    return take_record_bytes(rest, le16toh(id_length), &record->app_id);
}

static bool read_batch_events(struct slice *rest, struct spool_record *record) {
    struct slice bytes;
    uint32_t count;

    if (!take_record_bytes(rest, 4, &bytes))
        return false;
    memcpy(&count, bytes.data, sizeof count);
    return take_record_bytes(rest, (size_t)le32toh(count) * 8, &record->event_numbers);
}

static bool read_payload(struct slice payload, struct spool_record *record) {
    struct slice type;

    *record = (struct spool_record){0};
    if (!take_record_bytes(&payload, 1, &type) || !take_spool_number(&payload, &record->number))
        return false;
    record->type = (enum spool_type)type.data[0];
    if (record->type == SPOOL_DONE)
        return payload.length == 0;
    if (record->type != SPOOL_EVENT && record->type != SPOOL_BATCH)
        return false;
    if (!read_place(&payload, record) || (record->type == SPOOL_BATCH && !read_batch_events(&payload, record)))
        return false;
    record->text = payload;
    return true;
}

bool spool_record_read(struct slice *rest, struct spool_record *record) {
    struct slice at = *rest, head_bytes, payload;
    uint32_t head[2];

    if (!take_record_bytes(&at, HEAD_BYTES, &head_bytes))
        return false;
    memcpy(head, head_bytes.data, sizeof head);
    if (!take_record_bytes(&at, le32toh(head[0]), &payload) ||
        le32toh(head[1]) != checksum_of(payload.data, payload.length) || !read_payload(payload, record))
        return false;
    *rest = at;
    return true;
}

size_t spool_record_events(const struct spool_record *record) {
    return record->type == SPOOL_BATCH ? record->event_numbers.length / 8 : 1;
}

bool spool_magic_read(struct slice *rest) {
    const struct slice magic = SLICE(SPOOL_MAGIC);

    if (!slice_starts_with(*rest, magic))
        return false;
    *rest = slice_skip(*rest, magic.length);
    return true;
}
