/*
 * Any bytes as the line of a server, as an address of a server, and as a seed of an NKey. What is taken of an address
 * must come back when it is written and parsed again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/nats/nats_address.h"
#include "cluster/nats/nats_info.h"
#include "cluster/nats/nats_key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static void check_address(struct slice text) {
    struct nats_address address, again;
    struct error error;
    char url[4096];
    int length;

    if (!nats_address_parse(&address, text, &error)) {
        check(address.host == NULL && address.user == NULL && address.password == NULL && error.text[0] != '\0');
        return;
    }
    check(address.host[0] != '\0' && address.port != 0 && strchr(address.host, ' ') == NULL);
    check(address.password == NULL || address.user != NULL);
    length = snprintf(url, sizeof url, strchr(address.host, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u",
                      address.tls ? "tls://" : "nats://", address.host, address.port);
    /* An @ or a bracket in a host has another meaning the second time. */
    if (length < (int)sizeof url && strpbrk(address.host, "@[]/\t") == NULL) {
        check(nats_address_parse(&again, slice_of(url), &error));
        check(strcmp(again.host, address.host) == 0 && again.port == address.port && again.tls == address.tls);
        nats_address_dispose(&again);
    }
    nats_address_dispose(&address);
}

static void check_info(struct slice text) {
    struct nats_info info;

    if (!nats_info_parse(&info, text))
        return;
    check(info.others_count <= NATS_OTHERS_MAX);
    for (size_t i = 0; i < info.others_count; i++)
        check_address(slice_of(info.others[i]));
    nats_info_dispose(&info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size != 0 ? size : 1), key[NATS_KEY_LENGTH + 1];
    struct slice text = {copy, size};

    check(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    check_address(text);
    check_info(text);
    if (nats_key_from_seed(text, key))
        check(strlen(key) == NATS_KEY_LENGTH && key[0] == 'U');
    free(copy);
    return 0;
}
