#include "net/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

/* Maps an IPv4 address to the number of an IPv6 network in ::/16, which is not assigned. */
static uint64_t of_ipv4(const uint8_t bytes[4]) {
    return UINT64_C(0xffff) << 32 | (uint64_t)bytes[0] << 24 | (uint64_t)bytes[1] << 16 | (uint64_t)bytes[2] << 8 |
           bytes[3];
}

static uint64_t of_ipv6(const struct in6_addr *ip) {
    uint64_t network = 0;

    if (IN6_IS_ADDR_V4MAPPED(ip))
        return of_ipv4(ip->s6_addr + 12);
    for (unsigned i = 0; i < 8; i++)
        network = network << 8 | ip->s6_addr[i];
    return network;
}

bool peer_address_read(int fd, uint64_t *address) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0)
        return false;
    if (peer.ss_family == AF_INET)
        *address = of_ipv4((const uint8_t *)&((struct sockaddr_in *)&peer)->sin_addr);
    else if (peer.ss_family == AF_INET6)
        *address = of_ipv6(&((struct sockaddr_in6 *)&peer)->sin6_addr);
    return peer.ss_family == AF_INET || peer.ss_family == AF_INET6;
}

static bool is_port(struct slice text) {
    unsigned long long port;

    return text.length == 0 || (text.data[0] == ':' && slice_to_number(slice_skip(text, 1), UINT16_MAX, &port));
}

/* Removes brackets and port. False if the port or the closing bracket is invalid. */
static bool bare_address(struct slice *text) {
    const char *end;
    size_t length;

    if (text->length != 0 && text->data[0] == '[') {
        *text = slice_skip(*text, 1);
        end = text->length != 0 ? memchr(text->data, ']', text->length) : NULL;
        if (end == NULL)
            return false;
        length = (size_t)(end - text->data);
        if (!is_port(slice_skip(*text, length + 1)))
            return false;
    } else {
        end = text->length != 0 ? memchr(text->data, ':', text->length) : NULL;
        if (end == NULL || memchr(end + 1, ':', text->length - (size_t)(end + 1 - text->data)) != NULL)
            return true; /* no colon, or an IPv6 address without brackets */
        length = (size_t)(end - text->data);
        if (!is_port(slice_skip(*text, length)))
            return false;
    }
    text->length = length;
    return true;
}

bool client_address_parse(struct slice text, uint64_t *address) {
    char string[INET6_ADDRSTRLEN];
    struct in6_addr ip6;
    struct in_addr ip4;

    if (!bare_address(&text) || text.length == 0 || text.length >= sizeof string)
        return false;
    memcpy(string, text.data, text.length);
    string[text.length] = '\0';
    if (inet_pton(AF_INET, string, &ip4) == 1)
        *address = of_ipv4((const uint8_t *)&ip4);
    else if (inet_pton(AF_INET6, string, &ip6) == 1)
        *address = of_ipv6(&ip6);
    else
        return false;
    return true;
}

/* Cuts the last comma-separated word off `list` and returns it without blanks around it. */
static struct slice cut_last(struct slice *list) {
    const char *comma = list->length != 0 ? memrchr(list->data, ',', list->length) : NULL;
    struct slice word = comma != NULL ? slice_skip(*list, (size_t)(comma + 1 - list->data)) : *list;

    list->length = comma != NULL ? (size_t)(comma - list->data) : 0;
    return slice_trim(word);
}

/* Returns the address `hops` from the right, or the leftmost. Repeated headers form one list, in their order. */
static struct slice forwarded_for(const struct http_request *request, uint32_t hops) {
    struct slice found = {0};

    for (unsigned i = request->header_count; i-- > 0 && hops != 0;) {
        struct slice rest = request->headers[i].value;
        if (!slice_equal_ignoring_case(request->headers[i].name, SLICE("x-forwarded-for")))
            continue;
        while (rest.length != 0 && hops != 0) {
            struct slice word = cut_last(&rest);
            if (word.length == 0) /* ignore empty list elements (RFC 9110 section 5.6.1.2) */
                continue;
            found = word;
            hops--;
        }
    }
    return found;
}

bool client_address(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops,
                    uint64_t *address) {
    return client_address_parse(forwarded_for(request, trust_hops), address) ||
           peer_address_read(http_stream(connection)->fd, address);
}

const char *client_address_write(struct http_connection *connection, const struct http_request *request,
                                 uint32_t trust_hops, char text[CLIENT_ADDRESS_TEXT]) {
    struct slice forwarded = forwarded_for(request, trust_hops);
    uint64_t number;

    if (client_address_parse(forwarded, &number) && bare_address(&forwarded) &&
        forwarded.length < CLIENT_ADDRESS_TEXT) {
        memcpy(text, forwarded.data, forwarded.length);
        text[forwarded.length] = '\0';
    } else if (!peer_address_write(http_stream(connection)->fd, text)) {
        snprintf(text, CLIENT_ADDRESS_TEXT, "unix socket");
    }
    return text;
}
