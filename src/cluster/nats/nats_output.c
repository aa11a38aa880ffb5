#include "cluster/nats/nats_output.h"

#include "cluster/nats/nats_flush.h"

/* What is handed to the library before the socket has taken what was handed over earlier. */
#define NATS_HANDED_MAX_BYTES (512 * 1024)

void nats_output_note(struct nats_threads *threads, struct nats_item *item) {
    atomic_fetch_add(&threads->unsent_bytes, item->size);
}

static void drop_nats_item(struct nats_link *link, struct nats_item *item) {
    atomic_fetch_sub(&link->threads->unsent_bytes, item->size);
    bus_bytes_unref(item->bytes);
    item->dispose(item);
}

static void hand_over_item(struct nats_link *link, struct nats_item *item) {
    const struct bus_bytes *bytes = item->bytes;

    if (bytes == NULL)
        nats_flush_begin(link, item->number);
    else
        natsConnection_Publish(link->connection, item->subject, bytes->data, (int)bytes->length);
    link->handed_bytes += item->size;
    drop_nats_item(link, item);
}

static bool has_room_for_output(const struct nats_link *link) {
    return link->handed_bytes < NATS_HANDED_MAX_BYTES;
}

void nats_output_add(struct nats_link *link, struct nats_item *item) {
    if (atomic_load(&link->ended))
        drop_nats_item(link, item);
    else if (list_empty(&link->unsent) && has_room_for_output(link))
        hand_over_item(link, item);
    else
        list_append(&link->unsent, &item->place);
}

static struct nats_item *take_unsent_item(struct nats_link *link) {
    struct nats_item *first = container_of(link->unsent.next, struct nats_item, place);

    list_remove(&first->place);
    return first;
}

void nats_output_written(struct nats_link *link) {
    link->handed_bytes = 0;
    while (!list_empty(&link->unsent) && has_room_for_output(link))
        hand_over_item(link, take_unsent_item(link));
}

void nats_output_drop(struct nats_link *link) {
    while (!list_empty(&link->unsent))
        drop_nats_item(link, take_unsent_item(link));
}
