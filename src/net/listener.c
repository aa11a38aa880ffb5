#include "net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 128
#define ACCEPT_WORK 1024 /* see worker_spend */
#define REST_MS 100
/* The time in which a client of another machine, or of this one, completes a TCP handshake that has begun. */
#define HANDSHAKE_MS 100
#define LOCAL_HANDSHAKE_MS 20
#define TTL_MOST 255

static void listener_ready(struct poll_target *target, uint32_t events);

static uint16_t bound_port(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static int open_tcp(const struct addrinfo *info, bool shared) {
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* Accepted sockets inherit TCP_NODELAY; this saves a system call for each connection. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    on = errno;
    close(fd);
    errno = on;
    return -1;
}

static const char *bind_advice(int reason) {
    switch (reason) {
    case EADDRINUSE:
        return "; is another server running there? Choose another port, or stop it";
    case EACCES:
        return "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE";
    default:
        return "";
    }
}

/* Finds the address to listen on; as getaddrinfo. */
static int find_own_address(const char *host, uint16_t port, struct addrinfo **found) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    return getaddrinfo(host, service, &hints, found);
}

static int listen_on(const char *host, uint16_t *port, bool shared, struct error *error) {
    struct addrinfo *found = NULL;
    int code = find_own_address(host, *port, &found), fd;

    if (code != 0) {
        error_set(error, "cannot listen on %s port %u: the address does not resolve: %s", host, *port,
                  gai_strerror(code));
        return -1;
    }
    fd = open_tcp(found, shared);
    freeaddrinfo(found);
    if (fd < 0) {
        error_set(error, "cannot listen on %s port %u: %s%s", host, *port, strerror(errno), bind_advice(errno));
        return -1;
    }
    *port = bound_port(fd);
    return fd;
}

int listen_tcp(const char *host, uint16_t *port, struct error *error) {
    return listen_on(host, port, true, error);
}

int listen_tcp_alone(const char *host, uint16_t *port, struct error *error) {
    int on = 1, fd = listen_on(host, port, false, error);

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
        error_set(error, "cannot share port %u among the workers: %s", *port, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

union own_address {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
    struct sockaddr_un local;
};

static bool same_tcp_address(const union own_address *a, const union own_address *b, bool any_port) {
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->ipv4.sin_addr.s_addr == b->ipv4.sin_addr.s_addr && (any_port || a->ipv4.sin_port == b->ipv4.sin_port);
    return a->any.sa_family == AF_INET6 && IN6_ARE_ADDR_EQUAL(&a->ipv6.sin6_addr, &b->ipv6.sin6_addr) &&
           (any_port || a->ipv6.sin6_port == b->ipv6.sin6_port);
}

bool listens_on_tcp(int fd, const char *host, uint16_t port) {
    union own_address own = {.any.sa_family = AF_UNSPEC}, wanted = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof own;
    struct addrinfo *found = NULL;

    if (getsockname(fd, &own.any, &length) != 0 || find_own_address(host, port, &found) != 0)
        return false;
    if (found->ai_addrlen <= sizeof wanted)
        memcpy(&wanted, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return same_tcp_address(&own, &wanted, port == 0);
}

bool listens_on_unix(int fd, const char *path) {
    union own_address own = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof own;

    return getsockname(fd, &own.any, &length) == 0 && own.any.sa_family == AF_UNIX &&
           strncmp(own.local.sun_path, path, sizeof own.local.sun_path) == 0;
}

int listen_beside(int fd, struct error *error) {
    union own_address own = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof own;
    int beside = -1;

    if (getsockname(fd, &own.any, &length) == 0)
        beside = open_tcp(&(struct addrinfo){.ai_family = own.any.sa_family, .ai_addr = &own.any, .ai_addrlen = length},
                          true);
    if (beside < 0)
        error_set(error, "cannot open another listening socket beside the first one: %s", strerror(errno));
    return beside;
}

/* Creates the parent folders of `path`, as mkdir -p does. */
static void create_folder_of(const char *path) {
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];

    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(folder, 0755);
        *slash = '/';
    }
}

/* True if a server listens on the socket; else the file is stale. */
static bool unix_socket_alive(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;

    if (fd >= 0)
        close(fd);
    return alive;
}

int listen_unix(const char *path, unsigned mode, struct error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    int fd, reason;

    if (strlen(path) >= sizeof address.sun_path) {
        error_set(error, "cannot listen on %s: `unix_socket.path` may have %zu bytes at most", path,
                  sizeof address.sun_path - 1);
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    create_folder_of(path);
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) {
            error_set(error, "cannot listen on %s: there is a file there which is not a socket", path);
            return -1;
        }
        if (unix_socket_alive(&address)) {
            error_set(error, "cannot listen on %s: another server is running there", path);
            return -1;
        }
        unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && chmod(path, mode) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    reason = errno;
    if (fd >= 0)
        close(fd);
    error_set(error, "cannot listen on %s: %s", path, strerror(reason));
    return -1;
}

static void pause_is_over(struct descriptor_pause *pause) {
    struct listener *listener = container_of(pause, struct listener, pause);

    listener->resting = !worker_watch(listener->worker, listener->fd, listener->events, &listener->target);
    if (listener->resting)
        worker_pause(listener->worker, pause, REST_MS);
}

bool listener_start(struct listener *listener, struct worker *worker, int fd, bool shared, struct error *error) {
    listener->target.ready = listener_ready;
    listener->worker = worker;
    listener->fd = fd;
    listener->resting = false;
    listener->pause = (struct descriptor_pause){.over = pause_is_over};
    listener->events = EPOLLIN | (shared ? EPOLLEXCLUSIVE : 0);
    if (worker_watch(worker, fd, listener->events, &listener->target))
        return true;
    return error_set(error, "cannot watch a listening socket: %s", strerror(errno));
}

void listener_pause(struct listener *listener) {
    if (listener->worker == NULL || listener->fd < 0)
        return;
    list_remove(&listener->pause.link);
    worker_unwatch(listener->worker, listener->fd);
    worker_forget(listener->worker, &listener->target);
}

void listener_resume(struct listener *listener) {
    if (listener->worker != NULL && listener->fd >= 0)
        pause_is_over(&listener->pause);
}

void listener_stop(struct listener *listener) {
    if (listener->worker == NULL || listener->fd < 0)
        return;
    listener_pause(listener);
    close(listener->fd);
    listener->fd = -1;
}

/* True if clients of other machines reach the socket. */
static bool serves_network(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;

    getsockname(fd, &address.any, &length);
    if (address.any.sa_family == AF_INET)
        return ntohl(address.ipv4.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET;
    return address.any.sa_family == AF_INET6 && !IN6_IS_ADDR_LOOPBACK(&address.ipv6.sin6_addr);
}

/* Drops packets with the flag SYN, which is in byte 13 of the TCP header (RFC 9293 section 3.1). */
static bool drop_by_filter(int fd) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

/* Drops packets that have passed a router, or began with a lower TTL (hop limit) than the highest one, as those of
 * Linux and Windows do. Handshakes that have begun go on, since the kernel looks at the TTL only when a packet belongs
 * to the listening socket or a connection. False if it is no TCP socket. */
static bool set_least_ttl(int fd, int ttl) {
    union own_address own = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof own;

    return getsockname(fd, &own.any, &length) == 0 && setsockopt(fd, IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl) == 0 &&
           (own.any.sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &ttl, sizeof ttl) == 0);
}

void listener_finish(struct listener *listener) {
    struct worker *worker = listener->worker;
    uint64_t ends_ms;

    if (worker == NULL || listener->fd < 0)
        return;
    listener->filtered = drop_by_filter(listener->fd);
    if (!listener->filtered) /* some kernels want CAP_NET_ADMIN for it */
        listener->filtered = listener->limits_ttl = set_least_ttl(listener->fd, TTL_MOST);
    if (!listener->filtered)
        log_debug("server", "no filter for new connections at the end: %s; the last ones may be cut", strerror(errno));
    ends_ms = worker->now_ms + (serves_network(listener->fd) ? HANDSHAKE_MS : LOCAL_HANDSHAKE_MS);
    worker->ends_ms = ends_ms > worker->ends_ms ? ends_ms : worker->ends_ms;
}

/* Pauses accepting: without free descriptors the socket stays readable, and the loop would spin. */
static void rest_listener(struct listener *listener) {
    struct worker *worker = listener->worker;

    listener->resting = true;
    worker_unwatch(worker, listener->fd); /* epoll cannot modify a watch with EPOLLEXCLUSIVE, only remove it */
    worker_pause(worker, &listener->pause, REST_MS);
}

static void rest_for_error(struct listener *listener, int reason) {
    char text[160];

    snprintf(text, sizeof text, "a connection could not be accepted: %s; trying again in a moment", strerror(reason));
    descriptors_log_shortage(&listener->worker->all->descriptors, text);
    rest_listener(listener);
}

static void listener_ready(struct poll_target *target, uint32_t events) {
    struct listener *listener = container_of(target, struct listener, target);
    struct worker *worker = listener->worker;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && listener->fd >= 0 && !listener->resting && !worker->turn_over; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            worker_spend(worker, ACCEPT_WORK);
            if (listener->limits_ttl) /* it has inherited the limit */
                set_least_ttl(fd, 0);
            listener->on_accept(worker, fd, listener->context);
            if (listener->bound != NULL && fd >= atomic_load_explicit(listener->bound, memory_order_relaxed))
                rest_listener(listener);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            rest_for_error(listener, errno);
        }
    }
}
