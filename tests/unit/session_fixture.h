/*
 * Sessions of one worker with the app "id", whose key is "key" and whose secret is "s", and a client of them: the test
 * controls the worker (harness.h).
 */
#pragma once

#include <stdint.h>

#include "base/buffer.h"
#include "harness.h"
#include "session/session.h"

struct session_fixture {
    struct config config;
    struct workers workers;
    struct worker *worker;
    struct app_manager *apps;
    struct session_server server;
    int client;
    struct buffer in; /* bytes that the client has received and the test has not checked */
};

extern struct session_fixture session_fixture;

/* Creates everything but the client; `app` are more members of the app, as JSON with a comma before each. */
void session_fixture_create(const char *app, const struct channel_hub_settings *settings);
void session_fixture_destroy(void);

/* Connects a client, sends a handshake with these lines of its head ("" or each with \r\n), and receives the answer. */
void session_fixture_connect(const char *lines);

/* Send bytes, or a frame, and let the worker handle it. */
void session_fixture_send(const void *bytes, size_t length);
void session_fixture_send_frame(uint8_t opcode, const char *payload);

/* Lets the worker finish, and receives what it has sent. */
void session_fixture_receive(void);

/* The app at run time. */
struct app_slot *session_fixture_slot(void);
