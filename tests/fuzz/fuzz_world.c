/*
 * A world in one thread: a server of three workers whose turns the input makes, with clients, publishers, apps that
 * change, and a clock. Whatever the input does, each client gets every event that is for it once and in order, and no
 * other; member lists and counts agree with the model; and nothing is left when all have gone. See world_model.h.
 *
 * Some clients take deltas: what they read is what others get.
 *
 * An input that ends with an odd byte has other nodes beside the server, on which users come and go (world_nodes.h).
 *
 * The input is a sequence of operations: a byte for the operation (`operations` below), and the bytes that it takes.
 */
#include <stdio.h>

#include "delta_reader.h"
#include "world_model.h"
#include "world_nodes.h"
#include "world_wire.h"

#define API_PENDING_MAX 32
/* Messages of a client before its worker has to run: no more than a turn takes (INPUT_MESSAGES_OF_CROWD), so that the
 * model knows what was handled. */
#define UNHANDLED_MAX 16
#define LEAVING_MAX 32
#define CLOCK_STEP_S 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- state beside the model: what is on its way to the server --- */

enum message_kind { SUBSCRIBE, UNSUBSCRIBE, CLIENT_EVENT, SIGN_IN };

struct outgoing {
    enum message_kind kind;
    unsigned place, user, number;
    bool wrong;
    const char *delta; /* of a subscription; NULL: none */
    enum world_filter filter;
    bool malformed; /* the filter */
};

/* Client events on their way. `sure`: the client was subscribed when it sent this. */
struct sent_events {
    struct {
        unsigned number;
        bool sure;
    } list[UNHANDLED_MAX];
    unsigned count;
};

/* A client's connection. */
struct wire {
    struct buffer rest; /* the second part of a message that was cut in two */
    struct outgoing held;
    bool holds;
    unsigned cut; /* cut the next message after so many bytes; 0: do not */
    unsigned unhandled;
    bool pong_due; /* the server has sent pusher:ping */
    struct sent_events events;
    struct delta_reader readers[PLACES];
};

/* A connection that the client has closed, and the server has not. It still reads what was sent before. */
struct leaving {
    struct memory_socket *socket;
    unsigned worker, app;
    struct sent_events events;
};

struct request {
    bool publishes; /* else it closes the connections of `user` */
    unsigned app, user, count, numbers[2];
    const struct client *except;
};

struct publisher {
    struct memory_socket *socket;
    struct request pending[API_PENDING_MAX];
    unsigned count;
};

static struct wire wires[CLIENTS];
static struct publisher publishers[WORLD_WORKERS];
static struct leaving leaving[LEAVING_MAX];
static unsigned leaving_count;

static struct {
    const uint8_t *data;
    size_t left;
} input;

static unsigned next_byte(void) {
    if (input.left == 0)
        return 0;
    input.left--;
    return *input.data++;
}

/* --- clients come and go --- */

static void free_left_sockets(void) {
    unsigned kept = 0;

    for (unsigned i = 0; i < leaving_count; i++) {
        if (leaving[i].socket->server_open)
            leaving[kept++] = leaving[i];
        else
            memory_socket_free(leaving[i].socket);
    }
    leaving_count = kept;
}

static void leave_socket(const struct leaving *left) {
    MUST(leaving_count < LEAVING_MAX);
    memory_socket_close(left->socket);
    leaving[leaving_count++] = *left;
}

static void close_client(struct client *client) {
    struct wire *wire = &wires[client - model.clients];

    leave_socket(&(struct leaving){client->socket, client->worker, client->app, wire->events});
    client->used = false;
    wire->rest.length = wire->events.count = wire->unhandled = wire->cut = 0;
    wire->holds = wire->pong_due = false;
    for (unsigned i = 0; i < PLACES; i++)
        delta_reader_forget(&wire->readers[i]);
    for (unsigned i = 0; i < WORLD_WORKERS; i++)
        for (unsigned at = 0; at < publishers[i].count; at++)
            if (publishers[i].pending[at].except == client)
                publishers[i].pending[at].except = NULL;
}

static void open_client(struct client *client, unsigned worker, unsigned app) {
    char handshake[256];
    int length = snprintf(handshake, sizeof handshake,
                          "GET /app/key%u?protocol=7 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                          app + 1);

    client->used = true;
    client->socket = world_connect(worker);
    client->worker = worker;
    client->app = app;
    client->upgraded = client->must_close = client->lagged = client->closed = false;
    client->doomed = !model_app_works(app);
    client->socket_id[0] = '\0';
    client->reading = true;
    client->user = -1;
    client->pongs = 0;
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &client->places[i];
        place->state = PLACE_OUT;
        place->busy = place->leaving = place->wrong = place->again = place->cache_due = false;
        place->first = place->count = 0;
    }
    memory_socket_send(client->socket, handshake, (size_t)length);
}

/* --- what clients receive --- */

static void complete_message(struct client *client);

static void answer_ping(struct client *client) {
    static const char pong[] = "{\"event\":\"pusher:pong\",\"data\":{}}";
    static struct buffer frame;

    wires[client - model.clients].pong_due = false;
    complete_message(client);
    frame.length = 0;
    wire_frame(&frame, 0x81, SLICE(pong));
    memory_socket_send(client->socket, frame.data, frame.length);
}

static void keep_socket_id(struct client *client, struct slice data) {
    struct slice id = wire_member(data, "socket_id");

    MUST(id.length != 0 && id.length < sizeof client->socket_id);
    WORLD_MUST(client->socket_id[0] == '\0', "a connection was established twice");
    memcpy(client->socket_id, id.data, id.length);
    client->socket_id[id.length] = '\0';
}

static void receive_signed_in(struct client *client) {
    WORLD_MUST(client->user >= 0, "a client was signed in that has not asked");
    model_received_success(client, CHANNELS + (unsigned)client->user, SLICE(""));
}

static unsigned number_of(struct slice data) {
    unsigned long long number = 0;
    size_t filler = sizeof WIRE_FILLER - 1;

    WORLD_MUST(data.length > filler && slice_equal(slice_skip(data, data.length - filler), SLICE(WIRE_FILLER)) &&
                   slice_to_number((struct slice){data.data, data.length - filler}, EVENTS_MAX, &number),
               "the data of an event is %.*s", SLICE_ARGS(data));
    return (unsigned)number;
}

/* A client that subscribes anew has no texts; one that was in keeps them. */
static void receive_success(struct client *client, unsigned place, struct slice data) {
    model_received_success(client, place, data);
    if (!client->places[place].was_in)
        delta_reader_forget(&wires[client - model.clients].readers[place]);
}

/* Messages about a channel. */
static void receive_in_place(struct client *client, const struct wire_message *message) {
    unsigned place = place_of(message->channel);

    WORLD_MUST(place < PLACES, "client got %.*s of the channel %.*s", SLICE_ARGS(message->event),
               SLICE_ARGS(message->channel));
    if (slice_equal(message->event, SLICE("e")) || slice_equal(message->event, SLICE("client-e")))
        model_received_event(client, place, number_of(message->data));
    else if (slice_equal(message->event, SLICE("pusher_internal:subscription_succeeded")))
        receive_success(client, place, message->data);
    else if (slice_equal(message->event, SLICE("pusher:subscription_error")))
        model_received_error(client, place);
    else if (slice_equal(message->event, SLICE("pusher:cache_miss")))
        model_received_cache_miss(client, place);
    else if (slice_equal(message->event, SLICE("pusher_internal:member_added")))
        model_received_member(client, place, message->data, true);
    else if (slice_equal(message->event, SLICE("pusher_internal:member_removed")))
        model_received_member(client, place, message->data, false);
    else
        WORLD_MUST(slice_equal(message->event, SLICE("pusher_internal:subscription_count")) ||
                       slice_equal(message->event, SLICE("pusher:delta_compression_enabled")),
                   "client got the event %.*s", SLICE_ARGS(message->event));
}

/* The text of an event that may be a delta, or have a number; other messages are returned as they are. */
static struct slice read_event(struct client *client, struct slice text) {
    struct reader_message read = {.text = text};
    unsigned place = place_of(wire_read_message(text).channel);
    const char *wrong = NULL;

    if (place < PLACES)
        wrong = delta_reader_read(&wires[client - model.clients].readers[place], text, &read);
    WORLD_MUST(wrong == NULL, "%s: %.*s", wrong, SLICE_ARGS(text));
    return read.text;
}

static void receive_message(struct client *client, struct slice text) {
    struct wire_message message = wire_read_message(read_event(client, text));

    if (message.channel.length != 0)
        receive_in_place(client, &message);
    else if (slice_equal(message.event, SLICE("pusher:connection_established")))
        keep_socket_id(client, message.data);
    else if (slice_equal(message.event, SLICE("pusher:signin_success")))
        receive_signed_in(client);
    else if (slice_equal(message.event, SLICE("pusher:ping")))
        wires[client - model.clients].pong_due = true;
    else
        WORLD_MUST(slice_equal(message.event, SLICE("pusher:error")) ||
                       slice_equal(message.event, SLICE("pusher:delta_compression_enabled")),
                   "client got the message %.*s", SLICE_ARGS(text));
}

static void receive_frame(struct client *client, uint8_t opcode, struct slice payload) {
    WORLD_MUST(!client->closed, "client got a frame after the close frame");
    if (opcode == 0x81) {
        receive_message(client, payload);
    } else if (opcode == 0x88) {
        client->closed = true;
    } else if (opcode == 0x8a) {
        WORLD_MUST(client->pongs-- != 0, "client got a pong without a ping");
    } else {
        WORLD_MUST(opcode == 0x89, "client got a frame of type %x", opcode);
    }
}

static void receive_handshake(struct client *client) {
    struct buffer *in = &client->socket->to_client;
    const char *end = in->length != 0 ? memmem(in->data, in->length, "\r\n\r\n", 4) : NULL;

    if (end == NULL)
        return;
    WORLD_MUST(slice_starts_with(buffer_slice(in), SLICE("HTTP/1.1 101 ")), "a handshake was refused");
    in->length -= (size_t)(end + 4 - in->data);
    memmove(in->data, end + 4, in->length);
    client->upgraded = true;
}

/* Reads what the server has sent to the client, and closes if the server has. */
static void read_client(struct client *client) {
    struct slice payload;
    uint8_t opcode;
    size_t at = 0;

    if (!client->upgraded)
        receive_handshake(client);
    while (client->upgraded && wire_next_frame(&client->socket->to_client, &at, &opcode, &payload))
        receive_frame(client, opcode, payload);
    if (client->upgraded) {
        WORLD_MUST(at == client->socket->to_client.length || (client->lagged && client->socket->server_ended),
                   "client got a part of a frame");
        client->socket->to_client.length = 0;
    }
    if (!client->closed && !client->socket->server_ended)
        return;
    WORLD_MUST(client->doomed || client->must_close || client->lagged, "a client was closed without a reason");
    close_client(client);
}

/* --- turns --- */

/* Publishes the client events that the server has just handled. `client` NULL: the client has left since. */
static void handle_client_events(struct sent_events *events, const struct client *client, unsigned worker) {
    for (unsigned i = 0; i < events->count; i++) {
        unsigned number = events->list[i].number, place = model.event[number].place;
        bool taken = place_kind(place) == KIND_PRIVATE || place_kind(place) == KIND_PRESENCE;
        bool subscribed = client == NULL || client->places[place].state != PLACE_OUT;
        bool sure = client != NULL && events->list[i].sure && !client->doomed;
        if (taken && subscribed && model.apps[model.event[number].app].client_events)
            model_publish(number, worker, client, !sure);
    }
    events->count = 0;
}

static void terminate_user(const struct request *request) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &model.clients[i];
        const struct place *place = &client->places[CHANNELS + request->user];
        if (!client->used || client->app != request->app || place->state == PLACE_OUT)
            continue;
        client->doomed = true;
        client->must_close = client->must_close || (place->state == PLACE_IN && !place->busy);
    }
}

static void handle_answer(unsigned worker, const struct request *request, unsigned status, struct slice body) {
    WORLD_MUST((status == 200) == model_app_works(request->app), "a request was answered %u: %.*s", status,
               SLICE_ARGS(body));
    if (status != 200)
        return;
    if (!request->publishes)
        terminate_user(request);
    for (unsigned i = 0; i < request->count; i++) {
        model_publish(request->numbers[i], worker, request->except, false);
        model_keep(request->numbers[i]);
    }
}

static void read_answers(unsigned worker) {
    struct publisher *publisher = &publishers[worker];
    struct slice body;
    unsigned status, done = 0;
    bool refused = false;
    size_t at = 0;

    while ((status = wire_next_answer(&publisher->socket->to_client, &at, &body)) != 0) {
        WORLD_MUST(done < publisher->count, "an answer came without a request");
        handle_answer(worker, &publisher->pending[done++], status, body);
        refused = status != 200;
    }
    publisher->socket->to_client.length = 0;
    publisher->count -= done;
    memmove(publisher->pending, publisher->pending + done, publisher->count * sizeof publisher->pending[0]);
    if (publisher->socket->server_ended) {
        /* A request whose head alone has arrived in a turn may be refused by it. Its body is not read then, nor is what
         * follows. */
        WORLD_MUST(publisher->count == 0 || refused, "the server has closed a connection with an open request");
        publisher->count = 0;
        leave_socket(&(struct leaving){.socket = publisher->socket, .worker = worker});
        publisher->socket = NULL;
    }
}

/* What a worker has read from a socket in its last turn. */
struct handled {
    int fd;
    struct sent_events *events; /* of `client`, which is NULL if it has left; NULL: of the publisher */
    const struct client *client;
};

static int compare_handled(const void *a, const void *b) {
    return ((const struct handled *)a)->fd - ((const struct handled *)b)->fd;
}

/* Applies what the server has handled in a turn to the model, in the order in which it has read the sockets. */
static void apply_turn(unsigned worker) {
    struct handled list[CLIENTS + LEAVING_MAX + 1];
    unsigned count = 0;

    if (publishers[worker].socket != NULL)
        list[count++] = (struct handled){.fd = publishers[worker].socket->fd};
    for (unsigned i = 0; i < CLIENTS; i++)
        if (wires[i].events.count != 0 && model.clients[i].worker == worker)
            list[count++] = (struct handled){model.clients[i].socket->fd, &wires[i].events, &model.clients[i]};
    for (unsigned i = 0; i < leaving_count; i++)
        if (leaving[i].events.count != 0 && leaving[i].worker == worker)
            list[count++] = (struct handled){leaving[i].socket->fd, &leaving[i].events, NULL};
    if (count > 1)
        qsort(list, count, sizeof list[0], compare_handled);
    for (unsigned i = 0; i < count; i++) {
        if (list[i].events == NULL)
            read_answers(worker);
        else
            handle_client_events(list[i].events, list[i].client, worker);
    }
}

/* Runs a turn of a worker, and looks at what came out; false if there was nothing to do. */
static bool turn(unsigned worker) {
    bool ran;

    model.turn++;
    ran = world_turn(worker);
    if (!ran)
        return false;
    apply_turn(worker);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &model.clients[i];
        if (client->used && client->worker == worker && client->reading)
            read_client(client);
        if (client->used && client->worker == worker) {
            wires[i].unhandled = 0;
            model_end_turn(client);
            if (wires[i].pong_due)
                answer_ping(client);
        }
    }
    free_left_sockets();
    return true;
}

static void settle(void) {
    bool any = true;

    for (unsigned turns = 0; any; turns++) {
        any = false;
        for (unsigned i = 0; i < WORLD_WORKERS; i++)
            any = turn(i) || any;
        WORLD_MUST(turns < 1000, "the workers do not come to rest");
    }
}

/* --- what clients send --- */

/* The server has everything of a message: the model learns of it. */
static void message_sent(struct client *client, const struct outgoing *message) {
    struct wire *wire = &wires[client - model.clients];
    struct place *place = &client->places[message->place];

    wire->unhandled++;
    if (message->malformed)
        return;
    if (message->kind == CLIENT_EVENT) {
        MUST(wire->events.count < UNHANDLED_MAX);
        wire->events.list[wire->events.count].number = message->number;
        wire->events.list[wire->events.count++].sure = place->state == PLACE_IN && !place->busy;
        return;
    }
    place->busy = true;
    if (message->kind == UNSUBSCRIBE) {
        place->leaving = true;
        return;
    }
    if (!message->wrong)
        model_ask_filter(place, message->filter);
    place->wrong = message->wrong;
    place->again = place->state == PLACE_IN;
    if (place->state == PLACE_OUT) {
        place->state = PLACE_ASKED;
        place->user = message->user;
    }
    if (message->kind == SIGN_IN && message->wrong)
        client->doomed = client->must_close = true;
}

static void complete_message(struct client *client) {
    struct wire *wire = &wires[client - model.clients];

    if (!wire->holds)
        return;
    wire->holds = false;
    memory_socket_send(client->socket, wire->rest.data, wire->rest.length);
    message_sent(client, &wire->held);
}

static void send_message(struct client *client, const struct outgoing *message, struct slice bytes) {
    struct wire *wire = &wires[client - model.clients];

    if (wire->cut == 0 || wire->cut >= bytes.length) {
        memory_socket_send(client->socket, bytes.data, bytes.length);
        message_sent(client, message);
    } else {
        memory_socket_send(client->socket, bytes.data, wire->cut);
        wire->rest.length = 0;
        buffer_append(&wire->rest, slice_skip(bytes, wire->cut));
        wire->held = *message;
        wire->holds = true;
    }
    wire->cut = 0;
}

static void read_again(struct client *client) {
    client->reading = true;
    client->socket->room = SIZE_MAX;
}

/* Returns the client if it can send now, with an earlier message about the place handled; NULL: it cannot. */
static struct client *ready_client(unsigned index, unsigned place) {
    struct client *client = &model.clients[index % CLIENTS];

    if (!client->used)
        return NULL;
    complete_message(client);
    if (!client->reading) {
        read_again(client);
        turn(client->worker);
        if (client->used)
            read_client(client); /* what was sent before it read again, if there was no turn */
    }
    for (unsigned i = 0; client->used && i < 3; i++)
        if (client->socket_id[0] == '\0' || client->places[place].busy ||
            wires[index % CLIENTS].unhandled >= UNHANDLED_MAX)
            turn(client->worker);
    return client->used && client->socket_id[0] != '\0' && !client->must_close ? client : NULL;
}

static const char *filter_of(const struct outgoing *message) {
    static const char *const filters[WORLD_FILTERS] = {
        [TAKES_ALL] = NULL,
        [TAKES_ONE] = "{\"key\":\"t\",\"cmp\":\"eq\",\"val\":1}",
        [TAKES_NOT_ONE] = "{\"op\":\"not\",\"nodes\":[{\"key\":\"t\",\"cmp\":\"eq\",\"val\":\"1\"}]}",
        [TAKES_ONE_OR_TWO] = "{\"key\":\"t\",\"cmp\":\"in\",\"vals\":[\"2\",1]}",
    };

    return message->malformed ? "{\"key\":\"t\",\"cmp\":\"eq\"}" : filters[message->filter];
}

static void send_wire(struct client *client, struct outgoing message) {
    static struct buffer out;

    out.length = 0;
    if (message.kind == SUBSCRIBE)
        wire_subscribe(&out, client->app, client->socket_id, place_names[message.place],
                       place_kind(message.place) == KIND_PRESENCE ? (int)message.user : -1, message.wrong,
                       message.delta, filter_of(&message));
    else if (message.kind == UNSUBSCRIBE)
        wire_unsubscribe(&out, place_names[message.place]);
    else if (message.kind == CLIENT_EVENT)
        wire_client_event(&out, place_names[message.place], message.number);
    else
        wire_sign_in(&out, client->app, client->socket_id, message.user, message.wrong);
    send_message(client, &message, buffer_slice(&out));
}

/* --- publishers --- */

static struct publisher *ready_publisher(unsigned worker) {
    struct publisher *publisher = &publishers[worker];

    if (publisher->count == API_PENDING_MAX)
        turn(worker);
    if (publisher->socket == NULL)
        publisher->socket = world_connect(worker);
    return publisher;
}

static void send_request(unsigned worker, const struct request *request, const char *path, struct slice body) {
    static struct buffer out;
    struct publisher *publisher = ready_publisher(worker);

    out.length = 0;
    wire_request(&out, request->app, "POST", path, "", body);
    memory_socket_send(publisher->socket, out.data, out.length);
    publisher->pending[publisher->count++] = *request;
}

/* --- when nothing is under way --- */

/* Asks the API, and returns the body of the answer; it is valid until the next request. */
static struct slice ask_api(unsigned app, const char *path, const char *query) {
    static struct buffer out;
    struct publisher *publisher = ready_publisher(0);
    struct slice body = {0};
    size_t at = 0;
    unsigned status;

    out.length = publisher->socket->to_client.length = 0;
    wire_request(&out, app, "GET", path, query, SLICE(""));
    memory_socket_send(publisher->socket, out.data, out.length);
    while (world_turn(0))
        continue;
    status = wire_next_answer(&publisher->socket->to_client, &at, &body);
    WORLD_MUST(status == 200, "GET %s was answered %u: %.*s", path, status, SLICE_ARGS(body));
    publisher->socket->to_client.length = 0;
    return body;
}

static void check_members(unsigned app, unsigned place) {
    unsigned members = model_members(app, place), count = 0;
    char path[80], id[16];
    struct slice body;

    snprintf(path, sizeof path, "channels/%s/users", place_names[place]);
    body = ask_api(app, path, "");
    for (size_t at = 0; at < body.length; at++)
        count += body.data[at] == ':';
    for (unsigned user = 0; user < USERS; user++) {
        snprintf(id, sizeof id, "\"u%u\"", user);
        WORLD_MUST((memmem(body.data, body.length, id, strlen(id)) != NULL) == ((members >> user & 1) != 0),
                   "the API's users of %s are %.*s", place_names[place], SLICE_ARGS(body));
    }
    WORLD_MUST(count == (unsigned)__builtin_popcount(members) + 1, "the API's users of %s are %.*s", place_names[place],
               SLICE_ARGS(body));
}

/* Checks a presence channel that is occupied. */
static void check_presence(unsigned app, unsigned place) {
    char path[80], expected[120];
    struct slice body;

    snprintf(path, sizeof path, "channels/%s", place_names[place]);
    snprintf(expected, sizeof expected, "{\"occupied\":true,\"subscription_count\":%u,\"user_count\":%d}",
             model_count(app, place), __builtin_popcount(model_members(app, place)));
    body = ask_api(app, path, "info=subscription_count,user_count");
    WORLD_MUST(slice_equal(body, slice_of(expected)), "the API says of %s %.*s, and must say %s", place_names[place],
               SLICE_ARGS(body), expected);
    check_members(app, place);
}

/* Checks which channels are occupied, and their counts. */
static void check_channels(unsigned app) {
    struct slice body = ask_api(app, "channels", "info=subscription_count");
    unsigned listed = 0, occupied = 0;
    char expected[120];

    for (size_t at = 0; at + 1 < body.length; at++)
        listed += body.data[at] == ':' && body.data[at + 1] != '{';
    for (unsigned place = 0; place < CHANNELS; place++) {
        unsigned count = model_count(app, place);
        occupied += count != 0;
        snprintf(expected, sizeof expected, "\"%s\":{\"subscription_count\":%u}", place_names[place], count);
        WORLD_MUST(count == 0 || memmem(body.data, body.length, expected, strlen(expected)) != NULL,
                   "the API lists %.*s, and %s is not there", SLICE_ARGS(body), expected);
    }
    WORLD_MUST(listed == occupied, "the API lists %.*s, which is not %u channels", SLICE_ARGS(body), occupied);
    for (unsigned place = 0; place < CHANNELS; place++)
        if (place_kind(place) == KIND_PRESENCE && model_count(app, place) != 0)
            check_presence(app, place);
}

static void check_app(unsigned app) {
    unsigned connections = 0;
    char expected[40];
    struct slice body;

    if (!model_app_works(app))
        return;
    for (unsigned i = 0; i < CLIENTS; i++)
        connections += model.clients[i].used && model.clients[i].app == app && model.clients[i].socket_id[0] != '\0';
    snprintf(expected, sizeof expected, "{\"connections\":%u}", connections);
    body = ask_api(app, "connections", "");
    WORLD_MUST(slice_equal(body, slice_of(expected)), "the API says %.*s, and must say %s", SLICE_ARGS(body), expected);
    check_channels(app);
}

/* Waits until everything has arrived, and compares all with the model. */
static void check_world(void) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &model.clients[i];
        if (!client->used)
            continue;
        complete_message(client);
        read_again(client);
    }
    settle();
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &model.clients[i];
        if (client->used && client->reading)
            read_client(client); /* what was sent before it read again */
        if (client->used) {
            model_check_client(client);
            client->doomed = !model_app_works(client->app);
            client->lagged = wires[i].pong_due; /* the pong may be too late */
            if (client->lagged)
                answer_ping(client);
        }
    }
    for (unsigned app = 0; app < WORLD_APPS; app++)
        check_app(app);
}

/* --- the operations --- */

static void do_connect(void) {
    unsigned byte = next_byte();
    struct client *client = &model.clients[byte % CLIENTS];

    if (leaving_count + CLIENTS + WORLD_WORKERS >= LEAVING_MAX)
        settle();
    if (client->used)
        close_client(client);
    open_client(client, (byte >> 3) % WORLD_WORKERS, byte >> 7);
}

/* The byte that names a client and a channel. */
static struct client *client_and_channel(unsigned *place) {
    unsigned byte = next_byte();

    *place = (byte >> 3) % CHANNELS;
    return ready_client(byte, *place);
}

static void do_subscribe(void) {
    static const char *const wishes[] = {NULL, "true", "\"xdelta3\"", "false"};
    unsigned place, byte;
    struct client *client = client_and_channel(&place);

    byte = next_byte();
    if (client != NULL)
        send_wire(client, (struct outgoing){.kind = SUBSCRIBE,
                                            .place = place,
                                            .user = byte % USERS,
                                            .delta = wishes[byte >> 2 & 3],
                                            .filter = byte >> 6 & 3,
                                            .malformed = (byte & 0x0f) == 0x0f,
                                            .wrong = (byte & 0x70) == 0x70 && place_kind(place) != KIND_PUBLIC});
}

static void do_unsubscribe(void) {
    unsigned place;
    struct client *client = client_and_channel(&place);

    if (client != NULL)
        send_wire(client, (struct outgoing){.kind = UNSUBSCRIBE, .place = place});
}

static void do_client_event(void) {
    unsigned place;
    struct client *client = client_and_channel(&place);

    if (client != NULL && model.events < EVENTS_MAX)
        send_wire(client, (struct outgoing){
                              .kind = CLIENT_EVENT, .place = place, .number = model_new_event(client->app, place, 0)});
}

static void do_sign_in(void) {
    unsigned byte = next_byte(), index = byte % CLIENTS, user = byte >> 3 & 3;
    struct client *client = &model.clients[index];

    if (client->used && client->user >= 0)
        user = (unsigned)client->user;
    client = ready_client(index, CHANNELS + user);
    if (client == NULL)
        return;
    client->user = (int)user;
    send_wire(client, (struct outgoing){
                          .kind = SIGN_IN, .place = CHANNELS + user, .user = user, .wrong = (byte & 0xe0) == 0xe0});
}

/* Appends the body of one event of the request. */
static void append_event(struct buffer *body, const struct request *request, unsigned index) {
    unsigned number = request->numbers[index], tag = model.event[number].tag;

    buffer_appendf(body, "{\"name\":\"e\",\"data\":\"%u" WIRE_FILLER "\",\"channel\":\"%s\"", number,
                   place_names[model.event[number].place]);
    if (request->except != NULL)
        buffer_appendf(body, ",\"socket_id\":\"%s\"", request->except->socket_id);
    if (tag != 0)
        buffer_appendf(body, ",\"tags\":{\"t\":\"%u\"}", tag);
    buffer_append_byte(body, '}');
}

static void do_publish(void) {
    static struct buffer body;
    unsigned first = next_byte(), second = next_byte(), third = next_byte();
    struct request request = {.publishes = true, .app = first >> 7, .count = 1};
    unsigned place = second % PLACES, other = third % CHANNELS;
    const struct client *except = &model.clients[first >> 2 & 7];
    bool batch = (third & 0x20) != 0;

    if (model.events + 2 > EVENTS_MAX)
        return;
    request.numbers[0] = model_new_event(request.app, place, second / PLACES % WORLD_TAGS);
    if ((first & 0x60) == 0x60 && except->used && except->socket_id[0] != '\0' && except->app == request.app)
        request.except = except;
    body.length = 0;
    if (batch)
        buffer_append(&body, SLICE("{\"batch\":["));
    append_event(&body, &request, 0);
    if (batch) {
        request.numbers[request.count++] = model_new_event(request.app, other, third / CHANNELS % WORLD_TAGS);
        buffer_append_byte(&body, ',');
        append_event(&body, &request, 1);
        buffer_append(&body, SLICE("]}"));
    }
    send_request(first % WORLD_WORKERS, &request, batch ? "batch_events" : "events", buffer_slice(&body));
}

static void do_terminate(void) {
    unsigned byte = next_byte();
    struct request request = {.app = byte >> 7, .user = byte >> 2 & 3};
    char path[60];

    snprintf(path, sizeof path, "users/u%u/terminate_connections", request.user);
    send_request(byte % WORLD_WORKERS, &request, path, SLICE(""));
}

static void do_turn(void) {
    turn(next_byte() % WORLD_WORKERS);
}

static void do_close(void) {
    struct client *client = &model.clients[next_byte() % CLIENTS];

    if (leaving_count + CLIENTS + WORLD_WORKERS >= LEAVING_MAX)
        settle();
    if (client->used)
        close_client(client);
}

/* In steps: a client has 30 s to answer a ping. */
static void advance(unsigned seconds) {
    for (unsigned i = 1; i <= seconds; i++) {
        world_tick();
        if (i % CLOCK_STEP_S == 0 || i == seconds)
            settle();
    }
}

/* A client that does not read may be closed, since it answers no ping. */
static void do_clock(void) {
    advance(1 + next_byte() % 64);
}

static void do_reload(void) {
    unsigned byte = next_byte(), app = byte & 1;
    struct world_app *record = &model.apps[app];

    record->present = (byte & 0x06) != 0x06;
    record->enabled = (byte & 0x18) != 0x18;
    record->client_events = (byte & 0x20) == 0;
    record->max_members = byte >> 6 & 1 ? 2 : 0;
    record->subscription_count = byte >> 7;
    world_reload(model.apps);
    if (model_app_works(app))
        return;
    for (unsigned i = 0; i < CLIENTS; i++)
        model.clients[i].doomed = model.clients[i].doomed || model.clients[i].app == app;
    for (unsigned i = 0; i < CHANNELS; i++)
        model.kept[app][i].unsure = true;
}

static void do_cut(void) {
    unsigned byte = next_byte(), bytes = next_byte();

    wires[byte % CLIENTS].cut = model.clients[byte % CLIENTS].used ? bytes : 0;
}

/* The client stops to read, and its socket takes a few bytes more. */
static void do_stop_reading(void) {
    unsigned byte = next_byte();
    struct client *client = ready_client(byte, 0);

    if (client == NULL)
        return;
    turn(client->worker);
    if (!client->used)
        return;
    client->reading = false;
    client->lagged = true;
    client->socket->room = (byte >> 3) * 16u;
}

static void do_read_again(void) {
    struct client *client = &model.clients[next_byte() % CLIENTS];

    if (client->used)
        read_again(client);
}

/* A ping, something about deltas, something that is no message, or no frame. */
static void do_noise(void) {
    static struct buffer out;
    unsigned byte = next_byte();
    struct client *client = ready_client(byte, 0);

    if (client == NULL)
        return;
    out.length = 0;
    if ((byte & 0xc0) == 0xc0) {
        buffer_append(&out, SLICE("\x81\x02{}")); /* not masked: RFC 6455 section 5.1 */
        client->doomed = client->must_close = true;
    } else if ((byte & 0x80) != 0) {
        wire_frame(&out, 0x81, SLICE("{\"event\":"));
    } else if ((byte & 0x60) == 0x40) {
        wire_enable_deltas(&out);
    } else if ((byte & 0x60) == 0x60) {
        wire_delta_sync_error(&out, place_names[(byte >> 3) % CHANNELS]);
    } else {
        wire_frame(&out, 0x89, SLICE("ping"));
        client->pongs++;
    }
    memory_socket_send(client->socket, out.data, out.length);
    wires[client - model.clients].unhandled++;
}

/* Something happens on another node, if there are any. */
static void do_other_node(void) {
    static const enum world_node_event events[] = {NODE_CHANGES, NODE_CHANGES, NODE_CHANGES,   NODE_CHANGES,
                                                   NODE_CHANGES, NODE_CHANGES, NODE_TELLS_ALL, NODE_GOES};
    unsigned byte = next_byte(), place = next_byte() % CHANNELS, app = byte >> 7;
    struct app_slot *slot = world_slot(app);

    if (slot != NULL && place_kind(place) == KIND_PRESENCE)
        world_nodes_happen(events[byte >> 4 & 7], slot, app, 1 + (byte >> 3 & 1), place_names[place], byte % USERS);
}

static void (*const operations[])(void) = {
    do_connect, do_subscribe,    do_unsubscribe, do_client_event, do_publish, do_turn,
    settle,     do_close,        do_sign_in,     do_terminate,    do_clock,   do_reload,
    do_cut,     do_stop_reading, do_read_again,  check_world,     do_noise,   do_other_node,
};

/* --- a run --- */

/* Closes everything, and leaves the apps as they were. Kept events and slots of deleted apps end with the time. */
static void end_world(void) {
    static const struct world_app full = {.present = true, .enabled = true, .client_events = true};

    for (unsigned i = 0; i < CLIENTS; i++)
        if (model.clients[i].used)
            close_client(&model.clients[i]);
    for (unsigned i = 0; i < WORLD_WORKERS; i++) {
        if (publishers[i].socket != NULL)
            leave_socket(&(struct leaving){.socket = publishers[i].socket, .worker = i});
        publishers[i].socket = NULL;
        publishers[i].count = 0;
    }
    settle();
    if (memcmp(model.apps, (const struct world_app[WORLD_APPS]){full, full}, sizeof model.apps) != 0)
        world_reload((const struct world_app[WORLD_APPS]){full, full});
    settle();
    advance(WORLD_CACHE_TTL_S + 2);
    WORLD_MUST(leaving_count == 0, "the server has not closed %u connections", leaving_count);
    world_check_empty();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool started;

    if (!started)
        world_start();
    started = true;
    memory_random_reset(1);
    model_begin();
    world_begin(size != 0 && (data[size - 1] & 1) != 0);
    input.data = data;
    input.left = size;
    while (input.left != 0)
        operations[next_byte() % (sizeof operations / sizeof operations[0])]();
    check_world();
    end_world();
    return 0;
}
