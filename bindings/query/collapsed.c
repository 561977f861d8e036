/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collapsed stacks, the format flame graph tools read: one line a stack, outermost
 * frame first, frames parted by ';', then a space and the value.
 *
 * A name that holds ';', a line's end or another control character would be read as
 * something else, so those bytes, and the backslash that marks them, become \xHH.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/query.h"
#include "schema/base/cleanup.h"

static void put_name(FILE *out, const char *name)
{
    for (; *name; name++) {
        unsigned char byte = (unsigned char)*name;

        if (byte < ' ' || byte == 0x7f || byte == ';' || byte == '\\')
            fprintf(out, "\\x%02x", byte);
        else
            putc_unlocked(byte, out);
    }
}

static void put_frame(FILE *out, const struct neap_frame *frame)
{
    const char *slash;

    if (frame->function) {
        put_name(out, frame->function);
        return;
    }
    if (frame->module) {
        slash = strrchr(frame->module, '/');
        put_name(out, slash ? slash + 1 : frame->module);
        putc_unlocked('+', out);
    }
    fprintf(out, "0x%llx", (unsigned long long)frame->offset);
}

static void put_row(FILE *out, const struct neap_row *row)
{
    if (row->depth == 0 || row->truncated)
        fputs(row->depth ? "[truncated];" : "[no stack]", out);
    for (uint32_t i = row->depth; i-- > 0;) {
        put_frame(out, row->frames[i]);
        if (i)
            putc_unlocked(';', out);
    }
    fprintf(out, " %lld\n", (long long)row->value);
}

struct neap_error *neap_report_collapsed(const struct neap_report *report, char **ret,
                                         size_t *length)
{
    neap_auto_free char *text = NULL;
    neap_auto_fclose FILE *out = NULL;
    size_t size = 0;
    bool failed;

    out = open_memstream(&text, &size);
    if (!out)
        return NEAP_NO_MEMORY;
    for (uint32_t i = 0; i < report->count; i++)
        put_row(out, &report->rows[i]);
    failed = ferror(out);
    /* Closing sets `text` and `size`; it fails for want of memory only. */
    if (fclose(neap_take(out)) != 0 || failed)
        return NEAP_NO_MEMORY;
    *length = size;
    *ret = neap_take(text);
    return NULL;
}
