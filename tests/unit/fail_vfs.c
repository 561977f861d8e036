/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fail_vfs.h"

#include <sqlite3.h>
#include <string.h>

/* One of our files: SQLite's own follows it in memory. */
struct file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_vfs vfs, *real_vfs;
static sqlite3_io_methods methods;
static uint64_t countdown;
static int failure;
static bool endless, happened;

void fail_vfs_at(uint64_t n, int status, bool forever)
{
    countdown = n;
    failure = status;
    endless = forever;
    happened = false;
}

bool fail_vfs_happened(void)
{
    return happened;
}

static bool fails(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    if (endless)
        countdown = 1;
    happened = true;
    return true;
}

static sqlite3_file *real(sqlite3_file *file)
{
    return ((struct file *)(void *)file)->real;
}

static int on_write(sqlite3_file *file, const void *bytes, int length,
                    sqlite3_int64 offset)
{
    return fails() ? failure
                   : real(file)->pMethods->xWrite(real(file), bytes, length, offset);
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails() ? failure : real(file)->pMethods->xTruncate(real(file), size);
}

static int on_sync(sqlite3_file *file, int flags)
{
    return fails() ? failure : real(file)->pMethods->xSync(real(file), flags);
}

static int on_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int on_read(sqlite3_file *file, void *bytes, int length, sqlite3_int64 offset)
{
    return real(file)->pMethods->xRead(real(file), bytes, length, offset);
}

static int on_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    return real(file)->pMethods->xFileSize(real(file), ret);
}

static int on_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int on_check_lock(sqlite3_file *file, int *ret)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), ret);
}

static int on_control(sqlite3_file *file, int what, void *argument)
{
    return real(file)->pMethods->xFileControl(real(file), what, argument);
}

static int on_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int on_character(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int on_shm_map(sqlite3_file *file, int page, int size, int extend,
                      void volatile **ret)
{
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, ret);
}

static int on_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int on_shm_unmap(sqlite3_file *file, int delete_it)
{
    return real(file)->pMethods->xShmUnmap(real(file), delete_it);
}

static int on_open(sqlite3_vfs *unused, const char *name, sqlite3_file *file, int flags,
                   int *ret_flags)
{
    struct file *own = (struct file *)(void *)file;
    int status;

    (void)unused;
    own->real = (sqlite3_file *)(void *)(own + 1);
    memset(own->real, 0, (size_t)real_vfs->szOsFile);
    status = real_vfs->xOpen(real_vfs, name, own->real, flags, ret_flags);
    own->base.pMethods = own->real->pMethods ? &methods : NULL;
    return status;
}

void fail_vfs_install(void)
{
    if (real_vfs)
        return;
    real_vfs = sqlite3_vfs_find(NULL);
    methods = (sqlite3_io_methods){.iVersion = 2,
                                   .xClose = on_close,
                                   .xRead = on_read,
                                   .xWrite = on_write,
                                   .xTruncate = on_truncate,
                                   .xSync = on_sync,
                                   .xFileSize = on_size,
                                   .xLock = on_lock,
                                   .xUnlock = on_unlock,
                                   .xCheckReservedLock = on_check_lock,
                                   .xFileControl = on_control,
                                   .xSectorSize = on_sector,
                                   .xDeviceCharacteristics = on_character,
                                   .xShmMap = on_shm_map,
                                   .xShmLock = on_shm_lock,
                                   .xShmBarrier = on_shm_barrier,
                                   .xShmUnmap = on_shm_unmap};
    vfs = *real_vfs;
    vfs.zName = "fail";
    vfs.pNext = NULL;
    vfs.szOsFile = real_vfs->szOsFile + (int)sizeof(struct file);
    vfs.xOpen = on_open;
    sqlite3_vfs_register(&vfs, 1);
}
