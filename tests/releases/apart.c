/* A later release, which does not speak this one's version any more. */
#include "cluster/message/message.h"

struct message_versions message_versions_own(void) {
    return (struct message_versions){.lowest = 2, .highest = 2};
}
