#include "poller.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "fail.h"

/* After a batch of at least this size the next turn does not wait for more data to gather. */
#define BATCH_LARGE 128

void poller_init(struct poller *poller) {
    *poller = (struct poller){.prompt = epoll_create1(EPOLL_CLOEXEC), .gathered = epoll_create1(EPOLL_CLOEXEC)};
    if (poller->prompt < 0 || poller->gathered < 0)
        fail("creating an epoll set: %s", strerror(errno));
}

void poller_add(struct poller *poller, struct source *source, enum poller_set set) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    if (set == POLLER_GATHERED)
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (epoll_ctl(set == POLLER_PROMPT ? poller->prompt : poller->gathered, EPOLL_CTL_ADD, source->fd, &event) != 0)
        fail("watching a socket: %s", strerror(errno));
}

void poller_watch_writing(struct poller *poller, struct source *source, bool on) {
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = source};

    if (epoll_ctl(poller->prompt, EPOLL_CTL_MOD, source->fd, &event) != 0)
        fail("watching a socket: %s", strerror(errno));
}

/* Waits at most `wait_ns` and dispatches one batch of events; returns its size. */
static int dispatch(int set, long wait_ns) {
    struct epoll_event events[POLLER_BATCH];
    struct timespec wait = {.tv_nsec = wait_ns};
    int count = epoll_pwait2(set, events, POLLER_BATCH, &wait, NULL);

    if (count < 0 && errno != EINTR)
        fail("waiting for events: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
    return count;
}

void poller_turn(struct poller *poller) {
    struct epoll_event event;
    struct timespec wait = {.tv_nsec = POLLER_GATHER_NS};

    if (poller->mode != POLLER_GATHER) {
        dispatch(poller->mode == POLLER_CONNECT ? poller->gathered : poller->prompt, POLLER_GATHER_NS);
        return;
    }
    /* Wakeup only: the prompt set is level-triggered, so the event is reported again after the gathered ones. */
    if (!poller->full && epoll_pwait2(poller->prompt, &event, 1, &wait, NULL) < 0 && errno != EINTR)
        fail("waiting for events: %s", strerror(errno));
    poller->full = dispatch(poller->gathered, 0) >= BATCH_LARGE;
    dispatch(poller->prompt, 0);
}
