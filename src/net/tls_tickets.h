/*
 * The keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1), with which a client that comes back resumes its
 * session: a handshake without the signature of the private key.
 *
 * The server keeps no sessions: a ticket holds the session, encrypted. All workers share the keys, so that a client may
 * come back to any of them. A new key is made every hour. The keys before it decrypt tickets until the last ticket that
 * they encrypted has expired, and are then wiped: who steals the keys reads no session that is older.
 *
 * Any thread.
 */
#pragma once

#include <stdint.h>

#define TLS_TICKET_KEY_MS (3600 * 1000)
#define TLS_TICKET_LIFETIME_S 7200
#define TLS_TICKET_NAME_BYTES 16

struct tls_tickets;

struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_BYTES]; /* in clear in each ticket */
    uint8_t encryption[32];              /* AES-256-CBC */
    uint8_t mac[32];                     /* HMAC-SHA-256 */
};

/* Creates the first key. Times are those of the monotonic clock. */
struct tls_tickets *tls_tickets_create(uint64_t now_ms);
/* NULL is ignored. */
void tls_tickets_destroy(struct tls_tickets *tickets);

/* Makes a new key when it is due, and wipes those that no valid ticket needs. Call it every few seconds. */
void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms);

/* Copies the key for new tickets. The caller wipes the copy. */
void tls_tickets_newest(struct tls_tickets *tickets, struct tls_ticket_key *key);

enum tls_ticket_state {
    TLS_TICKET_UNKNOWN, /* of another process, or too old */
    TLS_TICKET_OLD,     /* valid, but not of the newest key */
    TLS_TICKET_NEWEST,
};

/* Copies the key that has this name, unless it is unknown. The caller wipes the copy. */
enum tls_ticket_state tls_tickets_find(struct tls_tickets *tickets, const uint8_t name[TLS_TICKET_NAME_BYTES],
                                       struct tls_ticket_key *key);
