#include "net/tls_tickets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypto.h"

/* The last ticket of a key expires this long after the key was made. */
#define KEY_LIFE_MS (TLS_TICKET_KEY_MS + TLS_TICKET_LIFETIME_S * 1000)
#define KEYS (KEY_LIFE_MS / TLS_TICKET_KEY_MS)

struct tls_tickets {
    /* Held for a copy: a handshake computes for a thousand times as long. */
    pthread_mutex_t mutex;
    struct {
        struct tls_ticket_key key;
        uint64_t made_ms;
    } keys[KEYS]; /* the newest first */
    unsigned count;
};

static void add_ticket_key(struct tls_tickets *tickets, uint64_t now_ms) {
    memmove(&tickets->keys[1], &tickets->keys[0], (KEYS - 1) * sizeof tickets->keys[0]);
    random_bytes(&tickets->keys[0].key, sizeof tickets->keys[0].key);
    tickets->keys[0].made_ms = now_ms;
    if (tickets->count < KEYS)
        tickets->count++;
}

struct tls_tickets *tls_tickets_create(uint64_t now_ms) {
    struct tls_tickets *tickets = alloc_zero(sizeof *tickets);

    pthread_mutex_init(&tickets->mutex, NULL);
    add_ticket_key(tickets, now_ms);
    return tickets;
}

void tls_tickets_destroy(struct tls_tickets *tickets) {
    if (tickets == NULL)
        return;
    pthread_mutex_destroy(&tickets->mutex);
    explicit_bzero(tickets->keys, sizeof tickets->keys);
    free(tickets);
}

void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms) {
    pthread_mutex_lock(&tickets->mutex);
    if (now_ms - tickets->keys[0].made_ms >= TLS_TICKET_KEY_MS)
        add_ticket_key(tickets, now_ms);
    while (now_ms - tickets->keys[tickets->count - 1].made_ms >= KEY_LIFE_MS) {
        tickets->count--;
        explicit_bzero(&tickets->keys[tickets->count], sizeof tickets->keys[0]);
    }
    pthread_mutex_unlock(&tickets->mutex);
}

void tls_tickets_newest(struct tls_tickets *tickets, struct tls_ticket_key *key) {
    pthread_mutex_lock(&tickets->mutex);
    *key = tickets->keys[0].key;
    pthread_mutex_unlock(&tickets->mutex);
}

enum tls_ticket_state tls_tickets_find(struct tls_tickets *tickets, const uint8_t name[TLS_TICKET_NAME_BYTES],
                                       struct tls_ticket_key *key) {
    enum tls_ticket_state state = TLS_TICKET_UNKNOWN;

    pthread_mutex_lock(&tickets->mutex);
    for (unsigned i = 0; i < tickets->count && state == TLS_TICKET_UNKNOWN; i++) {
        if (memcmp(tickets->keys[i].key.name, name, TLS_TICKET_NAME_BYTES) != 0)
            continue;
        *key = tickets->keys[i].key;
        state = i == 0 ? TLS_TICKET_NEWEST : TLS_TICKET_OLD;
    }
    pthread_mutex_unlock(&tickets->mutex);
    return state;
}
