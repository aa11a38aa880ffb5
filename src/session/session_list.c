#include "session/session_internal.h"

void session_list_add(struct session *session, const struct app *app) {
    struct app_part *part = session_part(session);

    if (list_empty(&part->sessions)) {
        part->to_review = 0;
        part->reviewed_origins = app->origins_hash;
        part->reviewed_sign_in = app->enable_user_authentication;
        list_append(&session->server->parts[session_worker(session)->index], &part->link);
    }
    list_append(&part->sessions, &session->link);
    part->session_count++;
}

void session_list_remove(struct session *session) {
    struct app_part *part = session_part(session);

    list_remove(&session->link);
    part->session_count--;
    if (list_empty(&part->sessions))
        list_remove(&part->link);
}

void session_server_init(struct session_server *server) {
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        list_init(&server->parts[i]);
}
