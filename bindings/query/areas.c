/* SPDX-License-Identifier: Apache-2.0 */
#include "bindings/query/areas.h"

void neap_areas_init(struct neap_areas *areas, struct neap_arena *arena)
{
    *areas = (struct neap_areas){.arena = arena};
    /* Where the loader put us is as good a secret as any. */
    areas->random = (uint64_t)(uintptr_t)areas ^ (uint64_t)(uintptr_t)neap_areas_init;
}

static uint32_t draw(struct neap_areas *areas)
{
    uint64_t z = areas->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(z >> 32);
}

/* ---- trees ---- */

static struct neap_area *join(struct neap_area *left, struct neap_area *right)
{
    if (!left || !right)
        return left ? left : right;
    if (left->priority > right->priority) {
        left->right = join(left->right, right);
        return left;
    }
    right->left = join(left, right->left);
    return right;
}

/* What begins below `at`, and the rest. */
static void part(struct neap_area *tree, uint64_t at, struct neap_area **left,
                 struct neap_area **right)
{
    if (!tree) {
        *left = *right = NULL;
    } else if (tree->start < at) {
        part(tree->right, at, &tree->right, right);
        *left = tree;
    } else {
        part(tree->left, at, left, &tree->left);
        *right = tree;
    }
}

static void each(const struct neap_area *tree, neap_areas_see *see, void *context)
{
    for (; tree; tree = tree->right) {
        each(tree->left, see, context);
        see(context, tree);
    }
}

static void give_up(struct neap_areas *areas, struct neap_area *tree)
{
    while (tree) {
        struct neap_area *next = tree->right;

        give_up(areas, tree->left);
        tree->right = areas->spare;
        areas->spare = tree;
        tree = next;
    }
}

/* ---- ranges ---- */

static struct neap_area *create(struct neap_areas *areas, const struct neap_area *like)
{
    struct neap_area *area = areas->spare;

    if (area)
        areas->spare = area->right;
    else
        area = neap_arena_alloc(areas->arena, 1, sizeof(*area));
    if (!area)
        return NULL;
    *area = *like;
    area->left = area->right = NULL;
    area->priority = draw(areas);
    return area;
}

static struct neap_area *find(const struct neap_areas *areas, uint64_t address)
{
    struct neap_area *area = areas->root;

    while (area && (address < area->start || address >= area->end))
        area = address < area->start ? area->left : area->right;
    return area;
}

static void insert(struct neap_areas *areas, struct neap_area *area)
{
    struct neap_area *left, *right;

    part(areas->root, area->start, &left, &right);
    areas->root = join(join(left, area), right);
}

/* Let no range lie across `at`. */
static bool split(struct neap_areas *areas, uint64_t at)
{
    struct neap_area *area = find(areas, at), *rest;

    if (!area || area->start == at)
        return true;
    rest = create(areas, area);
    if (!rest)
        return false;
    rest->start = at;
    area->end = at;
    insert(areas, rest);
    return true;
}

void neap_areas_clear(struct neap_areas *areas)
{
    give_up(areas, areas->root);
    areas->root = NULL;
}

bool neap_areas_cut(struct neap_areas *areas, uint64_t start, uint64_t end,
                    neap_areas_see *see, void *context)
{
    struct neap_area *before, *inside, *behind;

    if (start >= end)
        return true;
    if (!split(areas, start) || !split(areas, end))
        return false;
    part(areas->root, start, &before, &inside);
    part(inside, end, &inside, &behind);
    each(inside, see, context);
    give_up(areas, inside);
    areas->root = join(before, behind);
    return true;
}

bool neap_areas_put(struct neap_areas *areas, uint64_t start, uint64_t end,
                    unsigned kind, uint32_t row)
{
    struct neap_area *area;

    if (start >= end)
        return true;
    area = create(areas,
                  &(struct neap_area){
                      .start = start, .end = end, .kind = (uint8_t)kind, .row = row});
    if (area)
        insert(areas, area);
    return area != NULL;
}

const struct neap_area *neap_areas_find(const struct neap_areas *areas,
                                        uint64_t address)
{
    return find(areas, address);
}

void neap_areas_each(const struct neap_areas *areas, neap_areas_see *see, void *context)
{
    each(areas->root, see, context);
}
