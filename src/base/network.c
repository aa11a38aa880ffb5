#include "base/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/slice.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const uint8_t nat64_prefix[12] = {0, 0x64, 0xff, 0x9b};

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits) {
    unsigned bytes = bits / 8, rest = bits % 8;

    return memcmp(a, b, bytes) == 0 && (rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0);
}

static bool empty_behind_prefix(const uint8_t *address, unsigned bits) {
    for (unsigned i = bits; i < 128; i++)
        if ((address[i / 8] >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}

bool network_parse(const char *text, struct network *network) {
    const char *slash = strchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char address[NETWORK_ADDRESS_TEXT];
    unsigned long long bits;
    unsigned first = 0;

    if (length >= sizeof address)
        return false;
    snprintf(address, sizeof address, "%.*s", (int)length, text);
    if (inet_pton(AF_INET, address, network->address + 12) == 1) {
        memcpy(network->address, mapped_prefix, sizeof mapped_prefix);
        first = 96;
    } else if (inet_pton(AF_INET6, address, network->address) != 1) {
        return false;
    }
    bits = 128 - first;
    if (slash != NULL && !slice_to_number(slice_of(slash + 1), 128 - first, &bits))
        return false;
    network->bits = (uint8_t)(first + bits);
    return empty_behind_prefix(network->address, network->bits);
}

/* Writes the address that a connection to `address` reaches; false if it is neither IPv4 nor IPv6. */
static bool effective_address(const struct sockaddr *address, uint8_t bytes[16]) {
    static const uint8_t nothing[16];

    memcpy(bytes, mapped_prefix, sizeof mapped_prefix);
    if (address->sa_family == AF_INET)
        memcpy(bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    else if (address->sa_family == AF_INET6)
        memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    else
        return false;
    if (memcmp(bytes, nat64_prefix, sizeof nat64_prefix) == 0)
        memcpy(bytes, mapped_prefix, sizeof mapped_prefix);
    if (memcmp(bytes, nothing, 16) == 0)
        bytes[15] = 1;
    else if (memcmp(bytes, mapped_prefix, sizeof mapped_prefix) == 0 && memcmp(bytes + 12, nothing, 4) == 0)
        bytes[12] = 127, bytes[15] = 1;
    return true;
}

bool network_contains(const struct network *network, const struct sockaddr *address) {
    uint8_t bytes[16];

    return effective_address(address, bytes) && same_prefix(network->address, bytes, network->bits);
}

bool network_peer_is_local(int fd) {
    static const struct network loopback4 = {{[10] = 0xff, 0xff, 127}, 96 + 8}, loopback6 = {{[15] = 1}, 128};
    struct sockaddr_storage peer = {0};
    const struct sockaddr *address = (const struct sockaddr *)&peer;
    socklen_t length = sizeof peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0)
        return false;
    return peer.ss_family == AF_UNIX || network_contains(&loopback4, address) || network_contains(&loopback6, address);
}

const char *network_write_address(const struct sockaddr *address, char text[NETWORK_ADDRESS_TEXT]) {
    const void *bytes = address->sa_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                            : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;

    if ((address->sa_family != AF_INET && address->sa_family != AF_INET6) ||
        inet_ntop(address->sa_family, bytes, text, NETWORK_ADDRESS_TEXT) == NULL)
        snprintf(text, NETWORK_ADDRESS_TEXT, "?");
    return text;
}
