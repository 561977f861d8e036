/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A preload that says at a process's end what it used: one line "NAME USER+SYS_us
 * PEAK_RSS_KiB" appended to $BENCH_CPU. So the target, the collector and every helper
 * of a tool are each counted, whoever waits for them. NAME is that of the program's
 * first word: the kernel's name is valgrind's under valgrind.
 *
 * Preloads end in their order: behind a tool's library this one counts that one's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[256];

/* Some programs write over their environment. */
static __attribute__((constructor)) void begin(void)
{
    const char *given = getenv("BENCH_CPU");

    if (given)
        snprintf(path, sizeof(path), "%s", given);
}

/* ru_maxrss would be the parent's where that was larger before exec. */
static long peak_kib(void)
{
    static char status[8192];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    const char *line;
    ssize_t length;

    if (fd < 0)
        return 0;
    length = read(fd, status, sizeof(status) - 1);
    close(fd);
    status[length > 0 ? length : 0] = 0;
    line = strstr(status, "VmHWM:");
    return line ? atol(line + 6) : 0;
}

static __attribute__((destructor)) void say(void)
{
    struct rusage used;
    char line[128];
    int fd, length;

    if (!*path || getrusage(RUSAGE_SELF, &used) != 0)
        return;
    length =
        snprintf(line, sizeof(line), "%.64s %ld %ld\n", program_invocation_short_name,
                 (long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
                     used.ru_utime.tv_usec + used.ru_stime.tv_usec,
                 peak_kib());
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, line, (size_t)length) != length)
        fprintf(stderr, "libcpu: could not write %s\n", path);
    close(fd);
}
