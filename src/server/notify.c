#include "server/notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

static void send_notice(const char *text) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path != NULL ? strlen(path) : 0;
    int fd;

    if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') /* an abstract address, unix(7) */
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
        log_warning("server", "cannot tell systemd \"%s\": %s: %s", text, path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void notify_ready(void) {
    send_notice("READY=1");
}

void notify_stopping(void) {
    send_notice("STOPPING=1");
}

void notify_main_pid(pid_t pid) {
    char text[32];

    snprintf(text, sizeof text, "MAINPID=%d", (int)pid);
    send_notice(text);
}
