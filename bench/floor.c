#include "floor.h"

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fail.h"
#include "frame.h"
#include "process.h"

#define FRAMES_MAX 32
#define ROUNDS_AHEAD 2
#define INPUT_SIZE (256 * 1024)

/* Memory shared by the two processes. `order` and `drained` are futex words. */
struct floor_shared {
    _Atomic uint32_t order;   /* number of measurements requested */
    _Atomic uint32_t done;    /* the last finished order */
    _Atomic uint32_t drained; /* rounds of this order that were read */
    uint32_t frames;
    uint64_t duration_ns;
    uint32_t rounds;
    uint64_t cpu_ns;
};

struct floor_socket {
    struct source source;
    struct floor *floor;
};

struct floor {
    struct floor_shared *shared;
    struct poller *poller;
    pid_t sender;
    uint64_t received; /* bytes of this order */
    char *input;
    struct floor_socket sockets[FLOOR_SOCKETS];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t thread_cpu_ns(void) {
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* Sends all of `data`; waits while the socket is full. */
static void send_all(int fd, const char *data, size_t length) {
    while (length != 0) {
        ssize_t count = send(fd, data, length, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            poll(&full, 1, -1);
        } else if (count < 0) {
            _exit(1);
        } else {
            data += count;
            length -= (size_t)count;
        }
    }
}

static void send_rounds(struct floor_shared *shared, const int *sockets, const char *frames) {
    size_t length = (size_t)shared->frames * FLOOR_FRAME;
    uint64_t end_ns = clock_monotonic_ns() + shared->duration_ns, cpu_ns = 0, before_ns;
    uint32_t rounds = 0, drained;

    while (clock_monotonic_ns() < end_ns) {
        while (rounds - (drained = atomic_load(&shared->drained)) >= ROUNDS_AHEAD)
            futex_wait(&shared->drained, drained);
        before_ns = thread_cpu_ns();
        for (unsigned i = 0; i < FLOOR_SOCKETS; i++)
            send_all(sockets[i], frames, length);
        cpu_ns += thread_cpu_ns() - before_ns;
        rounds++;
    }
    shared->rounds = rounds;
    shared->cpu_ns = cpu_ns;
}

/* Runs the sender process: one measurement per order. */
static void sender_run(struct floor_shared *shared, const int *sockets, int cpu) {
    static char frames[FRAMES_MAX * FLOOR_FRAME];
    uint32_t order = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (cpu < 0 || !process_pin(cpu))
        process_unpin();
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        char *frame = frames + i * FLOOR_FRAME;
        memset(frame, 'x', FLOOR_FRAME);
        memcpy(frame, (const uint8_t[]){FRAME_TEXT, 126, 0, FLOOR_FRAME - 4}, 4);
    }
    for (;;) {
        while (atomic_load(&shared->order) == order)
            futex_wait(&shared->order, order);
        order++;
        send_rounds(shared, sockets, frames);
        atomic_store(&shared->done, order);
    }
}

/* Counts bytes instead of frames, since all frames have the same length. */
static void floor_socket_ready(struct source *source, uint32_t events) {
    struct floor *floor = ((struct floor_socket *)source)->floor;
    ssize_t count;

    (void)events;
    do {
        count = recv(source->fd, floor->input, INPUT_SIZE, MSG_DONTWAIT);
        if (count == 0)
            fail("the process that measures the floor has ended");
        if (count > 0)
            floor->received += (uint64_t)count;
    } while (count == INPUT_SIZE);
}

static int open_listener(struct sockaddr_in *address) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof *address;

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (listener < 0 || bind(listener, (struct sockaddr *)address, length) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)address, &length) != 0)
        fail("listening on 127.0.0.1 for the floor: %s", strerror(errno));
    return listener;
}

/* Opens one connection; returns the sender's end and stores the reader's end in `reader`. */
static int open_pair(int listener, const struct sockaddr_in *address, int *reader) {
    int sender, on = 1;

    *reader = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*reader < 0 || connect(*reader, (const struct sockaddr *)address, sizeof *address) != 0 ||
        (sender = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        fail("connecting over 127.0.0.1 for the floor: %s", strerror(errno));
    setsockopt(sender, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return sender;
}

struct floor *floor_start(struct poller *poller, int cpu) {
    struct floor *floor = alloc_zero(sizeof *floor);
    struct sockaddr_in address;
    int senders[FLOOR_SOCKETS], listener = open_listener(&address);

    floor->poller = poller;
    floor->input = alloc(INPUT_SIZE);
    floor->shared = mmap(NULL, sizeof *floor->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (floor->shared == MAP_FAILED)
        fail("sharing memory with the process that measures the floor: %s", strerror(errno));
    for (unsigned i = 0; i < FLOOR_SOCKETS; i++) {
        struct floor_socket *reader = &floor->sockets[i];
        *reader = (struct floor_socket){.source.ready = floor_socket_ready, .floor = floor};
        senders[i] = open_pair(listener, &address, &reader->source.fd);
    }
    floor->sender = fork();
    if (floor->sender < 0)
        fail("starting the process that measures the floor: %s", strerror(errno));
    if (floor->sender == 0)
        sender_run(floor->shared, senders, cpu);
    close(listener);
    for (unsigned i = 0; i < FLOOR_SOCKETS; i++) {
        close(senders[i]);
        poller_add(poller, &floor->sockets[i].source, POLLER_GATHERED);
    }
    return floor;
}

void floor_stop(struct floor *floor) {
    for (unsigned i = 0; i < FLOOR_SOCKETS; i++)
        close(floor->sockets[i].source.fd);
    kill(floor->sender, SIGKILL);
    waitpid(floor->sender, NULL, 0);
    munmap(floor->shared, sizeof *floor->shared);
    free(floor->input);
    free(floor);
}

double floor_measure(struct floor *floor, unsigned frames, uint64_t duration_ns) {
    struct floor_shared *shared = floor->shared;
    uint64_t round_bytes = (uint64_t)FLOOR_SOCKETS * FLOOR_FRAME * frames;
    uint32_t order = atomic_load(&shared->order) + 1, drained = 0;

    floor->received = 0;
    shared->frames = frames;
    shared->duration_ns = duration_ns;
    atomic_store(&shared->drained, 0);
    atomic_store(&shared->order, order);
    futex_wake(&shared->order);
    while (atomic_load(&shared->done) != order || floor->received < shared->rounds * round_bytes) {
        poller_turn(floor->poller);
        if (floor->received / round_bytes != drained) {
            drained = (uint32_t)(floor->received / round_bytes);
            atomic_store(&shared->drained, drained);
            futex_wake(&shared->drained);
        }
    }
    return (double)shared->cpu_ns / ((double)shared->rounds * FLOOR_SOCKETS * frames);
}
