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

/* A lookup in progress, shared by the caller and the thread. The thread may run longer than the caller waits; the last
 * of the two frees the lookup. */
struct lookup {
    atomic_int references;
    int done_fd;
    atomic_int code; /* result of getaddrinfo; valid when done_fd is readable */
    /* Addresses; valid when done_fd is readable; NULL after the caller has taken them. */
    struct addrinfo *found;
    char *host;
    char port[8];
};

static void lookup_unref(struct lookup *lookup) {
    if (atomic_fetch_sub(&lookup->references, 1) != 1)
        return;
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
    struct lookup *lookup = context;

    atomic_store(&lookup->code, look_up(lookup->host, lookup->port, 0, &lookup->found));
    eventfd_write(lookup->done_fd, 1);
    lookup_unref(lookup);
    return NULL;
}

struct addrinfo *resolve_addresses(const char *host, uint16_t port, const struct deadline *deadline,
                                   struct error *error) {
    struct addrinfo *found = NULL;
    struct lookup *lookup;
    char digits[8];

    snprintf(digits, sizeof digits, "%u", port);
    if (look_up(host, digits, AI_NUMERICHOST, &found) == 0)
        return found;
    lookup = alloc_zero(sizeof *lookup);
    atomic_init(&lookup->references, 2);
    lookup->host = alloc_copy(host, strlen(host));
    memcpy(lookup->port, digits, sizeof digits);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC);
    if (lookup->done_fd < 0)
        error_set(error, "%s", strerror(errno));
    if (lookup->done_fd < 0 || !thread_start_detached("resolve", run_lookup, lookup, error)) {
        error_prefix(error, "the name cannot be looked up");
        lookup_unref(lookup);
        lookup_unref(lookup);
        return NULL;
    }
    if (!deadline_wait_or_fail(deadline, lookup->done_fd, POLLIN, error)) {
        error_prefix(error, "looking the name up");
    } else if (atomic_load(&lookup->code) != 0) {
        error_set(error, "%s", gai_strerror(atomic_load(&lookup->code)));
    } else {
        found = lookup->found;
        lookup->found = NULL;
    }
    lookup_unref(lookup);
    return found;
}

bool resolve_in_time(const char *host, const struct deadline *deadline, struct error *error) {
    struct addrinfo *found = resolve_addresses(host, 0, deadline, error);

    if (found == NULL)
        return false;
    freeaddrinfo(found);
    return true;
}
