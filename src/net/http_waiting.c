#include "base/budget.h"
#include "net/http_internal.h"
#include "net/tls.h"

/* How long a connection may wait for its client while descriptors or memory are short: in most cases, when the last
 * ones are in use, and while it sends a body or an answer is not read. */
#define SHORT_WAIT_MS 500
#define SHORTEST_WAIT_MS 100
#define SHORT_BUSY_MS 5000
/* How many connections a search moves to another list at most, and how many unread ones are closed at once. */
#define MOVE_MOST 64
#define UNREAD_MOST 256
/* How many connections are closed at once for the last descriptors. */
#define LAST_MOST 64

#define WAIT_BIT(wait) (1u << (wait))
#define ANY_WAIT (WAIT_BIT(HTTP_WAIT_COUNT) - 1)

/* Puts the connection at the end of the list: each list begins with the one that has waited longest. */
static void wait_in(struct http_connection *connection, enum http_wait wait) {
    struct worker *worker = connection->stream->worker;

    list_remove(&connection->waiting);
    connection->waiting_from_ms = worker->now_ms;
    list_append(&worker->waiting_http[wait], &connection->waiting);
}

void http_begin_waiting(struct http_connection *connection) {
    bool large = stream_unsent_bytes(connection->stream) > HTTP_SMALL_BODY_BYTES;

    if (connection->state == REQUEST_HEAD)
        wait_in(connection, HTTP_WAIT_HEAD);
    else if (connection->state == REQUEST_BODY)
        wait_in(connection, HTTP_WAIT_BODY);
    else
        wait_in(connection, large ? HTTP_WAIT_READER : HTTP_WAIT_IDLE);
}

/* True if it is in the wrong one of these two lists: unsent bytes come and go without a call. */
static bool has_moved(const struct http_connection *connection, enum http_wait wait) {
    bool unsent = stream_unsent_bytes(connection->stream) != 0;

    return (wait == HTTP_WAIT_IDLE && unsent) || (wait == HTTP_WAIT_READER && !unsent);
}

/* Returns the connection of a list that has waited longest, if that is too long; not `but`. While a client sends a
 * body, or does not read its answer, it is not idle. */
static struct http_connection *find_overdue(struct worker *worker, enum http_wait wait, unsigned wait_ms,
                                            const struct http_connection *but) {
    struct list *list = &worker->waiting_http[wait], *next;
    unsigned moves = 0;

    if (wait == HTTP_WAIT_BODY || wait == HTTP_WAIT_READER)
        wait_ms = SHORT_BUSY_MS;
    for (struct list *link = list->next; link != list && moves < MOVE_MOST; link = next) {
        struct http_connection *connection = container_of(link, struct http_connection, waiting);
        next = link->next;
        if (worker->now_ms < connection->waiting_from_ms + wait_ms)
            return NULL;
        if (connection == but)
            continue;
        if (!has_moved(connection, wait))
            return connection;
        wait_in(connection, wait == HTTP_WAIT_IDLE ? HTTP_WAIT_READER : HTTP_WAIT_IDLE);
        moves++;
    }
    return NULL;
}

/* Closes up to `most` of the connections in these lists that have waited longest, but not `but`. Returns their number.
 */
static unsigned close_overdue(struct worker *worker, unsigned waits, unsigned most, unsigned wait_ms,
                              const struct http_connection *but) {
    unsigned closed = 0;

    for (; closed < most; closed++) {
        struct http_connection *oldest = NULL;
        for (unsigned wait = 0; wait < HTTP_WAIT_COUNT; wait++) {
            struct http_connection *found = NULL;
            if ((waits & WAIT_BIT(wait)) != 0)
                found = find_overdue(worker, wait, wait_ms, but);
            if (found != NULL && (oldest == NULL || found->waiting_from_ms < oldest->waiting_from_ms))
                oldest = found;
        }
        if (oldest == NULL)
            break;
        list_remove(&oldest->waiting);
        stream_close(oldest->stream);
    }
    return closed;
}

bool http_close_for_memory(const struct http_connection *but) {
    if (close_overdue(but->stream->worker, WAIT_BIT(HTTP_WAIT_HEAD) | WAIT_BIT(HTTP_WAIT_BODY), 1, SHORTEST_WAIT_MS,
                      but) == 0)
        return false;
    budget_refused(BUDGET_BODIES);
    return true;
}

void http_close_unread(struct worker *worker) {
    close_overdue(worker, WAIT_BIT(HTTP_WAIT_READER), UNREAD_MOST, SHORTEST_WAIT_MS, NULL);
}

bool http_make_room(struct worker *worker, int fd) {
    struct descriptor_bounds *bounds = &worker->all->descriptors;
    unsigned closed;

    if (fd < atomic_load_explicit(&bounds->websockets, memory_order_relaxed))
        return false;
    descriptors_log_shortage(bounds,
                             "new WebSockets are refused with 4100, and API connections close after each answer");
    if (fd < atomic_load_explicit(&bounds->requests, memory_order_relaxed))
        closed = close_overdue(worker, ANY_WAIT, 1, SHORT_WAIT_MS, NULL);
    else
        closed = close_overdue(worker, ANY_WAIT, LAST_MOST, SHORTEST_WAIT_MS, NULL);
    counter_add(&worker->counters.descriptor_closes, closed);
    return true;
}

bool http_make_room_in_memory(struct worker *worker) {
    if (budget_has_room(BUDGET_CONNECTIONS, NULL, 0))
        return true;
    close_overdue(worker, ANY_WAIT, 1, SHORT_WAIT_MS, NULL);
    return false;
}

bool http_make_room_for_tls(struct worker *worker) {
    if (tls_has_room())
        return true;
    budget_refused(BUDGET_TLS);
    return close_overdue(worker, ANY_WAIT, 1, SHORT_WAIT_MS, NULL) != 0;
}
