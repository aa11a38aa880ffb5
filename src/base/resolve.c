#include "base/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/thread.h"

/* Shared by the caller and the thread. The thread may run longer than the caller waits; the last
 * of the two frees the lookup. */
struct resolve_lookup {
    atomic_int references;
    int done_fd;
    atomic_int code; /* result of getaddrinfo; valid when done_fd is readable */
    /* Addresses; valid when done_fd is readable; NULL after the caller has taken them. */
    struct addrinfo *found;
    char *host;
    char port[8];
};

static void lookup_unref(struct resolve_lookup *lookup) {
    if (atomic_fetch_sub(&lookup->references, 1) != 1)
        return;
    if (lookup->done_fd >= 0)
        close(lookup->done_fd);
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    free(lookup->host);
    free(lookup);
}

static int look_up(const char *host, const char *port, int flags, struct addrinfo **found) {
    const struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};

    return getaddrinfo(host, port, &hints, found);
}

static void *run_lookup(void *context) {
    struct resolve_lookup *lookup = context;

    atomic_store(&lookup->code, look_up(lookup->host, lookup->port, 0, &lookup->found));
    eventfd_write(lookup->done_fd, 1);
    lookup_unref(lookup);
    return NULL;
}

struct resolve_lookup *resolve_begin(const char *host, uint16_t port, struct error *error) {
    struct resolve_lookup *lookup = alloc_zero(sizeof *lookup);

    atomic_init(&lookup->references, 2);
    lookup->host = alloc_copy(host, strlen(host));
    snprintf(lookup->port, sizeof lookup->port, "%u", port);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC);
    if (lookup->done_fd < 0)
        error_set(error, "%s", strerror(errno));
    if (lookup->done_fd >= 0 && look_up(host, lookup->port, AI_NUMERICHOST, &lookup->found) == 0) {
        eventfd_write(lookup->done_fd, 1);
        lookup_unref(lookup);
        return lookup;
    }
    if (lookup->done_fd >= 0 && thread_start_detached("resolve", run_lookup, lookup, error))
        return lookup;
    error_prefix(error, "the name cannot be looked up");
    lookup_unref(lookup);
    lookup_unref(lookup);
    return NULL;
}

int resolve_fd(const struct resolve_lookup *lookup) {
    return lookup->done_fd;
}

struct addrinfo *resolve_take(struct resolve_lookup *lookup, struct error *error) {
    struct addrinfo *found = lookup->found;

    if (atomic_load(&lookup->code) != 0)
        error_set(error, "%s", gai_strerror(atomic_load(&lookup->code)));
    lookup->found = NULL;
    return found;
}

void resolve_end(struct resolve_lookup *lookup) {
    if (lookup != NULL)
        lookup_unref(lookup);
}

struct addrinfo *resolve_addresses(const char *host, uint16_t port, const struct deadline *deadline,
                                   struct error *error) {
    struct resolve_lookup *lookup = resolve_begin(host, port, error);
    struct addrinfo *found = NULL;

    if (lookup == NULL)
        return NULL;
    if (deadline_wait_or_fail(deadline, lookup->done_fd, POLLIN, error))
        found = resolve_take(lookup, error);
    else
        error_prefix(error, "looking the name up");
    resolve_end(lookup);
    return found;
}

bool resolve_in_time(const char *host, const struct deadline *deadline, struct error *error) {
    struct addrinfo *found = resolve_addresses(host, 0, deadline, error);

    if (found == NULL)
        return false;
    freeaddrinfo(found);
    return true;
}
