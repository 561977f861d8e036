/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collapsed stacks, the format flame graph tools read: one line a stack, outermost
 * frame first, frames parted by ';', then a space and the value.
 *
 * A name that holds ';', a line's end or another control character would be read as
 * something else, so those bytes, and the backslash that marks them, become \xHH.
 */
#include <string.h>

#include "bindings/query/query.h"
#include "schema/base/str.h"

static void put_name(struct neap_str *out, const char *name)
{
    for (; *name; name++) {
        unsigned char byte = (unsigned char)*name;

        if (byte < ' ' || byte == 0x7f || byte == ';' || byte == '\\')
            neap_str_format(out, "\\x%02x", byte);
        else
            neap_str_char(out, *name);
    }
}

static void put_frame(struct neap_str *out, const struct neap_frame *frame)
{
    const char *slash;

    if (frame->function) {
        put_name(out, frame->function);
        return;
    }
    if (frame->module) {
        slash = strrchr(frame->module, '/');
        put_name(out, slash ? slash + 1 : frame->module);
        neap_str_char(out, '+');
    }
    neap_str_format(out, "0x%llx", (unsigned long long)frame->offset);
}

static void put_row(struct neap_str *out, const struct neap_row *row)
{
    if (row->depth == 0)
        neap_str_text(out, "[no stack]");
    else if (row->truncated)
        neap_str_text(out, "[truncated];");
    for (uint32_t i = row->depth; i-- > 0;) {
        put_frame(out, row->frames[i]);
        if (i)
            neap_str_char(out, ';');
    }
    neap_str_format(out, " %lld\n", (long long)row->value);
}

struct neap_error *neap_report_collapsed(const struct neap_report *report, char **ret,
                                         size_t *length)
{
    neap_auto_str struct neap_str out = {0};
    struct neap_error *error;
    size_t size;

    for (uint32_t i = 0; i < report->count; i++)
        put_row(&out, &report->rows[i]);
    size = out.length;
    error = neap_str_take(&out, ret);
    if (!error)
        *length = size;
    return error;
}
