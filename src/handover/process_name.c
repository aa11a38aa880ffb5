#include "handover/process_name.h"

#include <pthread.h>

static pthread_t main_thread;

void process_name_init(const char *name) {
    main_thread = pthread_self();
    process_name_set(name);
}

void process_name_set(const char *name) {
    pthread_setname_np(main_thread, name);
}
