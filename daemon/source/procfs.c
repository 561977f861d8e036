/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers and parsers of /proc/PID. See proc(5) for the formats; field 2 of stat may
 * hold anything, so fields are counted from its last parenthesis.
 */
#include "daemon/source/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "schema/base/cleanup.h"
#include "schema/base/str.h"

#define COMMAND_MAX (64u << 10) /* bytes of a command line that are kept */
#define ENVIRON_MAX (2u << 20)

/* The kernel's struct pidfd_info as of 6.13; not in older headers. */
struct pidfd_info_v0 {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t ids[11];
    int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_info_v0) == 64, "part of the kernel's interface");
#define PIDFD_GET_INFO_V0   _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_INFO_EXIT_BIT (1u << 3)

bool neap_procfs_stat_parse(const char *bytes, size_t length,
                            struct neap_procfs_stat *ret)
{
    const char *close = memrchr(bytes, ')', length);
    struct neap_procfs_stat stat = {0};
    char text[1024];
    char *next = text, *end;
    size_t rest;

    if (!close)
        return false;
    rest = length - (size_t)(close + 1 - bytes);
    if (rest >= sizeof(text) || rest < 4)
        return false;
    memcpy(text, close + 1, rest);
    text[rest] = 0;
    if (text[0] != ' ' || !isalpha((unsigned char)text[1]) || text[2] != ' ')
        return false;
    stat.state = text[1];
    next += 2;
    for (unsigned field = 4; field <= 52; field++) {
        long long value;

        errno = 0;
        value = strtoll(next, &end, 10);
        if (end == next)
            break;
        if (field == 4)
            stat.ppid = (int32_t)value;
        if (field == 22)
            stat.start_ticks = (uint64_t)value;
        if (field == 52) {
            stat.has_wait_status = true;
            stat.wait_status = (int32_t)value;
        }
        next = end;
        if (field == 22)
            *ret = stat;
    }
    if (!stat.start_ticks)
        return false;
    *ret = stat;
    return true;
}

struct neap_error *neap_procfs_command_json(const char *bytes, size_t length,
                                            char **ret)
{
    neap_auto_str struct neap_str str = {0};
    size_t at = 0;

    neap_str_char(&str, '[');
    while (at < length) {
        const char *nul = memchr(bytes + at, 0, length - at);
        size_t word = nul ? (size_t)(nul - bytes) - at : length - at;

        if (at)
            neap_str_text(&str, ", ");
        neap_str_json(&str, bytes + at, word);
        at += word + 1;
    }
    neap_str_char(&str, ']');
    return neap_str_take(&str, ret);
}

bool neap_procfs_environ_has(const char *bytes, size_t length, const char *entry)
{
    size_t wanted = strlen(entry);
    size_t at = 0;

    while (at < length) {
        const char *nul = memchr(bytes + at, 0, length - at);
        size_t word = nul ? (size_t)(nul - bytes) - at : length - at;

        if (word == wanted && memcmp(bytes + at, entry, word) == 0)
            return true;
        at += word + 1;
    }
    return false;
}

/* Up to `size` bytes of /proc/PID/name; 0 if it cannot be read. */
static size_t read_proc(pid_t pid, const char *name, char *buffer, size_t size)
{
    neap_auto_close int fd = -1;
    char path[64];
    size_t done = 0;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (done < size) {
        ssize_t got = read(fd, buffer + done, size - done);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    return done;
}

static bool read_stat(pid_t pid, struct neap_procfs_stat *ret)
{
    char text[1024];
    size_t length = read_proc(pid, "stat", text, sizeof(text));

    return neap_procfs_stat_parse(text, length, ret);
}

struct neap_error *neap_procfs_process_init(pid_t pid, struct neap_procfs_process *ret)
{
    neap_auto_free char *bytes = malloc(COMMAND_MAX);
    neap_auto_free char *exe = calloc(1, 4097);
    struct neap_procfs_stat stat = {0};
    struct neap_error *error;
    char link[64];
    ssize_t got;

    if (!bytes || !exe)
        return NEAP_NO_MEMORY;
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    got = readlink(link, exe, 4096);
    exe[got > 0 ? got : 0] = 0;
    (void)read_stat(pid, &stat);
    error = neap_procfs_command_json(
        bytes, read_proc(pid, "cmdline", bytes, COMMAND_MAX), &ret->command);
    if (error)
        return error;
    ret->ppid = stat.ppid;
    ret->exe = neap_take(exe);
    return NULL;
}

void neap_procfs_process_deinit(struct neap_procfs_process *process)
{
    free(process->exe);
    free(process->command);
    *process = (struct neap_procfs_process){0};
}

bool neap_procfs_wait_status(pid_t pid, int pidfd, int *ret)
{
    struct pidfd_info_v0 info = {.mask = PIDFD_INFO_EXIT_BIT};
    struct neap_procfs_stat stat;

    /* Not reaped after the reading: nobody else can have had its number. */
    if (read_stat(pid, &stat) && stat.state == 'Z' && stat.has_wait_status &&
        syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0) {
        *ret = stat.wait_status;
        return true;
    }
    if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) == 0 &&
        (info.mask & PIDFD_INFO_EXIT_BIT)) {
        *ret = info.exit_code;
        return true;
    }
    return false;
}

bool neap_procfs_is_stopped(pid_t pid)
{
    struct neap_procfs_stat stat;

    return read_stat(pid, &stat) && (stat.state == 'T' || stat.state == 't');
}

static bool has_environ(pid_t pid, const char *entry, char *buffer)
{
    struct neap_procfs_stat stat;

    return neap_procfs_environ_has(
               buffer, read_proc(pid, "environ", buffer, ENVIRON_MAX), entry) &&
           read_stat(pid, &stat) && stat.state != 'Z' && stat.state != 'X';
}

/* Processes for which `has` says so. */
static unsigned count_processes(bool (*has)(pid_t pid, const void *what),
                                const void *what,
                                bool (*except)(void *context, pid_t pid), void *context)
{
    DIR *proc = opendir("/proc");
    const struct dirent *found;
    unsigned count = 0;

    while (proc && (found = readdir(proc))) {
        char *end;
        long pid = strtol(found->d_name, &end, 10);

        if (*end || pid <= 0 || except(context, (pid_t)pid))
            continue;
        count += has((pid_t)pid, what);
    }
    if (proc)
        closedir(proc);
    return count;
}

static bool is_started_with(pid_t pid, const void *entry)
{
    neap_auto_free char *buffer = malloc(ENVIRON_MAX);

    return buffer && has_environ(pid, entry, buffer);
}

unsigned neap_procfs_count_environ(const char *entry,
                                   bool (*except)(void *context, pid_t pid),
                                   void *context)
{
    return count_processes(is_started_with, entry, except, context);
}

/* A line of /proc/PID/maps has the inode before the name. */
static bool has_mapped(pid_t pid, const void *inode)
{
    neap_auto_fclose FILE *maps = NULL;
    neap_auto_free char *line = NULL;
    char path[64], wanted[32];
    size_t room = 0;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    snprintf(wanted, sizeof(wanted), " %llu ", *(const unsigned long long *)inode);
    maps = fopen(path, "re");
    while (maps && getline(&line, &room, maps) > 0) {
        const char *name = strstr(line, "/memfd:");
        const char *found = name ? strstr(line, wanted) : NULL;

        if (found && found < name)
            return true;
    }
    return false;
}

unsigned neap_procfs_count_mapping(int fd, bool (*except)(void *context, pid_t pid),
                                   void *context)
{
    unsigned long long inode;
    struct stat st;

    if (fstat(fd, &st))
        return 0;
    inode = st.st_ino;
    return count_processes(has_mapped, &inode, except, context);
}
