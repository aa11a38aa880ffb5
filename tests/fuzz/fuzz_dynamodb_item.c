/*
 * Any JSON as an item of DynamoDB: what is taken for an app is written as an item, which is read and written again
 * as the same; what is refused says why.
 */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/app_defaults.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/row.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *written(const struct app *app) {
    json_t *item = json_object();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        json_t *attribute = dynamodb_attribute(app, (enum app_field)i);
        if (attribute != NULL)
            MUST(json_object_set_new(item, app_fields[i].name, attribute) == 0);
    }
    return item;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *item = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL), *first, *second;
    struct app_defaults defaults;
    struct error error = {0};
    struct app *app, *reread;

    if (item == NULL)
        return 0;
    app_defaults_of_100(&defaults);
    if (row_to_app(dynamodb_item_to_record(item), &defaults, &app, &error) == STORE_OK) {
        first = written(app);
        MUST(row_to_app(dynamodb_item_to_record(first), &defaults, &reread, &error) == STORE_OK);
        second = written(reread);
        MUST(json_equal(first, second));
        json_decref(first);
        json_decref(second);
        app_unref(reread);
        app_unref(app);
    } else {
        MUST(error.text[0] != '\0');
    }
    json_decref(item);
    return 0;
}
