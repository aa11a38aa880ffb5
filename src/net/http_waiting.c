#include "base/budget.h"
#include "net/http_internal.h"
#include "net/tls.h"

/* How long a connection may wait for its client while descriptors or memory are short: in most cases, when the last
 * ones are in use, and while it sends a body or an answer is not read. */
#define SHORT_WAIT_MS 500
#define SHORTEST_WAIT_MS 100
#define SHORT_BUSY_MS 5000
/* How many connections are looked at, at most, to find those that have waited longer. */
#define SHORT_SEARCH 64
#define MEMORY_SEARCH 256

void http_begin_waiting(struct http_connection *connection) {
    struct worker *worker = connection->stream->worker;

    connection->waiting_from_ms = worker->now_ms;
    list_append(&worker->waiting_http, &connection->waiting);
}

/* How long a connection may wait for its client. While it sends a body, or does not read its answer, it is not idle. */
static bool is_overdue(const struct http_connection *connection, uint64_t now_ms, unsigned wait_ms) {
    bool busy = connection->state == REQUEST_BODY || stream_unsent_bytes(connection->stream) != 0;

    return now_ms >= connection->waiting_from_ms + (busy ? SHORT_BUSY_MS : wait_ms);
}

/* The connections that are closed: all that wait, those that have sent a part of a request, or those that do not read
 * their answer. */
enum waiting { WAITING, WAITING_FOR_REQUEST, WAITING_FOR_READER };

static bool waits_for(const struct http_connection *connection, enum waiting what) {
    switch (what) {
    case WAITING:
        return true;
    case WAITING_FOR_REQUEST:
        return connection->request != NULL;
    case WAITING_FOR_READER:
        return stream_unsent_bytes(connection->stream) > HTTP_SMALL_BODY_BYTES;
    }
    return false;
}

/* Closes up to `most` of the connections that have waited longest, but not `but`. Returns their number. */
static unsigned close_overdue(struct worker *worker, enum waiting what, unsigned most, unsigned wait_ms,
                              const struct http_connection *but) {
    unsigned search = what == WAITING ? SHORT_SEARCH : MEMORY_SEARCH;
    struct list *next;
    unsigned closed = 0;

    for (struct list *link = worker->waiting_http.next; link != &worker->waiting_http && closed < most; link = next) {
        struct http_connection *connection = container_of(link, struct http_connection, waiting);
        next = link->next;
        if (search-- == 0)
            break;
        if (connection == but || !waits_for(connection, what) || !is_overdue(connection, worker->now_ms, wait_ms))
            continue;
        list_remove(&connection->waiting);
        stream_close(connection->stream);
        closed++;
    }
    return closed;
}

bool http_close_for_memory(const struct http_connection *but) {
    if (close_overdue(but->stream->worker, WAITING_FOR_REQUEST, 1, SHORTEST_WAIT_MS, but) == 0)
        return false;
    budget_refused(BUDGET_BODIES);
    return true;
}

void http_close_unread(struct worker *worker) {
    close_overdue(worker, WAITING_FOR_READER, MEMORY_SEARCH, SHORTEST_WAIT_MS, NULL);
}

bool http_make_room(struct worker *worker, int fd) {
    struct descriptor_bounds *bounds = &worker->all->descriptors;
    unsigned closed;

    if (fd < atomic_load_explicit(&bounds->websockets, memory_order_relaxed))
        return false;
    descriptors_log_shortage(bounds,
                             "new WebSockets are refused with 4100, and API connections close after each answer");
    if (fd < atomic_load_explicit(&bounds->requests, memory_order_relaxed))
        closed = close_overdue(worker, WAITING, 1, SHORT_WAIT_MS, NULL);
    else
        closed = close_overdue(worker, WAITING, SHORT_SEARCH, SHORTEST_WAIT_MS, NULL);
    counter_add(&worker->counters.descriptor_closes, closed);
    return true;
}

bool http_make_room_in_memory(struct worker *worker) {
    if (budget_has_room(BUDGET_CONNECTIONS, NULL, 0))
        return true;
    close_overdue(worker, WAITING, 1, SHORT_WAIT_MS, NULL);
    return false;
}

bool http_make_room_for_tls(struct worker *worker) {
    if (tls_has_room())
        return true;
    budget_refused(BUDGET_TLS);
    return close_overdue(worker, WAITING, 1, SHORT_WAIT_MS, NULL) != 0;
}
