#include "cluster/message/message.h"

/* tests/releases/ links programs with another one in its place. */
struct message_versions message_versions_own(void) {
    return (struct message_versions){.lowest = 1, .highest = 1};
}
