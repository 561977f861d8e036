/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the collector that writes a recording still there?
 *
 * A pid alone is no name: the kernel gives it away again. Pid, start time and the
 * boot together are one. What /proc does not show counts as gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/query/recording.h"
#include "schema/base/cleanup.h"

/* The first bytes of a file of /proc, zero-terminated. */
static bool read_start(const char *path, char *buffer, size_t size)
{
    neap_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length;

    if (fd < 0)
        return false;
    do
        length = read(fd, buffer, size - 1);
    while (length < 0 && errno == EINTR);
    if (length <= 0)
        return false;
    buffer[length] = '\0';
    return true;
}

/* Field 22 of a line of /proc/PID/stat; -1 where it has none, or a zombie's. */
static int64_t stat_start(const char *line)
{
    /* The name, in brackets, may hold brackets and spaces: count from its end. */
    const char *field = strrchr(line, ')');
    char *end;
    long long start;

    if (!field || field[1] != ' ')
        return -1;
    field += 2;
    if (*field == 'Z' || *field == 'X')
        return -1;
    for (int number = 3; number < 22; number++) {
        field = strchr(field, ' ');
        if (!field)
            return -1;
        field++;
    }
    errno = 0;
    start = strtoll(field, &end, 10);
    return errno || end == field ? -1 : start;
}

bool neap_writer_alive(const char *boot_id, int64_t pid, int64_t start)
{
    char text[1024], path[64];

    if (!read_start("/proc/sys/kernel/random/boot_id", text, sizeof(text)))
        return false;
    text[strcspn(text, "\n")] = '\0';
    if (strcmp(text, boot_id) != 0 || pid <= 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    return read_start(path, text, sizeof(text)) && stat_start(text) == start;
}
