#include "cluster/state/set_versions.h"

#include <stdlib.h>

#include "base/alloc.h"

/* What a node's word that it holds nothing means for changes that were kept before: those up to the first one of an
 * empty set are older. */
enum set_claim {
    CLAIM_NONE,
    CLAIM_EMPTY,         /* the node said so */
    CLAIM_EMPTY_DROPPED, /* and changes were dropped for it */
};

/* The longest wait after a refusal. */
#define REFUSED_WAIT_MAX_S 60

static uint64_t bit_of_node(unsigned node) {
    return UINT64_C(1) << node;
}

void set_versions_dispose(struct set_versions *versions) {
    free(versions->list);
    *versions = (struct set_versions){0};
}

/* --- the list --- */

static struct set_version *find_set_version(const struct set_versions *versions, unsigned node) {
    for (unsigned i = 0; i < versions->count; i++)
        if (versions->list[i].node == node)
            return &versions->list[i];
    return NULL;
}

/* Finds the entry of a node, or adds one of an empty set. */
static struct set_version *require_set_version(struct set_versions *versions, unsigned node) {
    struct set_version *found = find_set_version(versions, node);

    if (found != NULL)
        return found;
    if (versions->count == versions->capacity) {
        versions->capacity = versions->capacity == 0 ? 1 : (uint16_t)(versions->capacity * 2);
        versions->list = alloc_array(versions->list, versions->capacity, sizeof versions->list[0]);
    }
    found = &versions->list[versions->count++];
    *found = (struct set_version){.node = (uint8_t)node, .emptied_s = 1};
    return found;
}

static void remove_set_version(struct set_versions *versions, struct set_version *set) {
    *set = versions->list[--versions->count];
    if (versions->count == 0) {
        free(versions->list);
        versions->list = NULL;
        versions->capacity = 0;
    }
}

static bool set_is_empty(const struct set_version *set) {
    return set == NULL || set->emptied_s != 0;
}

/* True if nothing of the node's set is asked for or being taken in. */
static bool set_is_settled(const struct set_versions *versions, unsigned node) {
    return ((versions->known & ~versions->asked & ~versions->busy) >> node & 1) != 0;
}

static void clear_node_bits(struct set_versions *versions, unsigned node) {
    versions->known &= ~bit_of_node(node);
    versions->asked &= ~bit_of_node(node);
    versions->busy &= ~bit_of_node(node);
}

static void note_set(struct set_versions *versions, unsigned node, uint64_t version, bool empty, uint32_t now_s) {
    struct set_version *set = find_set_version(versions, node);

    if (set == NULL && empty && version == 0)
        return;
    set = require_set_version(versions, node);
    set->version = version;
    set->emptied_s = !empty ? 0 : now_s != 0 ? now_s : 1;
    set->refusals = 0;
    if (set->heard < version)
        set->heard = version;
}

static void note_heard(struct set_versions *versions, unsigned node, uint64_t version) {
    struct set_version *set = require_set_version(versions, node);

    if (set->heard < version)
        set->heard = version;
}

/* True if nothing of the node is awaited, and it is too early to ask it again. */
static bool set_rests(const struct set_versions *versions, const struct set_version *set, uint32_t now_s) {
    return set != NULL && set->refusals != 0 && now_s < set->ask_from_s &&
           ((versions->known | versions->asked | versions->busy) >> set->node & 1) == 0;
}

/* --- messages --- */

/* True if the change is the one after the set that is known. */
static bool change_follows(const struct set_version *set, const struct set_change *change) {
    return set_is_empty(set) ? change->before == 0 : change->before == set->version;
}

enum set_step set_versions_change(struct set_versions *versions, unsigned node, const struct set_change *change,
                                  uint32_t now_s) {
    const struct set_version *set = find_set_version(versions, node);

    if (set != NULL && change->version <= set->version)
        return SET_IGNORE;
    if (set_is_settled(versions, node) && change_follows(set, change)) {
        note_set(versions, node, change->version, change->empties, now_s);
        return SET_APPLY;
    }
    if (set_rests(versions, set, now_s))
        return SET_IGNORE;
    note_heard(versions, node, change->version);
    if (set_versions_busy(versions, node))
        return SET_KEEP;
    return set_versions_ask(versions, node) ? SET_ASK : SET_KEEP;
}

enum set_step set_versions_told(struct set_versions *versions, unsigned node, uint64_t version, uint32_t now_s) {
    const struct set_version *set = find_set_version(versions, node);

    if (version == 0) {
        bool differs = set_is_settled(versions, node) && !set_is_empty(set);
        return differs && set_versions_ask(versions, node) ? SET_ASK : SET_IGNORE;
    }
    if ((set != NULL && version <= set->version) || set_rests(versions, set, now_s))
        return SET_IGNORE;
    note_heard(versions, node, version);
    return !set_versions_busy(versions, node) && set_versions_ask(versions, node) ? SET_ASK : SET_IGNORE;
}

/* The node had no newer version when it answered: one that was named before it was asked is none of its. */
static void check_heard(struct set_version *set, uint64_t version, uint32_t request) {
    if (set != NULL && set->asked_by == request && set->heard == set->heard_then && version < set->heard &&
        version >= set->version)
        set->heard = version;
}

enum set_step set_versions_begin(struct set_versions *versions, unsigned node, uint64_t version, uint32_t request) {
    struct set_version *set = find_set_version(versions, node);
    bool known = set_versions_known(versions, node), awaited = set_versions_awaits(versions, node, request);

    if (set_versions_busy(versions, node)) {
        note_heard(versions, node, version);
        return SET_IGNORE;
    }
    if (awaited) {
        versions->asked &= ~bit_of_node(node);
        check_heard(set, version, request);
    }
    if (known && set != NULL && (version < set->version || (version == set->version && !awaited)))
        return SET_IGNORE;
    note_heard(versions, node, version);
    versions->busy |= bit_of_node(node);
    return SET_APPLY;
}

enum set_step set_versions_nothing(struct set_versions *versions, unsigned node, uint32_t now_s) {
    struct set_version *set = find_set_version(versions, node);
    bool known = set_versions_known(versions, node);

    versions->asked &= ~bit_of_node(node);
    versions->known |= bit_of_node(node);
    if (set == NULL)
        return SET_IGNORE;
    set->claim = CLAIM_EMPTY;
    if (!known || !set_is_empty(set)) {
        versions->busy |= bit_of_node(node);
        return SET_APPLY;
    }
    set->emptied_s = now_s != 0 ? now_s : 1;
    return SET_IGNORE;
}

void set_versions_taken(struct set_versions *versions, unsigned node, uint64_t version, bool empty, bool done,
                        uint32_t now_s) {
    versions->busy &= ~bit_of_node(node);
    if (!done) {
        /* The channel may have a part of the set: a digest must not say that nothing is there. */
        if (set_is_empty(find_set_version(versions, node)))
            versions->known &= ~bit_of_node(node);
        return;
    }
    versions->known |= bit_of_node(node);
    note_set(versions, node, version, empty, now_s);
}

void set_versions_refused(struct set_versions *versions, unsigned node, uint32_t now_s) {
    struct set_version *set = require_set_version(versions, node);
    unsigned refusals = set->refusals < 8 ? set->refusals + 1u : set->refusals;
    uint32_t wait_s = UINT32_C(1) << (refusals - 1);

    clear_node_bits(versions, node);
    if (wait_s > REFUSED_WAIT_MAX_S)
        wait_s = REFUSED_WAIT_MAX_S;
    /* The clock counts whole seconds: one more, so that none is cut short. */
    *set = (struct set_version){.node = (uint8_t)node,
                                .emptied_s = now_s != 0 ? now_s : 1,
                                .refusals = (uint8_t)refusals,
                                .ask_from_s = now_s + wait_s + 1};
}

void set_versions_doubt(struct set_versions *versions, unsigned node) {
    struct set_version *set = require_set_version(versions, node);

    clear_node_bits(versions, node);
    *set = (struct set_version){.node = (uint8_t)node, .emptied_s = 1};
}

/* --- kept changes --- */

bool set_versions_keep(struct set_versions *versions, struct set_kept *kept) {
    if (versions->kept_count >= SET_KEPT_MAX)
        return false;
    kept->next = NULL;
    if (versions->kept == NULL)
        versions->kept = kept;
    else
        versions->newest_kept->next = kept;
    versions->newest_kept = kept;
    versions->kept_count++;
    return true;
}

struct set_kept *set_versions_take_all(struct set_versions *versions) {
    struct set_kept *all = versions->kept;

    versions->kept = versions->newest_kept = NULL;
    versions->kept_count = 0;
    return all;
}

/* Takes a change out of the list; `before` is the one before it, NULL: it is the first. */
static struct set_kept *take_kept(struct set_versions *versions, struct set_kept *before, struct set_kept *kept) {
    if (before == NULL)
        versions->kept = kept->next;
    else
        before->next = kept->next;
    if (versions->newest_kept == kept)
        versions->newest_kept = before;
    versions->kept_count--;
    return kept;
}

/* True if the oldest kept change of a node says nothing new. */
static bool kept_is_old(struct set_version *set, const struct set_kept *kept) {
    if (set == NULL)
        return false;
    if (kept->change.version <= set->version)
        return true;
    if (kept->change.version > set->heard && !change_follows(set, &kept->change))
        return true; /* see check_heard */
    if (set->claim == CLAIM_NONE || kept->change.before == 0)
        return false;
    set->claim = CLAIM_EMPTY_DROPPED;
    return true;
}

/* What there is to do when no kept change can be applied. */
static enum set_step after_kept_changes(struct set_versions *versions, unsigned node, struct set_version *set,
                                        bool more_kept) {
    enum set_claim claim;

    if (set == NULL)
        return SET_IGNORE;
    claim = (enum set_claim)set->claim;
    set->claim = CLAIM_NONE;
    if (claim == CLAIM_EMPTY && !more_kept)
        set->heard = set->version;
    return set->heard > set->version && set_versions_ask(versions, node) ? SET_ASK : SET_IGNORE;
}

struct set_kept *set_versions_next(struct set_versions *versions, unsigned node, enum set_step *step, uint32_t now_s) {
    struct set_version *set = find_set_version(versions, node);
    struct set_kept *before = NULL, *kept = versions->kept;

    *step = SET_IGNORE;
    if (!set_versions_known(versions, node) || set_versions_busy(versions, node))
        return NULL;
    while (kept != NULL && kept->node != node) {
        before = kept;
        kept = kept->next;
    }
    if (kept != NULL && kept_is_old(set, kept))
        return take_kept(versions, before, kept);
    if (kept != NULL && !set_versions_asked(versions, node) && change_follows(set, &kept->change)) {
        if (set != NULL)
            set->claim = CLAIM_NONE;
        note_set(versions, node, kept->change.version, kept->change.empties, now_s);
        *step = SET_APPLY;
        return take_kept(versions, before, kept);
    }
    *step = after_kept_changes(versions, node, set, kept != NULL);
    return NULL;
}

/* --- requests --- */

bool set_versions_ask(struct set_versions *versions, unsigned node) {
    struct set_version *set = find_set_version(versions, node);

    if (set_versions_asked(versions, node) ||
        (!set_versions_known(versions, node) && set_versions_busy(versions, node)))
        return false;
    versions->asked |= bit_of_node(node);
    if (set != NULL)
        set->asked_by = 0;
    return true;
}

void set_versions_asked_by(struct set_versions *versions, unsigned node, uint32_t request) {
    struct set_version *set =
        set_versions_known(versions, node) ? require_set_version(versions, node) : find_set_version(versions, node);

    if (set == NULL)
        return;
    set->asked_by = request;
    set->heard_then = set->heard;
}

bool set_versions_awaits(const struct set_versions *versions, unsigned node, uint32_t request) {
    const struct set_version *set = find_set_version(versions, node);

    if (!set_versions_asked(versions, node) || set_versions_busy(versions, node))
        return false;
    return !set_versions_known(versions, node) || (set != NULL && set->asked_by == request);
}

void set_versions_overtaken(struct set_versions *versions, unsigned node, uint32_t request) {
    const struct set_version *set = find_set_version(versions, node);

    if (set_versions_busy(versions, node) && set != NULL && set->asked_by == request)
        versions->asked &= ~bit_of_node(node);
}

void set_versions_unanswered(struct set_versions *versions, unsigned node) {
    versions->asked &= ~bit_of_node(node);
}

/* --- all the rest --- */

void set_versions_forget(struct set_versions *versions, unsigned node) {
    struct set_version *set = find_set_version(versions, node);

    clear_node_bits(versions, node);
    if (set != NULL)
        remove_set_version(versions, set);
}

void set_versions_expire(struct set_versions *versions, uint32_t before_s) {
    for (unsigned i = versions->count; i-- > 0;) {
        struct set_version *set = &versions->list[i];
        if (set_versions_known(versions, set->node) && set->emptied_s != 0 && set->emptied_s < before_s &&
            set->heard <= set->version)
            remove_set_version(versions, set);
    }
}

uint64_t set_versions_of(const struct set_versions *versions, unsigned node) {
    return set_versions_known(versions, node) && !set_is_empty(find_set_version(versions, node))
               ? set_versions_applied(versions, node)
               : 0;
}

uint64_t set_versions_applied(const struct set_versions *versions, unsigned node) {
    const struct set_version *set = find_set_version(versions, node);

    return set != NULL ? set->version : 0;
}
