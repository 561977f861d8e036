/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/names.h"

#include <string.h>

#include "daemon/ingest/trim.h"
#include "schema/base/cleanup.h"

struct neap_error *neap_names_init(struct neap_names *names)
{
    *names = (struct neap_names){0};
    return neap_symbolizer_create(&names->symbolizer);
}

static void frame_forget(struct neap_frame *frame)
{
    free(frame->function);
    free(frame->file);
    frame->function = frame->file = NULL;
}

void neap_names_deinit(struct neap_names *names)
{
    neap_symbolizer_destroy(names->symbolizer);
    for (size_t i = 0; i < names->modules.count; i++) {
        free(names->modules.data[i].path);
        free(names->modules.data[i].build_id);
    }
    for (size_t i = 0; i < names->frames.count; i++)
        frame_forget(&names->frames.data[i]);
    neap_vec_deinit(&names->modules);
    neap_vec_deinit(&names->locations);
    neap_vec_deinit(&names->frames);
    neap_vec_deinit(&names->renamed);
    neap_map_deinit(&names->module_index);
    neap_map_deinit(&names->location_index);
}

/* FNV-1a of a text and the NUL at its end. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    do {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    } while (*text++);
    return hash;
}

static char *hex(const uint8_t *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * length + 1);

    if (!text)
        return NULL;
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
    return text;
}

static uint32_t module_add(struct neap_names *names, uint64_t key, const char *path,
                           const char *build_id, const uint8_t *bytes, size_t length)
{
    neap_auto_free char *own_path = strdup(path);
    neap_auto_free char *own_id = strdup(build_id);
    uint32_t number = (uint32_t)names->modules.count;
    struct neap_module *module;
    struct neap_error *err;

    if (!own_path || !own_id || !neap_vec_reserve(&names->modules, 1) ||
        !neap_map_put(&names->module_index, key, number))
        return NEAP_MODULE_NONE;
    module = &names->modules.data[names->modules.count++];
    *module = (struct neap_module){.libc = neap_module_is_libc(path)};
    module->path = neap_take(own_path);
    module->build_id = neap_take(own_id);
    /* A module the symbolizer cannot take has frames without names, no more. */
    err = neap_symbolizer_module(names->symbolizer, path, bytes, (uint32_t)length,
                                 &module->symbolizer);
    module->askable = !err;
    neap_error_destroy(err);
    return number;
}

uint32_t neap_names_module(struct neap_names *names, const char *path, size_t path_len,
                           const uint8_t *build_id, size_t build_id_len)
{
    neap_auto_free char *own_path = strndup(path, path_len);
    neap_auto_free char *own_id = hex(build_id, build_id_len);
    uint64_t key, number;

    if (!own_path || !own_id)
        return NEAP_MODULE_NONE;
    key = hash_text(hash_text(0xcbf29ce484222325u, own_path), own_id);
    /* Two names with one hash take neighbouring keys. */
    for (; (number = neap_map_get(&names->module_index, key)) != NEAP_MAP_NONE; key++) {
        const struct neap_module *module = &names->modules.data[number];

        if (strcmp(module->path, own_path) == 0 &&
            strcmp(module->build_id, own_id) == 0)
            return (uint32_t)number;
    }
    return module_add(names, key, own_path, own_id, build_id, build_id_len);
}

static void location_ask(struct neap_names *names, uint32_t number)
{
    struct neap_location *location = &names->locations.data[number];
    const struct neap_module *module;
    struct neap_error *err;

    location->answered = true;
    if (location->module == NEAP_MODULE_NONE)
        return;
    module = &names->modules.data[location->module];
    if (!module->askable)
        return;
    err = neap_symbolizer_ask(names->symbolizer, module->symbolizer, location->offset,
                              number);
    /* What cannot be asked now stays without a name. */
    location->answered = err;
    neap_error_destroy(err);
}

uint32_t neap_names_location(struct neap_names *names, uint32_t module, uint64_t offset)
{
    uint64_t key = (offset ^ (uint64_t)module << 40) * 0x9e3779b97f4a7c15u;
    uint32_t number = (uint32_t)names->locations.count;
    uint64_t found;

    for (; (found = neap_map_get(&names->location_index, key)) != NEAP_MAP_NONE;
         key++) {
        const struct neap_location *location = &names->locations.data[found];

        if (location->module == module && location->offset == offset)
            return (uint32_t)found;
    }
    if (!neap_vec_reserve(&names->locations, 1) ||
        !neap_vec_reserve(&names->frames, 1) ||
        !neap_map_put(&names->location_index, key, number))
        return NEAP_LOCATION_NONE;
    names->locations.data[names->locations.count++] = (struct neap_location){
        .offset = offset, .module = module, .frame = (uint32_t)names->frames.count};
    names->frames.data[names->frames.count++] =
        (struct neap_frame){.location = number, .role = NEAP_ROLE_UNNAMED};
    location_ask(names, number);
    return number;
}

/* Names that find no memory are left out. */
static void frame_name(struct neap_frame *frame, const struct neap_symbol_frame *symbol)
{
    frame->role = (uint8_t)neap_frame_role(symbol->function);
    frame->function = symbol->function ? strdup(symbol->function) : NULL;
    frame->file = symbol->file ? strdup(symbol->file) : NULL;
    frame->line = symbol->line;
    frame->inlined = symbol->inlined;
}

static void answer(void *context, const struct neap_symbol_answer *symbols)
{
    struct neap_names *names = context;
    struct neap_location *location;
    struct neap_frame *physical;

    if (symbols->token >= names->locations.count || symbols->count == 0)
        return;
    location = &names->locations.data[symbols->token];
    if (location->answered)
        return;
    location->answered = true;
    if (symbols->count > 1 && neap_vec_reserve(&names->frames, symbols->count - 1)) {
        location->inlined = (uint32_t)names->frames.count;
        location->inlined_count = symbols->count - 1;
        for (uint32_t i = 0; i < symbols->count - 1; i++) {
            struct neap_frame *frame = &names->frames.data[names->frames.count++];

            *frame = (struct neap_frame){.location = (uint32_t)symbols->token};
            frame_name(frame, &symbols->frames[i]);
            frame->inlined = true;
        }
    }
    physical = &names->frames.data[location->frame];
    if (location->frame < names->frames_stored &&
        !neap_vec_push(&names->renamed, location->frame))
        return;
    frame_name(physical, &symbols->frames[symbols->count - 1]);
    physical->inlined = false;
}

void neap_names_poll(struct neap_names *names, bool wait)
{
    (void)neap_symbolizer_answers(names->symbolizer, wait, answer, names);
}

void neap_names_stored(struct neap_names *names)
{
    for (size_t i = names->frames_stored; i < names->frames.count; i++)
        frame_forget(&names->frames.data[i]);
    for (size_t i = 0; i < names->renamed.count; i++)
        frame_forget(&names->frames.data[names->renamed.data[i]]);
    names->renamed.count = 0;
    names->frames_stored = (uint32_t)names->frames.count;
    names->modules_stored = (uint32_t)names->modules.count;
}
