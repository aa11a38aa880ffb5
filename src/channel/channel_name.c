#include "channel/channel_name.h"

/* The characters of a channel name: letters, digits and _-=@,.;:# */
static const bool name_bytes[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['_'] = true, ['-'] = true, ['='] = true,
    ['@'] = true,         [','] = true,         ['.'] = true,         [';'] = true, [':'] = true, ['#'] = true,
};

struct channel_type channel_type_of(struct slice name) {
    static const struct {
        struct slice prefix;
        struct channel_type type;
    } prefixes[] = {
        /* A prefix that begins with another one must come before it. */
        {SLICE_INIT("private-encrypted-cache-"), {CHANNEL_ENCRYPTED, true}},
        {SLICE_INIT("private-encrypted-"), {CHANNEL_ENCRYPTED, false}},
        {SLICE_INIT("private-cache-"), {CHANNEL_PRIVATE, true}},
        {SLICE_INIT("private-"), {CHANNEL_PRIVATE, false}},
        {SLICE_INIT("presence-cache-"), {CHANNEL_PRESENCE, true}},
        {SLICE_INIT("presence-"), {CHANNEL_PRESENCE, false}},
        {SLICE_INIT("cache-"), {CHANNEL_PUBLIC, true}},
        {{USER_CHANNEL_PREFIX, sizeof USER_CHANNEL_PREFIX - 1}, {CHANNEL_USER, false}},
    };

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (name.length != 0 && name.data[0] == prefixes[i].prefix.data[0] &&
            slice_starts_with(name, prefixes[i].prefix))
            return prefixes[i].type;
    return (struct channel_type){CHANNEL_PUBLIC, false};
}

bool channel_name_valid(struct slice name) {
    if (slice_starts_with(name, SLICE(USER_CHANNEL_PREFIX))) {
        size_t id_length = name.length - (sizeof USER_CHANNEL_PREFIX - 1);
        return id_length >= 1 && id_length <= USER_ID_MAX;
    }
    for (size_t i = 0; i < name.length; i++)
        if (!name_bytes[(unsigned char)name.data[i]])
            return false;
    return name.length != 0;
}

enum channel_label channel_label_of(struct channel_type type) {
    if (type.caches)
        return LABEL_CACHE;
    switch (type.kind) {
    case CHANNEL_PRIVATE:
    case CHANNEL_ENCRYPTED:
    case CHANNEL_USER:
        return LABEL_PRIVATE;
    case CHANNEL_PRESENCE:
        return LABEL_PRESENCE;
    case CHANNEL_PUBLIC:
        break;
    }
    return LABEL_PUBLIC;
}
