#include "text_frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "harness.h"
#include "net/websocket.h"

bool text_frame_next(struct slice *received, struct slice *text) {
    const uint8_t *data = (const uint8_t *)received->data;
    size_t header = 2, length;

    if (received->length == 0)
        return false;
    assert_true(received->length >= 2);
    assert_int_equal(data[0], 0x81);
    length = data[1];
    if (length == 126) {
        assert_true(received->length >= 4);
        length = (size_t)data[2] << 8 | data[3];
        header = 4;
    } else if (length == 127) {
        assert_true(received->length >= 10);
        length = (size_t)data[6] << 24 | (size_t)data[7] << 16 | (size_t)data[8] << 8 | data[9];
        header = 10;
    }
    assert_true(header + length <= received->length);
    *text = (struct slice){received->data + header, length};
    *received = slice_skip(*received, header + length);
    return true;
}

struct text_frames text_frames_of(struct slice received) {
    struct text_frames frames = {0};
    size_t room = 0;
    struct slice text;

    while (text_frame_next(&received, &text)) {
        if (frames.count == room) {
            room = room * 2 + 64;
            frames.list = alloc_array(frames.list, room, sizeof frames.list[0]);
        }
        frames.list[frames.count++] = text;
    }
    return frames;
}

bool text_frame_receive(int client, struct buffer *in, struct buffer *text) {
    struct slice rest, first;

    text->length = 0;
    harness_receive(client, in);
    rest = buffer_slice(in);
    if (!text_frame_next(&rest, &first))
        return false;
    buffer_append(text, first);
    if (rest.length > 0)
        memmove(in->data, rest.data, rest.length);
    in->length = rest.length;
    return true;
}

void text_frame_append(struct buffer *out, uint8_t opcode, const char *payload) {
    size_t length = strlen(payload);

    buffer_append_byte(out, (char)(0x80 | opcode));
    if (length > 125) {
        buffer_append_byte(out, (char)(0x80 | 126));
        buffer_append_byte(out, (char)(length >> 8));
        buffer_append_byte(out, (char)length);
    } else {
        buffer_append_byte(out, (char)(0x80 | length));
    }
    buffer_append_bytes(out, "\0\0\0\0", 4);
    buffer_append_string(out, payload);
}

void text_frame_send(struct stream *stream, const char *text) {
    struct frame *frame = websocket_text_frame(&(struct slice){text, strlen(text)}, 1);
    struct chunk *chunk = chunk_of_frame(frame);

    stream_send(stream, chunk);
    chunk_unref(chunk);
    frame_unref(frame);
}
