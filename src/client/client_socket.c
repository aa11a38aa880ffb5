#include "client/client_socket.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "net/http_client.h"

struct client_socket {
    CURLM *multi; /* owns the connection */
    CURL *easy;
    int fd;
    char why[CURL_ERROR_SIZE];
};

static void set_up_connection(struct client_socket *socket, const struct server_address *address) {
    CURL *easy = socket->easy;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not join a resolver thread that hangs */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, socket->why);
    curl_easy_setopt(easy, CURLOPT_URL, address->url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    if (address->direct)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (address->unix_socket != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address->unix_socket);
    if (address->insecure) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static bool explain_curl(const struct client_socket *socket, CURLcode code, struct error *error) {
    return http_explain_failure(socket->why[0] != '\0' ? socket->why : curl_easy_strerror(code), error);
}

/* Runs the connecting to its end. The handle stays in `multi`, which would close the connection without it. */
static bool finish_connecting(struct client_socket *socket, const struct deadline *deadline, struct error *error) {
    for (;;) {
        struct curl_waitfd stop = {.fd = deadline->cancel_fd, .events = CURL_WAIT_POLLIN};
        int running = 0, left;
        curl_socket_t fd = CURL_SOCKET_BAD;
        CURLMsg *message;

        curl_multi_perform(socket->multi, &running);
        message = curl_multi_info_read(socket->multi, &left);
        if (message != NULL && message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;
            if (code == CURLE_OK)
                code = curl_easy_getinfo(socket->easy, CURLINFO_ACTIVESOCKET, &fd);
            socket->fd = code == CURLE_OK ? (int)fd : -1;
            return code == CURLE_OK || explain_curl(socket, code, error);
        }
        if (deadline_passed(deadline))
            return error_set(error, deadline_remaining_ms(deadline) == 0 ? "no answer in time" : "stopped");
        curl_multi_poll(socket->multi, &stop, deadline->cancel_fd >= 0 ? 1 : 0, (int)deadline_remaining_ms(deadline),
                        NULL);
    }
}

struct client_socket *client_socket_open(const struct server_address *address, const struct deadline *deadline,
                                         struct error *error) {
    struct client_socket *socket = alloc_zero(sizeof *socket);

    curl_global_init(CURL_GLOBAL_DEFAULT); /* counts its calls; the process ends with the command */
    socket->multi = curl_multi_init();
    socket->easy = curl_easy_init();
    if (socket->multi == NULL || socket->easy == NULL)
        abort(); /* out of memory */
    set_up_connection(socket, address);
    curl_multi_add_handle(socket->multi, socket->easy);
    if (finish_connecting(socket, deadline, error))
        return socket;
    client_socket_close(socket);
    return NULL;
}

void client_socket_close(struct client_socket *socket) {
    curl_multi_remove_handle(socket->multi, socket->easy);
    curl_easy_cleanup(socket->easy);
    curl_multi_cleanup(socket->multi);
    curl_global_cleanup();
    free(socket);
}

enum client_received client_socket_receive(struct client_socket *socket, void *data, size_t size, size_t *length,
                                           const struct deadline *deadline, struct error *error) {
    for (;;) {
        CURLcode code;

        socket->why[0] = '\0';
        code = curl_easy_recv(socket->easy, data, size, length);
        if (code == CURLE_OK && *length != 0)
            return CLIENT_RECEIVED;
        if (code == CURLE_OK) {
            error_set(error, "the server closed the connection");
            return CLIENT_DISCONNECTED;
        }
        if (code != CURLE_AGAIN) {
            explain_curl(socket, code, error);
            return CLIENT_DISCONNECTED;
        }
        switch (deadline_wait(deadline, socket->fd, POLLIN)) {
        case WAIT_READY:
            break;
        case WAIT_TIMED_OUT:
            return CLIENT_TIMED_OUT;
        case WAIT_CANCELLED:
            return CLIENT_CANCELLED;
        }
    }
}

bool client_socket_send(struct client_socket *socket, const void *data, size_t length, const struct deadline *deadline,
                        struct error *error) {
    for (size_t done = 0; done < length;) {
        size_t sent = 0;
        CURLcode code;

        socket->why[0] = '\0';
        code = curl_easy_send(socket->easy, (const char *)data + done, length - done, &sent);
        done += sent;
        if (code == CURLE_AGAIN) {
            if (!deadline_wait_or_fail(deadline, socket->fd, POLLOUT, error))
                return false;
        } else if (code != CURLE_OK) {
            return explain_curl(socket, code, error);
        }
    }
    return true;
}
