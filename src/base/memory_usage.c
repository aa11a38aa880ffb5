#include "base/memory_usage.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 8192

/* The files of one version of the control group file system. */
struct hierarchy {
    const char *mount;
    const char *limit;
    const char *current;
    const char *reclaimable; /* name of the line in memory.stat */
};

static const struct hierarchy version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};
static const struct hierarchy version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                           "total_inactive_file "};

/* Reads the first TEXT_MAX - 1 bytes of a file as a string; false if there are none. */
static bool read_text(const char *path, char text[TEXT_MAX]) {
    size_t length = 0;
    ssize_t count;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    while (length < TEXT_MAX - 1 && (count = read(fd, text + length, TEXT_MAX - 1 - length)) > 0)
        length += (size_t)count;
    close(fd);
    text[length] = '\0';
    return length != 0;
}

/* Finds the number after `name` at the beginning of a line. */
static bool find_number(const char *text, const char *name, uint64_t *number) {
    size_t length = strlen(name);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0) {
            char *end;
            *number = strtoull(line + length, &end, 10);
            return end != line + length;
        }
    }
    return false;
}

static bool read_number(const char *folder, const char *file, const char *name, uint64_t *number) {
    char path[PATH_MAX], text[TEXT_MAX];

    return snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path && read_text(path, text) &&
           find_number(text, name, number);
}

static bool read_machine(const char *root, struct memory_usage *usage) {
    char path[PATH_MAX], text[TEXT_MAX];
    uint64_t total_kb, available_kb;

    if (snprintf(path, sizeof path, "%s/proc/meminfo", root) >= (int)sizeof path || !read_text(path, text) ||
        !find_number(text, "MemTotal:", &total_kb) || !find_number(text, "MemAvailable:", &available_kb))
        return false;
    usage->total_bytes = total_kb * 1024;
    usage->used_bytes = available_kb < total_kb ? (total_kb - available_kb) * 1024 : 0;
    return true;
}

/* Uses the figures of the group if its limit is lower than the total so far. */
static void apply_group(const char *folder, const struct hierarchy *hierarchy, struct memory_usage *usage) {
    uint64_t limit, current, reclaimable = 0;

    /* Without a limit, version 2 says "max" and version 1 a number larger than any machine's memory. */
    if (!read_number(folder, hierarchy->limit, "", &limit) || limit == 0 || limit >= usage->total_bytes ||
        !read_number(folder, hierarchy->current, "", &current))
        return;
    (void)read_number(folder, "memory.stat", hierarchy->reclaimable, &reclaimable);
    usage->total_bytes = limit;
    usage->used_bytes = current > reclaimable ? current - reclaimable : 0;
    if (usage->used_bytes > limit)
        usage->used_bytes = limit;
}

/* Reads the group and all groups above it: the lowest limit applies. */
static void apply_groups(const char *root, const struct hierarchy *hierarchy, const char *group,
                         struct memory_usage *usage) {
    char folder[PATH_MAX];
    int length = snprintf(folder, sizeof folder, "%s%s%s", root, hierarchy->mount, group);
    size_t top = strlen(root) + strlen(hierarchy->mount);

    if (length < 0 || length >= (int)sizeof folder)
        return;
    for (;;) {
        char *slash;
        apply_group(folder, hierarchy, usage);
        slash = strrchr(folder, '/');
        if (strlen(folder) <= top || slash < folder + top)
            return;
        *slash = '\0';
    }
}

/* Finds the process's groups: lines are "0::/path" for version 2 and "4:memory:/path" for version 1. */
static void read_groups(const char *root, struct memory_usage *usage) {
    char path[PATH_MAX], text[TEXT_MAX];
    char *rest = text;
    char *line;

    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path || !read_text(path, text))
        return;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        if (strncmp(line, "0:", 2) == 0 && *controllers == '\0')
            apply_groups(root, &version_2, group, usage);
        else if (strcmp(controllers, "memory") == 0)
            apply_groups(root, &version_1, group, usage);
    }
}

bool memory_usage_under(const char *root, struct memory_usage *usage) {
    if (!read_machine(root, usage))
        return false;
    read_groups(root, usage);
    return true;
}

bool memory_usage(struct memory_usage *usage) {
    return memory_usage_under("", usage);
}

bool memory_of_process(uint64_t *virtual_bytes, uint64_t *resident_bytes) {
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    char text[TEXT_MAX], *end;

    if (!read_text("/proc/self/statm", text))
        return false;
    *virtual_bytes = strtoull(text, &end, 10) * page_bytes;
    *resident_bytes = strtoull(end, NULL, 10) * page_bytes;
    return true;
}
