#include "net/peer_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/log.h"

bool peer_address_write(int fd, char text[CLIENT_ADDRESS_TEXT]) {
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0)
        return false;
    if (peer.ss_family == AF_INET)
        return inet_ntop(AF_INET, &((struct sockaddr_in *)&peer)->sin_addr, text, CLIENT_ADDRESS_TEXT) != NULL;
    if (peer.ss_family == AF_INET6) {
        const struct in6_addr *ip = &((struct sockaddr_in6 *)&peer)->sin6_addr;
        return (IN6_IS_ADDR_V4MAPPED(ip) ? inet_ntop(AF_INET, ip->s6_addr + 12, text, CLIENT_ADDRESS_TEXT)
                                         : inet_ntop(AF_INET6, ip, text, CLIENT_ADDRESS_TEXT)) != NULL;
    }
    return false;
}

const char *peer_address_text(int fd, char text[CLIENT_ADDRESS_TEXT]) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;

    if (peer_address_write(fd, text))
        return text;
    return getpeername(fd, (struct sockaddr *)&peer, &length) == 0 ? "unix socket" : "unknown address";
}

void peer_address_log_refusal(int fd, unsigned status, const char *why) {
    char text[CLIENT_ADDRESS_TEXT];

    log_debug("net", "%s: a request was refused with %u: %s", peer_address_text(fd, text), status, why);
}

void peer_address_log_tls(int fd, bool in_handshake, const char *why) {
    char text[CLIENT_ADDRESS_TEXT];

    log_debug("net", "%s: %s: %s", peer_address_text(fd, text),
              in_handshake ? "the TLS handshake failed" : "TLS failed", why);
}
