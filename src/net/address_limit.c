#include "net/address_limit.h"

#include "net/address_table.h"
#include "net/client_address.h"

void address_limit_accept(struct worker *worker, int fd) {
    struct address_table *table = worker->all->addresses;
    uint64_t address;

    if (table == NULL || !address_table_counts_at_accept(table))
        return;
    if (peer_address_read(fd, &address))
        (void)address_table_enter(table, fd, address); /* over the limit: see address_limit_admit */
    else
        address_table_enter_unknown(table, fd);
}

bool address_limit_admit(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops,
                         struct error *text) {
    struct address_table *table = http_worker(connection)->all->addresses;
    int fd = http_stream(connection)->fd;
    uint64_t address;

    if (table == NULL || address_table_holds(table, fd) || !client_address(connection, request, trust_hops, &address) ||
        address_table_enter(table, fd, address))
        return true;
    address_table_count_refusal(table);
    return error_set(text,
                     "too many connections from this address: rate_limiter.max_connections_per_address is %u; close "
                     "some, or try again later",
                     address_table_most(table));
}

void address_limit_exempt(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops) {
    struct address_table *table = http_worker(connection)->all->addresses;
    int fd = http_stream(connection)->fd;
    uint64_t address;

    if (table == NULL || !address_table_counts_at_accept(table) || address_table_holds(table, fd))
        return;
    if (client_address(connection, request, trust_hops, &address) && !address_table_enter(table, fd, address))
        http_close_after_answer(connection);
}
