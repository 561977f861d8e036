/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines on standard error. A line is cut at what a pipe takes in one piece; control
 * characters, which a file name may hold, are shown as '?': a terminal obeys them.
 */
#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

void neap_log(const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    int length = snprintf(line, sizeof(line), "neap: ");
    va_list args;
    int added;

    va_start(args, format);
    added = vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, args);
    va_end(args);
    if (added < 0)
        return;
    length += added;
    if (length > LINE_MAX_BYTES - 2)
        length = LINE_MAX_BYTES - 2;
    for (int i = 0; i < length; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[length++] = '\n';
    while (write(STDERR_FILENO, line, (size_t)length) < 0 && errno == EINTR)
        ;
}

void neap_log_error(struct neap_error *error)
{
    if (!error)
        return;
    neap_log("%s", error->message);
    neap_error_destroy(error);
}

const char *neap_size_text(uint64_t bytes, char buffer[NEAP_SIZE_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1024 && unit + 1 < NEAP_ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, NEAP_SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}
