#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

bool config_split_address(const char *address, char host[256], uint16_t *port) {
    const char *colon = strrchr(address, ':');
    size_t length = colon != NULL ? (size_t)(colon - address) : 0;
    char *end = NULL;
    unsigned long number = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

    if (length == 0 || length > 255 || colon[1] < '0' || colon[1] > '9' || *end != '\0' || number > 65535)
        return false;
    if (address[0] == '[' && address[length - 1] == ']')
        snprintf(host, 256, "%.*s", (int)length - 2, address + 1);
    else
        snprintf(host, 256, "%.*s", (int)length, address);
    *port = (uint16_t)number;
    return true;
}
