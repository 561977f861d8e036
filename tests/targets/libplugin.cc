/* SPDX-License-Identifier: Apache-2.0 */
/* A C++ library that a C program loads: see plugin.c. */
#include <new>

extern "C" long plugin_work(long count, long size);

extern "C" long plugin_work(long count, long size)
{
    long failed = 0;

    for (long i = 0; i < count; i++) {
        char *block = new char[static_cast<unsigned long>(size)];

        block[0] = 1;
        delete[] block;
        try {
            char *huge = new char[1ul << 62];

            huge[0] = 1;
        } catch (const std::bad_alloc &) {
            failed++;
        }
    }
    delete new (std::nothrow) long(count);
    return failed;
}
