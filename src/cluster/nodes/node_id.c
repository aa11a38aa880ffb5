#include "cluster/nodes/node_id.h"

#include "base/crypto.h"

struct node_id node_id_draw(void) {
    struct node_id id;

    random_bytes(&id, sizeof id);
    return id;
}

void node_id_format(struct node_id id, char hex[NODE_ID_HEX + 1]) {
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < 16; i++) {
        hex[i] = digits[id.high >> (60 - 4 * i) & 15];
        hex[16 + i] = digits[id.low >> (60 - 4 * i) & 15];
    }
    hex[NODE_ID_HEX] = '\0';
}
