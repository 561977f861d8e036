/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls without libc: they leave errno alone, are no cancellation points,
 * pass no interposed symbol, and work before libc is ready and in a forked child
 * of a threaded program. Each returns the kernel's value: -errno on failure.
 */
#ifndef NEAP_LIBHOOK_SYS_H
#define NEAP_LIBHOOK_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "schema/attr.h"

NEAP_ALWAYS_INLINE long neap_sys6(long number, long a, long b, long c, long d, long e,
                                  long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "no system call sequence known for this architecture"
#endif
}

#define NEAP_SYS(number, a, b, c, d, e, f)                                     \
    neap_sys6((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), \
              (long)(f))
#define NEAP_SYS1(n, a)          NEAP_SYS(n, a, 0, 0, 0, 0, 0)
#define NEAP_SYS2(n, a, b)       NEAP_SYS(n, a, b, 0, 0, 0, 0)
#define NEAP_SYS3(n, a, b, c)    NEAP_SYS(n, a, b, c, 0, 0, 0)
#define NEAP_SYS4(n, a, b, c, d) NEAP_SYS(n, a, b, c, d, 0, 0)

NEAP_ALWAYS_INLINE bool neap_sys_failed(long result)
{
    return (unsigned long)result > -4096UL;
}

NEAP_ALWAYS_INLINE void neap_sys_sleep_ns(long ns)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = ns};

    NEAP_SYS4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, 0);
}

NEAP_ALWAYS_INLINE void neap_sys_yield(void)
{
    NEAP_SYS1(SYS_sched_yield, 0);
}

#endif
