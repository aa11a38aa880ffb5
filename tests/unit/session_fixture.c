#include "session_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "text_frames.h"

struct session_fixture session_fixture;

static void on_request(struct http_connection *connection, struct http_request *request) {
    session_accept(&session_fixture.server, connection, request, request->path);
}

static void on_abort(struct http_connection *connection) {
    (void)connection;
}

static void on_change(struct worker *changed, void *context) {
    (void)context;
    sessions_apply_app_changes(&session_fixture.server, changed);
}

void session_fixture_create(const char *app, const struct channel_hub_settings *settings) {
    static const struct app_manager_hooks hooks = {
        .changed = on_change, .free_channels = channel_table_destroy, .channels_empty = channel_table_empty};
    struct buffer text = {0};
    struct error error;

    harness_create(&session_fixture.workers, 1);
    session_fixture.worker = session_fixture.workers.list[0];
    buffer_appendf(&text, "[{\"id\":\"id\",\"key\":\"key\",\"secret\":\"s\"%s}]", app);
    session_fixture.config = (struct config){.app_manager.array_apps = json_loads(buffer_string(&text), 0, NULL)};
    buffer_dispose(&text);
    session_fixture.apps = app_manager_create(&session_fixture.config, &session_fixture.workers, &hooks, &error);
    assert_non_null(session_fixture.apps);
    session_fixture.server = (struct session_server){
        .config = &session_fixture.config,
        .apps = session_fixture.apps,
        .channels = channel_hub_create(&session_fixture.workers, settings),
        .limits = {.max_message_bytes = 1000, .max_frame_bytes = 1000},
    };
    session_server_init(&session_fixture.server);
}

void session_fixture_destroy(void) {
    harness_destroy(&session_fixture.workers);
    channel_hub_destroy(session_fixture.server.channels);
    app_manager_destroy(session_fixture.apps);
    json_decref(session_fixture.config.app_manager.array_apps);
    buffer_dispose(&session_fixture.in);
}

void session_fixture_connect(const char *lines) {
    static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort};
    struct buffer request = {0};

    buffer_appendf(&request,
                   "GET /app/key HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                   lines);
    session_fixture.client = harness_http(session_fixture.worker, &handler);
    session_fixture_send(request.data, request.length);
    session_fixture_receive();
    buffer_dispose(&request);
}

void session_fixture_send(const void *bytes, size_t length) {
    harness_send(session_fixture.worker, session_fixture.client, (struct slice){bytes, length});
    harness_settle(session_fixture.worker);
}

void session_fixture_send_frame(uint8_t opcode, const char *payload) {
    struct buffer frame = {0};

    text_frame_append(&frame, opcode, payload);
    session_fixture_send(frame.data, frame.length);
    buffer_dispose(&frame);
}

void session_fixture_receive(void) {
    harness_settle(session_fixture.worker);
    harness_receive(session_fixture.client, &session_fixture.in);
}

struct app_slot *session_fixture_slot(void) {
    struct app_lookup lookup = {0};

    assert_int_equal(app_manager_find_by_key(session_fixture.apps, session_fixture.worker, SLICE("key"), &lookup),
                     APP_FOUND);
    return lookup.slot;
}
