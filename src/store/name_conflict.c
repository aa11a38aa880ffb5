#include "store/name_conflict.h"

#include "base/log.h"

enum store_answer conflict_no_such_app(struct slice id, struct error *error) {
    error_set(error, "there is no app with the id %.*s", SLICE_ARGS(id));
    return STORE_NOT_FOUND;
}

enum store_answer conflict_id_taken(struct slice id, struct error *error) {
    error_set(error, "there is already an app with the id %.*s", SLICE_ARGS(id));
    return STORE_ID_TAKEN;
}

enum store_answer conflict_key_taken(struct slice owner, struct error *error) {
    error_set(error, "the key is already that of app %.*s", SLICE_ARGS(owner));
    return STORE_KEY_TAKEN;
}

enum store_answer conflict_check_key(struct store_connection *connection, const struct conflict_lookups *lookups,
                                     const struct app *app, struct error *error) {
    struct buffer owner = {0};
    enum store_answer answer = lookups->key_owner(connection, app, &owner, error);

    if (answer == STORE_OK)
        answer = conflict_key_taken(buffer_slice(&owner), error);
    else if (answer == STORE_NOT_FOUND)
        answer = STORE_OK;
    buffer_dispose(&owner);
    return answer;
}

enum store_answer conflict_check_create(struct store_connection *connection, const struct conflict_lookups *lookups,
                                        const struct app *app, struct error *error) {
    struct buffer owner = {0};
    enum store_answer answer = lookups->id_owner(connection, app, &owner, error);

    if (answer == STORE_OK)
        answer = conflict_id_taken(buffer_slice(&owner), error);
    else if (answer == STORE_NOT_FOUND)
        answer = conflict_check_key(connection, lookups, app, error);
    buffer_dispose(&owner);
    return answer;
}

enum store_answer conflict_check_update(struct store_connection *connection, const struct conflict_lookups *lookups,
                                        const struct app *app, struct error *error) {
    struct buffer ignored = {0};
    enum store_answer answer = lookups->id_owner(connection, app, &ignored, error);

    buffer_dispose(&ignored);
    if (answer == STORE_NOT_FOUND)
        return conflict_no_such_app(app->id, error);
    return answer == STORE_OK ? conflict_check_key(connection, lookups, app, error) : answer;
}

void conflict_log_shared_key(struct slice first_id, struct slice second_id) {
    log_error("app", "apps %.*s and %.*s have the same key; the first one counts", SLICE_ARGS(first_id),
              SLICE_ARGS(second_id));
}
