#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/slice.h"
#include "fail.h"

/* Well below the 28,000 ephemeral ports of an address, since earlier connections may still be in TIME_WAIT. */
#define SOCKETS_PER_SOURCE 4000
#define SOURCES 100

void target_set_url(struct target *target, const char *url) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct slice rest = slice_of(url);
    char host[256];
    const char *colon;
    size_t length;
    int status;

    target->tls = slice_starts_with(rest, SLICE("https://"));
    if (!target->tls && !slice_starts_with(rest, SLICE("http://")))
        fail_usage("--url %s: it must begin with http:// or https://, as in http://127.0.0.1:6001", url);
    rest = slice_skip(rest, target->tls ? sizeof "https://" - 1 : sizeof "http://" - 1);
    if (slice_ends_with(rest, SLICE("/")))
        rest.length--;
    colon = memrchr(rest.data, ':', rest.length);
    if (rest.length >= sizeof target->host || memchr(rest.data, '/', rest.length) != NULL || colon == NULL)
        fail_usage("--url %s: it must be http://HOST:PORT, without a path", url);
    target->url = url;
    snprintf(target->host, sizeof target->host, "%.*s", SLICE_ARGS(rest));

    /* IPv6 addresses are in brackets (RFC 3986 section 3.2.2). */
    length = (size_t)(colon - rest.data);
    if (length >= 2 && rest.data[0] == '[' && colon[-1] == ']')
        snprintf(host, sizeof host, "%.*s", (int)(length - 2), rest.data + 1);
    else
        snprintf(host, sizeof host, "%.*s", (int)length, rest.data);
    status = getaddrinfo(host, target->host + length + 1, &hints, &found);
    if (status != 0)
        fail_usage("--url %s: looking up %s: %s", url, host, gai_strerror(status));
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_length = found->ai_addrlen;
    freeaddrinfo(found);
}

/* Binds a socket for a target in 127.0.0.0/8 to one of these addresses; connect chooses the port. */
static void bind_source(int fd, const struct target *target) {
    static unsigned opened;
    const struct sockaddr_in *to = (const struct sockaddr_in *)&target->address;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int on = 1;

    if (target->address.ss_family != AF_INET || ntohl(to->sin_addr.s_addr) >> 24 != 127)
        return;
    from.sin_addr.s_addr = htonl((127u << 24) + 2 + opened++ / SOCKETS_PER_SOURCE % SOURCES);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        fail("binding a socket to %s: %s", inet_ntoa(from.sin_addr), strerror(errno));
}

int target_connect(const struct target *target) {
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0)
        fail("opening a socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bind_source(fd, target);
    if (connect(fd, (const struct sockaddr *)&target->address, target->address_length) != 0 && errno != EINPROGRESS)
        fail("connecting to %s: %s", target->url, strerror(errno));
    return fd;
}
