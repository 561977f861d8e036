/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operator new and delete in all their forms, each pair from functions of their own
 * and with sizes no other call has; and what happens when new fails.
 *
 *     entry_points_cxx forms | failures
 *
 * Links: -fsized-deallocation
 */
#include <new>

#include "tests/targets/target.h"

namespace
{

constexpr std::align_val_t wide{64};
volatile char *touch_sink;
int handler_calls;

struct counted { /* has a destructor, so that new[] stores a count before it */
    char room[40];
    counted()
    {
        room[0] = 1;
    }
    ~counted()
    {
        touch_sink = room;
    }
};

} // namespace

extern "C" {

SITE void cx_plain()
{
    ::operator delete(keep(::operator new(2001)));
    keep(::operator new(2003));
    site("cx_plain", 2, 4004, 1, 2001);
}

SITE void cx_array()
{
    ::operator delete[](keep(::operator new[](2011)));
    keep(::operator new[](2017));
    site("cx_array", 2, 4028, 1, 2011);
}

SITE void cx_nothrow()
{
    ::operator delete(keep(::operator new(2027, std::nothrow)), std::nothrow);
    ::operator delete[](keep(::operator new[](2029, std::nothrow)), std::nothrow);
    site("cx_nothrow", 2, 4056, 2, 4056);
}

SITE void cx_aligned()
{
    ::operator delete(keep(::operator new(2039, wide)), wide);
    ::operator delete[](keep(::operator new[](2053, wide)), wide);
    keep(::operator new(2063, wide));
    site("cx_aligned", 3, 6155, 2, 4092);
}

SITE void cx_aligned_nothrow()
{
    ::operator delete(keep(::operator new(2069, wide, std::nothrow)), wide,
                      std::nothrow);
    ::operator delete[](keep(::operator new[](2081, wide, std::nothrow)), wide,
                        std::nothrow);
    site("cx_aligned_nothrow", 2, 4150, 2, 4150);
}

SITE void cx_sized()
{
    ::operator delete (keep(::operator new(2083)), std::size_t{2083});
    ::operator delete[](keep(::operator new[](2087)), std::size_t{2087});
    ::operator delete (keep(::operator new(2089, wide)), std::size_t{2089}, wide);
    ::operator delete[](keep(::operator new[](2099, wide)), std::size_t{2099}, wide);
    site("cx_sized", 4, 8358, 4, 8358);
}

SITE void cx_expression()
{
    counted *many = new counted[5]; /* 5 × 40 and a word for the count */
    counted *one = new counted;

    keep(many);
    keep(one);
    delete one;
    delete[] many;
    site("cx_expression", 2, 248, 2, 248);
}

SITE void cx_fails()
{
    bool caught = false;

    need(::operator new(opaque(~std::size_t{0} / 2 + 1), std::nothrow) == nullptr,
         "a huge nothrow new succeeded");
    try {
        keep(::operator new(opaque(~std::size_t{0} / 2 + 1)));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    need(caught, "a huge new did not throw");
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
}

static void handler()
{
    handler_calls++;
    if (handler_calls == 3)
        std::set_new_handler(nullptr);
}

SITE void handler_block()
{
    free(keep(malloc(2111)));
}

/* A handler may throw; what it allocates before is the program's like any other. */
static void throwing_handler()
{
    handler_calls++;
    handler_block();
    throw std::bad_alloc();
}

SITE void cx_throwing_handler()
{
    bool caught = false;

    handler_calls = 0;
    std::set_new_handler(throwing_handler);
    try {
        keep(::operator new(opaque(~std::size_t{0} / 2 + 1)));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    std::set_new_handler(nullptr);
    need(caught, "a huge new did not throw");
    say("throwing handler ran %d\n", handler_calls);
    site("handler_block", handler_calls, 2111L * handler_calls, handler_calls,
         2111L * handler_calls);
}

SITE void cx_handler()
{
    bool caught = false;

    std::set_new_handler(handler);
    try {
        keep(::operator new[](opaque(~std::size_t{0} / 2 + 1)));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    need(caught, "a huge new[] did not throw");
    need(handler_calls == 3, "the new handler ran %d times, not 3", handler_calls);
}

} // extern "C"

static void forms()
{
    cx_plain();
    cx_array();
    cx_nothrow();
    cx_aligned();
    cx_aligned_nothrow();
    cx_sized();
    cx_expression();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "failures") == 0) {
        cx_fails();
        cx_handler();
        cx_throwing_handler();
    } else {
        forms();
    }
    return 0;
}
