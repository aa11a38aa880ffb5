#include "cluster/redis/redis_login.h"

enum redis_login_step { STEP_AUTH, STEP_SELECT, STEP_NAME, STEP_ROLE, STEP_PING, STEP_COUNT };

static bool login_has_step(const struct redis_access *access, unsigned step) {
    switch (step) {
    case STEP_AUTH:
        return access->password != NULL;
    case STEP_SELECT:
        return access->db != 0;
    case STEP_ROLE:
        return access->master_only;
    default:
        return true;
    }
}

static void append_login_step(const struct redis_access *access, unsigned step, struct redis_output *output) {
    char digits[NUMBER_DIGITS];

    switch (step) {
    case STEP_AUTH:
        redis_output_command(output, access->username != NULL ? 3 : 2);
        redis_output_word(output, SLICE("AUTH"));
        if (access->username != NULL)
            redis_output_word(output, slice_of(access->username));
        redis_output_word(output, slice_of(access->password));
        break;
    case STEP_SELECT:
        redis_output_command(output, 2);
        redis_output_word(output, SLICE("SELECT"));
        redis_output_word(output, slice_of_number(access->db, digits));
        break;
    case STEP_NAME:
        redis_output_command(output, 3);
        redis_output_word(output, SLICE("CLIENT"));
        redis_output_word(output, SLICE("SETNAME"));
        redis_output_word(output, slice_of(access->label));
        break;
    default:
        redis_output_command(output, 1);
        redis_output_word(output, step == STEP_ROLE ? SLICE("ROLE") : SLICE("PING"));
    }
}

static unsigned next_login_step(const struct redis_access *access, unsigned step) {
    while (step < STEP_COUNT && !login_has_step(access, step))
        step++;
    return step;
}

void redis_login_begin(struct redis_login *login, const struct redis_access *access, struct redis_output *output) {
    for (unsigned step = 0; step < STEP_COUNT; step++)
        if (login_has_step(access, step))
            append_login_step(access, step, output);
    login->step = next_login_step(access, 0);
}

static bool explain_refused_login(const struct redis_access *access, const struct redis_value *value,
                                  struct error *error) {
    const char *text = value->text.data;

    if (access->username != NULL && redis_value_begins_with(value, "ERR wrong number of arguments"))
        return error_set(error, "it is older than Redis 6 and has no users: leave %s%s out",
                         access->username_key != NULL ? "" : "the user in ",
                         access->username_key != NULL ? access->username_key : access->key);
    if (access->password_key == NULL)
        return error_set(error, "it refuses the %s in %s: %.200s",
                         access->username != NULL ? "user or the password" : "password", access->key, text);
    if (access->username == NULL)
        return error_set(error, "it refuses %s: %.200s", access->password_key, text);
    return error_set(error, "it refuses %s or %s: %.200s",
                     access->username_key != NULL ? access->username_key : access->key, access->password_key, text);
}

static bool explain_missing_password(const struct redis_access *access, struct error *error) {
    if (access->password_key == NULL)
        return error_set(error, "it wants a password, and %s has none", access->key);
    return error_set(error, "it wants a password: set %s", access->password_key);
}

bool redis_role_is_master(const struct redis_value *value, struct error *error) {
    struct slice role = redis_value_item_text(value, 0);

    if (value->type != REDIS_ARRAY || slice_equal(role, SLICE("master")))
        return true;
    return error_set(error, "it is a %s, not a master: messages to it do not reach all nodes",
                     slice_equal(role, SLICE("slave")) || role.data == NULL ? "replica" : role.data);
}

enum redis_login_result redis_login_answer(struct redis_login *login, const struct redis_access *access,
                                           const struct redis_value *value, struct error *error) {
    bool refused = value->type == REDIS_ERROR;

    if (login->step == STEP_AUTH && refused)
        explain_refused_login(access, value, error);
    else if (login->step == STEP_SELECT && refused)
        error_set(error, "it has no database %u, which %s names: %.200s", access->db,
                  access->password_key != NULL ? "database.redis.db" : access->key, value->text.data);
    else if (login->step == STEP_ROLE && !redis_role_is_master(value, error))
        return REDIS_LOGIN_FAILED;
    else if (refused && redis_value_begins_with(value, "NOAUTH"))
        explain_missing_password(access, error);
    else if (refused && login->step == STEP_PING && !redis_value_begins_with(value, "NOPERM"))
        error_set(error, "%.200s", value->text.data);
    else {
        login->step = next_login_step(access, login->step + 1);
        return login->step == STEP_COUNT ? REDIS_LOGIN_DONE : REDIS_LOGIN_GOES_ON;
    }
    return REDIS_LOGIN_FAILED;
}
