#include "memory_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM_BYTES SIZE_MAX

static struct memory_socket sockets[MEMORY_SOCKETS_MAX];
static unsigned socket_count; /* sockets before this index have been used */
static uint64_t random_state;
static uint64_t monotonic_ns = UINT64_C(1000000000000);
static uint64_t wall_ns = UINT64_C(1700000000000000000);

/* --- the client's end --- */

struct memory_socket *memory_socket_open(void) {
    unsigned index = 0;
    struct memory_socket *socket;

    while (index < socket_count && sockets[index].used)
        index++;
    MUST(index < MEMORY_SOCKETS_MAX);
    socket_count = index < socket_count ? socket_count : index + 1;
    socket = &sockets[index];
    *socket = (struct memory_socket){.fd = MEMORY_FD_FIRST + (int)index,
                                     .used = true,
                                     .server_open = true,
                                     .epoll_fd = -1,
                                     .to_server = socket->to_server,
                                     .to_client = socket->to_client,
                                     .room = ROOM_BYTES};
    socket->to_server.length = socket->to_client.length = 0;
    return socket;
}

void memory_socket_send(struct memory_socket *socket, const void *data, size_t length) {
    MUST(!socket->client_ended);
    if (socket->server_open)
        buffer_append_bytes(&socket->to_server, data, length);
}

void memory_socket_end(struct memory_socket *socket) {
    socket->client_ended = true;
}

void memory_socket_close(struct memory_socket *socket) {
    socket->client_ended = socket->client_gone = true;
    socket->to_client.length = 0;
}

void memory_socket_free(struct memory_socket *socket) {
    MUST(socket->used && socket->client_gone && !socket->server_open);
    socket->used = false;
}

/* --- what is ready --- */

/* As with a Unix socket: EPOLLHUP if the client has closed, or both directions have ended. */
static uint32_t ready_events(const struct memory_socket *socket) {
    bool readable = socket->taken != socket->to_server.length || socket->client_ended;
    bool writable = socket->client_gone || socket->to_client.length < socket->room;
    uint32_t ready = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);

    if (socket->client_gone || (socket->client_ended && socket->server_ended))
        return (ready & socket->events) | EPOLLHUP;
    return ready & socket->events;
}

int memory_socket_poll(int epoll_fd, struct epoll_event *events) {
    int count = 0;

    for (unsigned i = 0; i < socket_count; i++) {
        struct memory_socket *socket = &sockets[i];
        uint32_t ready;
        if (!socket->used || socket->epoll_fd != epoll_fd)
            continue;
        ready = ready_events(socket);
        if (ready != 0)
            events[count++] = (struct epoll_event){.events = ready, .data.ptr = socket->target};
    }
    return count;
}

/* --- the server's end: the calls of the C library --- */

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
ssize_t __real_recv(int fd, void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags);
ssize_t __real_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __real_getpeername(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *length);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __wrap_getrandom(void *data, size_t length, unsigned flags);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
time_t __wrap_time(time_t *now);

/* The socket in memory; NULL: it is one of the kernel. */
static struct memory_socket *find_socket(int fd) {
    struct memory_socket *socket;

    if (fd < MEMORY_FD_FIRST)
        return NULL;
    MUST(fd < MEMORY_FD_FIRST + MEMORY_SOCKETS_MAX);
    socket = &sockets[fd - MEMORY_FD_FIRST];
    MUST(socket->used && socket->server_open);
    return socket;
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
    struct memory_socket *socket = find_socket(fd);

    if (socket == NULL)
        return __real_epoll_ctl(epoll_fd, operation, fd, event);
    MUST(socket->epoll_fd == (operation == EPOLL_CTL_ADD ? -1 : epoll_fd));
    socket->epoll_fd = operation == EPOLL_CTL_DEL ? -1 : epoll_fd;
    if (operation != EPOLL_CTL_DEL) {
        socket->events = event->events;
        socket->target = event->data.ptr;
    }
    return 0;
}

ssize_t __wrap_recv(int fd, void *data, size_t length, int flags) {
    struct memory_socket *socket = find_socket(fd);
    size_t waiting;

    if (socket == NULL)
        return __real_recv(fd, data, length, flags);
    waiting = socket->to_server.length - socket->taken;
    length = length < waiting ? length : waiting;
    if (waiting == 0) {
        errno = EAGAIN;
        return socket->client_ended ? 0 : -1;
    }
    memcpy(data, socket->to_server.data + socket->taken, length);
    if ((flags & MSG_PEEK) == 0)
        socket->taken += length;
    if (socket->taken == socket->to_server.length)
        socket->taken = socket->to_server.length = 0;
    return (ssize_t)length;
}

/* Takes what fits; -1 with errno set if nothing does. */
static ssize_t take_output(struct memory_socket *socket, const void *data, size_t length) {
    size_t used = socket->to_client.length;
    size_t room = used < socket->room ? socket->room - used : 0;

    MUST(!socket->server_ended);
    if (socket->client_gone || room == 0) {
        errno = socket->client_gone ? EPIPE : EAGAIN;
        return -1;
    }
    length = length < room ? length : room;
    buffer_append_bytes(&socket->to_client, data, length);
    return (ssize_t)length;
}

ssize_t __wrap_send(int fd, const void *data, size_t length, int flags) {
    struct memory_socket *socket = find_socket(fd);

    return socket != NULL ? take_output(socket, data, length) : __real_send(fd, data, length, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    struct memory_socket *socket = find_socket(fd);
    ssize_t sum = 0;

    if (socket == NULL)
        return __real_sendmsg(fd, message, flags);
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        const struct iovec *part = &message->msg_iov[i];
        ssize_t taken = take_output(socket, part->iov_base, part->iov_len);
        sum += taken > 0 ? taken : 0;
        if (taken < 0 && sum == 0)
            return -1;
        if (taken != (ssize_t)part->iov_len)
            break;
    }
    return sum;
}

int __wrap_shutdown(int fd, int how) {
    struct memory_socket *socket = find_socket(fd);

    if (socket == NULL)
        return __real_shutdown(fd, how);
    MUST(how == SHUT_WR);
    socket->server_ended = true;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    return find_socket(fd) != NULL ? 0 : __real_setsockopt(fd, level, option, value, length);
}

/* As of a Unix socket without a name. */
int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *length) {
    if (find_socket(fd) == NULL)
        return __real_getpeername(fd, address, length);
    address->sa_family = AF_UNIX;
    *length = sizeof address->sa_family;
    return 0;
}

int __wrap_close(int fd) {
    struct memory_socket *socket = find_socket(fd);

    if (socket == NULL)
        return __real_close(fd);
    socket->server_open = false;
    socket->server_ended = true;
    socket->epoll_fd = -1;
    return 0;
}

/* --- chance and time --- */

void memory_random_reset(uint64_t seed) {
    random_state = seed << 48;
}

/* splitmix64: a period of 2^64, so that numbers do not repeat. */
static uint64_t next_random(void) {
    uint64_t mixed = random_state += UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

ssize_t __wrap_getrandom(void *data, size_t length, unsigned flags) {
    char *at = data;

    (void)flags;
    for (size_t left = length; left != 0;) {
        uint64_t word = next_random();
        size_t step = left < sizeof word ? left : sizeof word;
        memcpy(at, &word, step);
        at += step;
        left -= step;
    }
    return (ssize_t)length;
}

void memory_clock_set(uint64_t monotonic, uint64_t wall) {
    monotonic_ns = monotonic;
    wall_ns = wall;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
    uint64_t ns = clock == CLOCK_REALTIME ? wall_ns : monotonic_ns;

    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, now);
    now->tv_sec = (time_t)(ns / 1000000000);
    now->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

time_t __wrap_time(time_t *now) {
    time_t seconds = (time_t)(wall_ns / 1000000000);

    if (now != NULL)
        *now = seconds;
    return seconds;
}

/* --- AddressSanitizer --- */

const char *__asan_default_options(void);

/* A small quarantine stays in the caches of the CPU and still holds what several inputs have freed; short stacks of
 * allocations and less memory to fill save another tenth. ASAN_OPTIONS=malloc_context_size=30 shows whole stacks. */
const char *__asan_default_options(void) {
    return "quarantine_size_mb=4:malloc_context_size=4:max_malloc_fill_size=64";
}
