/* The next release: it speaks this one's version, and one more. */
#include "cluster/message/message.h"

struct message_versions message_versions_own(void) {
    return (struct message_versions){.lowest = 1, .highest = 2};
}
