/* SPDX-License-Identifier: Apache-2.0 */
/* When the interval between samples is doubled, and when it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/adapt.h"
#include "schema/base/weigh.h"

#define LOOK 250000000ull /* ns between two decisions */

struct fixture {
    struct neap_ctl *ctl;
    struct neap_adapt adapt;
    uint64_t now_ns;
    uint64_t samples;
};

/* One decision later, with `more` samples. */
static uint64_t look(struct fixture *fixture, uint64_t more,
                     enum neap_activity activity)
{
    fixture->now_ns += LOOK;
    fixture->samples += more;
    neap_adapt(&fixture->adapt, fixture->ctl, fixture->samples, fixture->now_ns,
               activity);
    return neap_ctl_interval(fixture->ctl);
}

static void test_budget(void **state)
{
    struct fixture fixture = {.now_ns = 1};

    (void)state;
    assert_null(neap_ctl_create(&fixture.ctl));
    neap_ctl_mode(fixture.ctl, NEAP_MODE_SAMPLED, 4096);
    assert_int_equal(look(&fixture, 1000, NEAP_ACTIVITY_SOME), 4096);
    assert_int_equal(look(&fixture, 1001, NEAP_ACTIVITY_SOME), 8192);
    assert_int_equal(look(&fixture, 5000, NEAP_ACTIVITY_NONE), 16384);
    assert_int_equal(look(&fixture, 0, NEAP_ACTIVITY_NONE), 16384);
    /* Full lanes count, also those seen between two decisions. */
    neap_adapt(&fixture.adapt, fixture.ctl, fixture.samples, fixture.now_ns + 1,
               NEAP_ACTIVITY_BUSY);
    assert_int_equal(neap_ctl_interval(fixture.ctl), 16384);
    assert_int_equal(look(&fixture, 0, NEAP_ACTIVITY_NONE), 32768);
    assert_int_equal(look(&fixture, 0, NEAP_ACTIVITY_NONE), 32768);
    assert_int_equal(fixture.ctl->header->mode, NEAP_MODE_SAMPLED);
    neap_ctl_destroy(fixture.ctl);
}

/* There is a largest one; and who is switched off stays so. */
static void test_limits(void **state)
{
    struct fixture fixture = {.now_ns = 1};

    (void)state;
    assert_null(neap_ctl_create(&fixture.ctl));
    neap_ctl_mode(fixture.ctl, NEAP_MODE_OFF, NEAP_INTERVAL_MAX / 2);
    assert_int_equal(look(&fixture, 9999, NEAP_ACTIVITY_BUSY), NEAP_INTERVAL_MAX);
    assert_int_equal(look(&fixture, 9999, NEAP_ACTIVITY_BUSY), NEAP_INTERVAL_MAX);
    assert_int_equal(fixture.ctl->header->mode, NEAP_MODE_OFF);
    neap_ctl_destroy(fixture.ctl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
