#include "base/deadline.h"

#include <errno.h>
#include <poll.h>

#include "base/clock.h"

struct deadline deadline_after(uint32_t timeout_ms, int cancel_fd) {
    return (struct deadline){.ends_ns = clock_monotonic_ns() + timeout_ms * UINT64_C(1000000), .cancel_fd = cancel_fd};
}

uint32_t deadline_remaining_ms(const struct deadline *deadline) {
    uint64_t now_ns = clock_monotonic_ns();

    return now_ns >= deadline->ends_ns ? 0 : (uint32_t)((deadline->ends_ns - now_ns + 999999) / 1000000);
}

static enum wait_result wait_until(const struct deadline *deadline, uint64_t ends_ns, int fd, short events) {
    const struct deadline until = {.ends_ns = ends_ns};

    for (;;) {
        struct pollfd polled[] = {{.fd = fd, .events = events}, {.fd = deadline->cancel_fd, .events = POLLIN}};
        int ready = poll(polled, 2, (int)deadline_remaining_ms(&until));

        if (polled[1].revents != 0)
            return WAIT_CANCELLED;
        /* Check the deadline even when the fd is ready: a peer that keeps sending must not extend it. */
        if (deadline_remaining_ms(&until) == 0)
            return WAIT_TIMED_OUT;
        if (ready > 0)
            return WAIT_READY;
        if (ready < 0 && errno != EINTR)
            return WAIT_CANCELLED;
    }
}

enum wait_result deadline_wait(const struct deadline *deadline, int fd, short events) {
    return wait_until(deadline, deadline->ends_ns, fd, events);
}

bool deadline_wait_or_fail(const struct deadline *deadline, int fd, short events, struct error *error) {
    switch (deadline_wait(deadline, fd, events)) {
    case WAIT_READY:
        return true;
    case WAIT_TIMED_OUT:
        return error_set(error, "no answer in time");
    case WAIT_CANCELLED:
        break;
    }
    return error_set(error, "stopped");
}

bool deadline_passed(const struct deadline *deadline) {
    struct pollfd polled = {.fd = deadline->cancel_fd, .events = POLLIN};

    return deadline_remaining_ms(deadline) == 0 || poll(&polled, 1, 0) > 0;
}

bool deadline_sleep(const struct deadline *deadline, uint32_t pause_ms) {
    uint64_t end_ns = clock_monotonic_ns() + pause_ms * UINT64_C(1000000);

    if (end_ns > deadline->ends_ns)
        end_ns = deadline->ends_ns;
    return wait_until(deadline, end_ns, -1, 0) == WAIT_TIMED_OUT && deadline_remaining_ms(deadline) > 0;
}
