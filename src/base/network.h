/*
 * Networks of IP addresses, as `10.0.0.0/8` and `fe80::/10` name them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sockaddr;

/* An IPv6 network, or an IPv4 network in the form of addresses that are mapped to IPv6 (RFC 4291 section 2.5.5.2). */
struct network {
    uint8_t address[16];
    uint8_t bits; /* of the prefix */
};

/* Room for any address as text, with the terminating zero. */
#define NETWORK_ADDRESS_TEXT 48

/* Parses ADDRESS/BITS, or an address alone; false if it is neither, or if bits behind the prefix are set. */
bool network_parse(const char *text, struct network *network);

/*
 * True if an IPv4 or IPv6 address is in the network. An IPv4 address inside an IPv6 address (mapped, or NAT64 of RFC
 * 6052) counts as itself. 0.0.0.0 and :: count as the loopback address: connections to them arrive there.
 */
bool network_contains(const struct network *network, const struct sockaddr *address);

/* True if the other end of a connected socket is on this machine: a Unix socket, or a loopback address. */
bool network_peer_is_local(int fd);

/* Writes the address, without the port; "?" if it is neither IPv4 nor IPv6. Returns `text`. */
const char *network_write_address(const struct sockaddr *address, char text[NETWORK_ADDRESS_TEXT]);
