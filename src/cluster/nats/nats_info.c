#include "cluster/nats/nats_info.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/network.h"
#include "base/resolve.h"

void nats_info_dispose(struct nats_info *info) {
    for (size_t i = 0; i < info->others_count; i++)
        free(info->others[i]);
    info->others_count = 0;
}

static void take_others(struct nats_info *info, const json_t *urls) {
    size_t count = json_array_size(urls);

    for (size_t i = 0; i < count && info->others_count < NATS_OTHERS_MAX; i++) {
        const char *text = json_string_value(json_array_get(urls, i));
        if (text != NULL && strlen(text) < NATS_URL_MAX)
            info->others[info->others_count++] = alloc_copy(text, strlen(text));
    }
}

bool nats_info_parse(struct nats_info *info, struct slice line) {
    json_t *json;
    const char *cluster;
    json_int_t max_payload;

    *info = (struct nats_info){0};
    if (!slice_starts_with(line, SLICE("INFO ")))
        return false;
    json = json_loadb(line.data + 5, line.length - 5, 0, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        return false;
    }
    cluster = json_string_value(json_object_get(json, "cluster"));
    max_payload = json_integer_value(json_object_get(json, "max_payload"));
    info->in_cluster = cluster != NULL && cluster[0] != '\0';
    info->tls_required = json_is_true(json_object_get(json, "tls_required"));
    info->auth_required = json_is_true(json_object_get(json, "auth_required"));
    info->max_payload = max_payload > 0 ? (size_t)max_payload : 0;
    take_others(info, json_object_get(json, "connect_urls"));
    json_decref(json);
    return true;
}

/* --- reading it --- */

/* Returns a connected socket; -1 with an error. */
static int connect_address(const struct addrinfo *address, const struct deadline *deadline, struct error *error) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int code = 0;
    socklen_t size = sizeof code;

    if (fd < 0) {
        error_set(error, "%s", strerror(errno));
        return -1;
    }
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0)
        code = errno;
    if (code == EINPROGRESS) {
        if (!deadline_wait_or_fail(deadline, fd, POLLOUT, error))
            goto failed;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    }
    if (code == 0)
        return fd;
    error_set(error, "%s", strerror(code));
failed:
    close(fd);
    return -1;
}

/* The part of the time for the first of `count` attempts, so that one that hangs leaves time for the others. */
static struct deadline part_of_deadline(const struct deadline *deadline, unsigned count) {
    struct deadline part = deadline_after(deadline_remaining_ms(deadline) / count, deadline->cancel_fd);

    return part.ends_ns < deadline->ends_ns ? part : *deadline;
}

static int connect_any(const struct addrinfo *addresses, const struct deadline *deadline, char url[NATS_URL_MAX],
                       struct error *error) {
    unsigned left = 0;

    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        left++;
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
        const struct deadline part = part_of_deadline(deadline, left--);
        int fd = connect_address(at, &part, error);
        char text[NETWORK_ADDRESS_TEXT], port[8];
        if (fd < 0)
            continue;
        network_write_address(at->ai_addr, text);
        getnameinfo(at->ai_addr, at->ai_addrlen, NULL, 0, port, sizeof port, NI_NUMERICSERV);
        snprintf(url, NATS_URL_MAX, at->ai_family == AF_INET6 ? "nats://[%s]:%s" : "nats://%s:%s", text, port);
        return fd;
    }
    return -1;
}

/* Reads up to the end of the line; its length, or -1 with an error. */
static ssize_t read_info_line(int fd, const struct deadline *deadline, char line[NATS_INFO_MAX_BYTES],
                              struct error *error) {
    size_t length = 0;

    while (length < NATS_INFO_MAX_BYTES) {
        const char *end;
        ssize_t got;
        if (!deadline_wait_or_fail(deadline, fd, POLLIN, error))
            return -1;
        got = recv(fd, line + length, NATS_INFO_MAX_BYTES - length, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0) {
            error_set(error, "%s", got == 0 ? "it closed the connection" : strerror(errno));
            return -1;
        }
        end = memchr(line + length, '\n', (size_t)got);
        length += (size_t)got;
        if (end != NULL)
            return end > line && end[-1] == '\r' ? end - line - 1 : end - line;
        if (strncmp(line, "INFO ", length < 5 ? length : 5) != 0)
            break;
    }
    return 0;
}

bool nats_info_read(const struct nats_address *address, const struct deadline *deadline, struct nats_info *info,
                    char url[NATS_URL_MAX], struct error *error) {
    struct addrinfo *addresses = resolve_addresses(address->host, address->port, deadline, error);
    char line[NATS_INFO_MAX_BYTES];
    ssize_t length = -1;
    int fd = -1;

    if (addresses != NULL) {
        fd = connect_any(addresses, deadline, url, error);
        freeaddrinfo(addresses);
    }
    if (fd >= 0) {
        length = read_info_line(fd, deadline, line, error);
        close(fd);
    }
    if (length >= 0 && nats_info_parse(info, (struct slice){line, (size_t)length}))
        return true;
    if (length >= 0)
        error_set(error, "this is no NATS server; it says \"%.*s\"", (int)(length < 40 ? length : 40), line);
    return error_prefix(error, "NATS at %s:%u (adapter.nats.servers)", address->host, address->port);
}
