#include "base/deadline.h"

#include <errno.h>
#include <poll.h>

#include "base/clock.h"

struct patience patience_for(uint32_t timeout_ms, int stop_fd) {
    return (struct patience){.deadline_ns = clock_monotonic_ns() + timeout_ms * UINT64_C(1000000), .stop_fd = stop_fd};
}

uint32_t patience_left_ms(const struct patience *patience) {
    uint64_t now_ns = clock_monotonic_ns();

    return now_ns >= patience->deadline_ns ? 0 : (uint32_t)((patience->deadline_ns - now_ns + 999999) / 1000000);
}

static enum patience_answer wait_until(const struct patience *patience, uint64_t deadline_ns, int fd, short events) {
    const struct patience until = {.deadline_ns = deadline_ns};

    for (;;) {
        struct pollfd polled[] = {{.fd = fd, .events = events}, {.fd = patience->stop_fd, .events = POLLIN}};
        int ready = poll(polled, 2, (int)patience_left_ms(&until));

        if (polled[1].revents != 0)
            return PATIENCE_STOPPED;
        /* One who never stops talking is not listened to for longer, either. */
        if (patience_left_ms(&until) == 0)
            return PATIENCE_TIMED_OUT;
        if (ready > 0)
            return PATIENCE_READY;
        if (ready < 0 && errno != EINTR)
            return PATIENCE_STOPPED;
    }
}

enum patience_answer patience_wait(const struct patience *patience, int fd, short events) {
    return wait_until(patience, patience->deadline_ns, fd, events);
}

bool patience_wait_or_fail(const struct patience *patience, int fd, short events, struct error *error) {
    switch (patience_wait(patience, fd, events)) {
    case PATIENCE_READY:
        return true;
    case PATIENCE_TIMED_OUT:
        return error_set(error, "no answer in time");
    case PATIENCE_STOPPED:
        break;
    }
    return error_set(error, "stopped");
}

bool patience_ended(const struct patience *patience) {
    struct pollfd polled = {.fd = patience->stop_fd, .events = POLLIN};

    return patience_left_ms(patience) == 0 || poll(&polled, 1, 0) > 0;
}

bool patience_pause(const struct patience *patience, uint32_t pause_ms) {
    uint64_t end_ns = clock_monotonic_ns() + pause_ms * UINT64_C(1000000);

    if (end_ns > patience->deadline_ns)
        end_ns = patience->deadline_ns;
    return wait_until(patience, end_ns, -1, 0) == PATIENCE_TIMED_OUT && patience_left_ms(patience) > 0;
}
