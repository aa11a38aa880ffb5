#include "event.h"

#define PUBLISHER_DIGITS 4
#define NUMBER_DIGITS 12
#define TIME_DIGITS 16
#define VARIED 103

static void write_hex(char *text, unsigned digits, uint64_t value) {
    for (unsigned i = digits; i-- > 0; value >>= 4)
        text[i] = "0123456789abcdef"[value & 15];
}

static uint64_t read_hex(const char *text, unsigned digits) {
    uint64_t value = 0;

    for (unsigned i = 0; i < digits; i++)
        value = value << 4 | (uint64_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    return value;
}

void event_write_filler(char *data, size_t length, bool varied) {
    uint64_t state = UINT64_C(0x9E3779B97F4A7C15);

    memset(data, 'x', length);
    for (size_t at = EVENT_HEADER; varied && at < length && at < EVENT_HEADER + VARIED; at++) {
        state ^= state << 13; /* xorshift64 */
        state ^= state >> 7;
        state ^= state << 17;
        data[at] = (char)('a' + state % 26);
    }
}

void event_write(char data[EVENT_HEADER], unsigned publisher, uint64_t number) {
    memcpy(data, EVENT_MARK, EVENT_MARK_LENGTH);
    data += EVENT_MARK_LENGTH;
    write_hex(data, PUBLISHER_DIGITS, publisher);
    write_hex(data + PUBLISHER_DIGITS, NUMBER_DIGITS, number);
}

void event_write_time(char data[EVENT_HEADER], uint64_t time_ns) {
    write_hex(data + EVENT_MARK_LENGTH + PUBLISHER_DIGITS + NUMBER_DIGITS, TIME_DIGITS, time_ns);
}

uint64_t event_time_ns(const char *data) {
    return read_hex(data + EVENT_MARK_LENGTH + PUBLISHER_DIGITS + NUMBER_DIGITS, TIME_DIGITS);
}

void event_identity_parse(struct event_identity identity, unsigned *publisher, uint64_t *number) {
    char text[PUBLISHER_DIGITS + NUMBER_DIGITS];

    memcpy(text, identity.text, sizeof text);
    *publisher = (unsigned)read_hex(text, PUBLISHER_DIGITS);
    *number = read_hex(text + PUBLISHER_DIGITS, NUMBER_DIGITS);
}
