#include "net/activation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/slice.h"

#define FIRST_FD 3

union any_address {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
    struct sockaddr_un local;
};

static bool variable_number(const char *name, unsigned long long *number) {
    const char *text = getenv(name);

    return text != NULL && slice_to_number(slice_of(text), INT32_MAX, number);
}

/* True if the socket can be accepted from. Makes it as if the server had opened it. */
static bool prepare_socket(int fd, struct error *error) {
    int listens = 0, type = 0, on = 1;
    socklen_t length = sizeof listens;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return error_set(error, "descriptor %d, which LISTEN_FDS passes, is not a socket: %s", fd, strerror(errno));
    if (listens == 0 || type != SOCK_STREAM)
        return error_set(error,
                         "descriptor %d, which LISTEN_FDS passes, is not a listening stream socket; the unit "
                         "needs ListenStream= and Accept=no",
                         fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return error_set(error, "cannot prepare descriptor %d, which LISTEN_FDS passes: %s", fd, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof on); /* inherited by accepted sockets; fails for unix sockets */
    /* What listener_finish of a process before this one may have left. */
    setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on);
    return true;
}

bool activation_take(int *fd, struct error *error) {
    unsigned long long pid, count;
    bool passed = variable_number("LISTEN_PID", &pid) && pid == (unsigned long long)getpid();
    bool counted = variable_number("LISTEN_FDS", &count);

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    *fd = -1;
    if (!passed || (counted && count == 0))
        return true;
    if (!counted)
        return error_set(error, "LISTEN_PID is set, but LISTEN_FDS is not a number of sockets");
    if (count != 1)
        return error_set(error,
                         "LISTEN_FDS passes %llu sockets, but the server takes one: leave one ListenStream= in the "
                         "socket unit",
                         count);
    if (!prepare_socket(FIRST_FD, error))
        return false;
    *fd = FIRST_FD;
    return true;
}

void activation_describe(int fd, char *text, size_t size) {
    union any_address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";

    getsockname(fd, &address.any, &length);
    switch (address.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &address.ipv4.sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, activation_port(fd));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &address.ipv6.sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, activation_port(fd));
        break;
    case AF_UNIX:
        snprintf(text, size, "unix:%.*s", (int)sizeof address.local.sun_path, address.local.sun_path);
        break;
    default:
        snprintf(text, size, "a socket of unknown kind");
    }
}

uint16_t activation_port(int fd) {
    union any_address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;

    getsockname(fd, &address.any, &length);
    switch (address.any.sa_family) {
    case AF_INET:
        return ntohs(address.ipv4.sin_port);
    case AF_INET6:
        return ntohs(address.ipv6.sin6_port);
    default:
        return 0;
    }
}
