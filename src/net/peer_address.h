/*
 * The address of the peer of a socket as text, and lines of the log at level debug about it. Any thread.
 */
#pragma once

#include <stdbool.h>

/* Room for any address as text, with the terminating zero. */
#define CLIENT_ADDRESS_TEXT 48

/* Writes the address; false if the socket has none or the peer is gone. */
bool peer_address_write(int fd, char text[CLIENT_ADDRESS_TEXT]);

/* Writes the address, or returns a word for the log in its place. */
const char *peer_address_text(int fd, char text[CLIENT_ADDRESS_TEXT]);

/* Log at level debug what the peer does not get: a request that is refused before its path is looked at, and TLS. */
void peer_address_log_refusal(int fd, unsigned status, const char *why);
void peer_address_log_tls(int fd, bool in_handshake, const char *why);
