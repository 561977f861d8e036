/* SPDX-License-Identifier: Apache-2.0 */
#include "bindings/query/groups.h"

#include <string.h>

void neap_groups_deinit(struct neap_groups *groups)
{
    neap_vec_deinit(&groups->rows);
    neap_vec_deinit(&groups->work);
    neap_map_deinit(&groups->index);
}

uint32_t neap_groups_find(struct neap_groups *groups, uint64_t key)
{
    uint64_t known = neap_map_get(&groups->index, key);
    uint32_t number = (uint32_t)groups->rows.count;

    if (known != NEAP_MAP_NONE)
        return (uint32_t)known;
    if (number == NEAP_GROUP_NONE || !neap_vec_reserve(&groups->rows, 1) ||
        !neap_vec_reserve(&groups->work, 1) ||
        !neap_map_put(&groups->index, key, number))
        return NEAP_GROUP_NONE;
    groups->rows.data[groups->rows.count++] = (struct neap_group){.key = key};
    groups->work.data[groups->work.count++] = (struct neap_sums){0};
    return number;
}

void neap_groups_clear(struct neap_groups *groups)
{
    if (groups->work.count)
        memset(groups->work.data, 0, groups->work.count * sizeof(*groups->work.data));
}

static void add(struct neap_sums *sums, const struct neap_sums *more)
{
    sums->bytes += more->bytes;
    sums->count += more->count;
    sums->variance += more->variance;
}

void neap_groups_keep(struct neap_groups *groups)
{
    for (size_t i = 0; i < groups->rows.count; i++)
        add(&groups->rows.data[i].sums, &groups->work.data[i]);
    neap_groups_clear(groups);
}

bool neap_groups_move(struct neap_groups *groups, uint64_t from, uint64_t to)
{
    uint64_t source = neap_map_get(&groups->index, from);
    uint32_t target;

    if (source == NEAP_MAP_NONE || from == to)
        return true;
    target = neap_groups_find(groups, to);
    if (target == NEAP_GROUP_NONE)
        return false;
    add(&groups->rows.data[target].sums, &groups->rows.data[source].sums);
    groups->rows.data[source].sums = (struct neap_sums){0};
    return true;
}
