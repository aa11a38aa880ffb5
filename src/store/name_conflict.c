#include "store/name_conflict.h"

enum store_answer names_no_such_app(struct slice id, struct error *error) {
    error_set(error, "there is no app with the id %.*s", SLICE_ARGS(id));
    return STORE_NOT_FOUND;
}

enum store_answer names_id_taken(struct slice id, struct error *error) {
    error_set(error, "there is already an app with the id %.*s", SLICE_ARGS(id));
    return STORE_ID_TAKEN;
}

enum store_answer names_key_taken(struct slice owner, struct error *error) {
    error_set(error, "the key is already that of app %.*s", SLICE_ARGS(owner));
    return STORE_KEY_TAKEN;
}
