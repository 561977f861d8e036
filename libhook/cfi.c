/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything read here lies in a mapped module of this process, but a module may be
 * odd (stripped, packed, hand-written), so each read is bounded by the module's end.
 */
#include "libhook/cfi.h"

#include "libhook/cursor.h"

/* DW_EH_PE_*: format in the low four bits, what it is relative to in the next three. */
enum {
    PE_OMIT = 0xff,
    PE_PCREL = 0x10,
    PE_DATAREL = 0x30,
    PE_INDIRECT = 0x80
};

static uint64_t take_encoded(struct neap_cursor *c, uint8_t encoding,
                             const uint8_t *datarel)
{
    uint64_t base = 0, value;

    if ((encoding & 0x70) == PE_PCREL)
        base = (uint64_t)(uintptr_t)c->at;
    else if ((encoding & 0x70) == PE_DATAREL)
        base = (uint64_t)(uintptr_t)datarel;
    else if ((encoding & 0x70) != 0)
        c->bad = true;
    switch (encoding & 0x0f) {
    case 0x00: /* absptr */
    case 0x04: /* udata8 */
    case 0x0c: /* sdata8 */
        value = neap_cursor_unsigned(c, 8);
        break;
    case 0x01:
        value = neap_cursor_uleb(c);
        break;
    case 0x02:
        value = neap_cursor_unsigned(c, 2);
        break;
    case 0x03:
        value = neap_cursor_unsigned(c, 4);
        break;
    case 0x09:
        value = (uint64_t)neap_cursor_sleb(c);
        break;
    case 0x0a:
        value = (uint64_t)neap_cursor_signed(c, 2);
        break;
    case 0x0b:
        value = (uint64_t)neap_cursor_signed(c, 4);
        break;
    default:
        c->bad = true;
        return 0;
    }
    return value ? value + base : 0;
}

/* What a CIE gives to its FDEs. */
struct cie {
    uint64_t code_align;
    int64_t data_align;
    uint8_t pointer_encoding;
    bool augmented; /* FDEs carry augmentation data */
    bool signal;
    struct neap_cursor initial;
};

/* A CIE or FDE at `at`: its body, behind the length word. */
static bool entry(const struct neap_cfi_module *module, const uint8_t *at,
                  struct neap_cursor *ret)
{
    struct neap_cursor c = {at, module->end, at < module->start || at >= module->end};
    uint64_t length = c.bad ? 0 : neap_cursor_unsigned(&c, 4);

    if (length == 0xffffffffu)
        length = neap_cursor_unsigned(&c, 8);
    if (c.bad || length == 0 || length > (uint64_t)(c.end - c.at))
        return false;
    *ret = (struct neap_cursor){c.at, c.at + length, false};
    return true;
}

static bool parse_augmentation(struct neap_cursor *c, const char *letters,
                               struct cie *ret)
{
    uint64_t length = neap_cursor_uleb(c);
    struct neap_cursor data;

    if (c->bad || length > (uint64_t)(c->end - c->at))
        return false;
    data = (struct neap_cursor){c->at, c->at + length, false};
    c->at += length;
    for (; *letters; letters++) {
        if (*letters == 'R') {
            ret->pointer_encoding = (uint8_t)neap_cursor_unsigned(&data, 1);
        } else if (*letters == 'P') {
            uint8_t encoding = (uint8_t)neap_cursor_unsigned(&data, 1);

            take_encoded(&data, (uint8_t)(encoding & ~PE_INDIRECT), NULL);
        } else if (*letters == 'L') {
            neap_cursor_unsigned(&data, 1);
        } else if (*letters == 'S') {
            ret->signal = true;
        } else if (*letters != 'B') {
            return false;
        }
    }
    return !data.bad;
}

static bool parse_cie(const struct neap_cfi_module *module, const uint8_t *at,
                      struct cie *ret)
{
    struct neap_cursor c;
    const char *letters;
    uint8_t version;

    if (!entry(module, at, &c) || neap_cursor_unsigned(&c, 4) != 0)
        return false;
    version = (uint8_t)neap_cursor_unsigned(&c, 1);
    letters = (const char *)c.at;
    while (neap_cursor_unsigned(&c, 1) != 0 && !c.bad)
        ;
    *ret = (struct cie){0};
    ret->code_align = neap_cursor_uleb(&c);
    ret->data_align = neap_cursor_sleb(&c);
    if (version == 1)
        neap_cursor_unsigned(&c, 1);
    else
        neap_cursor_uleb(&c);
    if (c.bad || (version != 1 && version != 3))
        return false;
    if (letters[0] == 'z') {
        ret->augmented = true;
        if (!parse_augmentation(&c, letters + 1, ret))
            return false;
    } else if (letters[0] != '\0') {
        return false;
    }
    ret->initial = c;
    return true;
}

/* Running a table of instructions up to `pc`. */
struct program {
    const struct neap_cfi_module *module;
    const struct cie *cie;
    const struct neap_cfi_row *initial; /* NULL while the CIE's own run */
    uint64_t pc;
    uint64_t location;
};

#define REMEMBERED 4 /* DW_CFA_remember_state nests once in what compilers write */

/* Factors of hostile bytes may overflow: as unsigned numbers they do it harmlessly. */
static int64_t scaled(uint64_t factor, int64_t align)
{
    return (int64_t)(factor * (uint64_t)align);
}

static void set_rule(struct neap_cfi_row *row, uint64_t reg,
                     enum neap_cfi_rule_kind kind, int64_t value)
{
    if (reg < NEAP_REGS)
        row->reg[reg] = (struct neap_cfi_rule){kind, (int32_t)value};
}

static void restore(const struct program *p, struct neap_cfi_row *row, uint64_t reg)
{
    if (reg < NEAP_REGS && p->initial)
        row->reg[reg] = p->initial->reg[reg];
}

/* An expression is kept as the place of its length, from the header. */
static int64_t take_expression(const struct program *p, struct neap_cursor *c)
{
    int64_t place = c->at - p->module->hdr;
    uint64_t length = neap_cursor_uleb(c);

    if (length > (uint64_t)(c->end - c->at))
        c->bad = true;
    else
        c->at += length;
    if (place != (int32_t)place)
        c->bad = true;
    return place;
}

enum {
    CFA_SET_LOC = 0x01,
    CFA_ADVANCE1,
    CFA_ADVANCE2,
    CFA_ADVANCE4,
    CFA_OFFSET_EXTENDED,
    CFA_RESTORE_EXTENDED,
    CFA_UNDEFINED,
    CFA_SAME_VALUE,
    CFA_REGISTER,
    CFA_REMEMBER,
    CFA_RESTORE_STATE,
    CFA_DEF_CFA,
    CFA_DEF_CFA_REGISTER,
    CFA_DEF_CFA_OFFSET,
    CFA_DEF_CFA_EXPRESSION,
    CFA_EXPRESSION,
    CFA_OFFSET_EXTENDED_SF,
    CFA_DEF_CFA_SF,
    CFA_DEF_CFA_OFFSET_SF,
    CFA_VAL_OFFSET,
    CFA_VAL_OFFSET_SF,
    CFA_VAL_EXPRESSION,
    CFA_GNU_ARGS_SIZE = 0x2e,
};

/* Instructions that change one register's rule. False: not one of these. */
static bool run_register(const struct program *p, struct neap_cursor *c, uint8_t op,
                         struct neap_cfi_row *row)
{
    int64_t align = p->cie->data_align;
    uint64_t reg;

    switch (op) {
    case CFA_OFFSET_EXTENDED:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_OFFSET, scaled(neap_cursor_uleb(c), align));
        return true;
    case CFA_OFFSET_EXTENDED_SF:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_OFFSET,
                 scaled((uint64_t)neap_cursor_sleb(c), align));
        return true;
    case CFA_VAL_OFFSET:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_VAL_OFFSET, scaled(neap_cursor_uleb(c), align));
        return true;
    case CFA_VAL_OFFSET_SF:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_VAL_OFFSET,
                 scaled((uint64_t)neap_cursor_sleb(c), align));
        return true;
    case CFA_RESTORE_EXTENDED:
        restore(p, row, neap_cursor_uleb(c));
        return true;
    case CFA_UNDEFINED:
        set_rule(row, neap_cursor_uleb(c), NEAP_CFI_UNDEFINED, 0);
        return true;
    case CFA_SAME_VALUE:
        set_rule(row, neap_cursor_uleb(c), NEAP_CFI_SAME, 0);
        return true;
    case CFA_REGISTER:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_REGISTER, (int64_t)neap_cursor_uleb(c));
        return true;
    case CFA_EXPRESSION:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_EXPR, take_expression(p, c));
        return true;
    case CFA_VAL_EXPRESSION:
        reg = neap_cursor_uleb(c);
        set_rule(row, reg, NEAP_CFI_VAL_EXPR, take_expression(p, c));
        return true;
    default:
        return false;
    }
}

/* A number that is no register must not be taken for the mark of an expression. */
static uint32_t take_cfa_reg(struct neap_cursor *c)
{
    uint64_t reg = neap_cursor_uleb(c);

    return reg < NEAP_REGS ? (uint32_t)reg : NEAP_REGS;
}

/* Nor may a new offset move the place of one. */
static void set_cfa_offset(struct neap_cursor *c, struct neap_cfi_row *row,
                           int64_t offset)
{
    if (row->cfa_reg == NEAP_CFI_CFA_EXPR)
        c->bad = true;
    row->cfa_value = (int32_t)offset;
}

/* Instructions that say where the CFA is. False: not one of these. */
static bool run_cfa(const struct program *p, struct neap_cursor *c, uint8_t op,
                    struct neap_cfi_row *row)
{
    switch (op) {
    case CFA_DEF_CFA:
        row->cfa_reg = take_cfa_reg(c);
        row->cfa_value = (int32_t)neap_cursor_uleb(c);
        return true;
    case CFA_DEF_CFA_SF:
        row->cfa_reg = take_cfa_reg(c);
        row->cfa_value =
            (int32_t)scaled((uint64_t)neap_cursor_sleb(c), p->cie->data_align);
        return true;
    case CFA_DEF_CFA_REGISTER:
        row->cfa_reg = take_cfa_reg(c);
        return true;
    case CFA_DEF_CFA_OFFSET:
        set_cfa_offset(c, row, (int64_t)neap_cursor_uleb(c));
        return true;
    case CFA_DEF_CFA_OFFSET_SF:
        set_cfa_offset(c, row,
                       scaled((uint64_t)neap_cursor_sleb(c), p->cie->data_align));
        return true;
    case CFA_DEF_CFA_EXPRESSION:
        row->cfa_reg = NEAP_CFI_CFA_EXPR;
        row->cfa_value = (int32_t)take_expression(p, c);
        return true;
    default:
        return false;
    }
}

/* Instructions that move the location. False: not one of these. */
static bool run_advance(struct program *p, struct neap_cursor *c, uint8_t op)
{
    switch (op) {
    case CFA_SET_LOC:
        p->location = take_encoded(c, p->cie->pointer_encoding, p->module->hdr);
        return true;
    case CFA_ADVANCE1:
        p->location += neap_cursor_unsigned(c, 1) * p->cie->code_align;
        return true;
    case CFA_ADVANCE2:
        p->location += neap_cursor_unsigned(c, 2) * p->cie->code_align;
        return true;
    case CFA_ADVANCE4:
        p->location += neap_cursor_unsigned(c, 4) * p->cie->code_align;
        return true;
    default:
        return false;
    }
}

static bool run(struct program *p, struct neap_cursor c, struct neap_cfi_row *row)
{
    struct neap_cfi_row saved[REMEMBERED];
    unsigned depth = 0;

    while (c.at < c.end && !c.bad) {
        uint8_t op = (uint8_t)neap_cursor_unsigned(&c, 1);
        uint8_t low = op & 0x3f;

        if ((op & 0xc0) == 0x40) {
            p->location += low * p->cie->code_align;
        } else if ((op & 0xc0) == 0x80) {
            set_rule(row, low, NEAP_CFI_OFFSET,
                     scaled(neap_cursor_uleb(&c), p->cie->data_align));
        } else if ((op & 0xc0) == 0xc0) {
            restore(p, row, low);
        } else if (op == CFA_REMEMBER) {
            if (depth == REMEMBERED)
                return false;
            saved[depth++] = *row;
        } else if (op == CFA_RESTORE_STATE) {
            if (depth == 0)
                return false;
            *row = saved[--depth];
        } else if (op == CFA_GNU_ARGS_SIZE) {
            neap_cursor_uleb(&c);
        } else if (op != 0 && !run_advance(p, &c, op) && !run_cfa(p, &c, op, row) &&
                   !run_register(p, &c, op, row)) {
            return false;
        }
        if (p->location > p->pc)
            return !c.bad;
    }
    return !c.bad;
}

/* The FDE whose range starts at or before `pc`, by the sorted table of the header. */
static const uint8_t *search(const struct neap_cfi_module *module, uint64_t pc)
{
    const uint8_t *hdr = module->hdr;
    struct neap_cursor c = {hdr, module->end,
                            hdr < module->start || hdr >= module->end};
    uint8_t version, ptr_encoding, count_encoding, table_encoding;
    int64_t relative = (int64_t)(pc - (uint64_t)(uintptr_t)hdr);
    uint64_t count, low = 0, high;

    if (c.bad)
        return NULL;
    version = (uint8_t)neap_cursor_unsigned(&c, 1);
    ptr_encoding = (uint8_t)neap_cursor_unsigned(&c, 1);
    count_encoding = (uint8_t)neap_cursor_unsigned(&c, 1);
    table_encoding = (uint8_t)neap_cursor_unsigned(&c, 1);
    /* 0x3b: what every linker writes (DATAREL | SDATA4) */
    if (version != 1 || table_encoding != 0x3b)
        return NULL;
    take_encoded(&c, ptr_encoding, hdr);
    count = take_encoded(&c, count_encoding, hdr);
    if (c.bad || count > (uint64_t)(c.end - c.at) / 8)
        return NULL;
    for (high = count; low < high;) {
        uint64_t middle = (low + high) / 2;
        int32_t start;

        __builtin_memcpy(&start, c.at + 8 * middle, 4);
        if (relative < start)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == 0)
        return NULL;
    int32_t place;

    __builtin_memcpy(&place, c.at + 8 * (low - 1) + 4, 4);
    return hdr + place;
}

enum neap_cfi_found neap_cfi_find(const struct neap_cfi_module *module, uint64_t pc,
                                  struct neap_cfi_row *ret, bool *ret_signal)
{
    const uint8_t *fde = search(module, pc);
    struct neap_cfi_row row = {0}, initial;
    struct cie cie;
    struct neap_cursor c;
    uint64_t start, range;
    uint32_t to_cie;

    if (!fde)
        return NEAP_CFI_NONE;
    if (!entry(module, fde, &c))
        return NEAP_CFI_BAD;
    to_cie = (uint32_t)neap_cursor_unsigned(&c, 4);
    if (to_cie == 0 || !parse_cie(module, c.at - 4 - to_cie, &cie))
        return NEAP_CFI_BAD;
    start = take_encoded(&c, cie.pointer_encoding, module->hdr);
    range = take_encoded(&c, cie.pointer_encoding & 0x0f, NULL);
    if (c.bad)
        return NEAP_CFI_BAD;
    if (pc - start >= range)
        return NEAP_CFI_NONE;
    if (cie.augmented) {
        uint64_t length = neap_cursor_uleb(&c);

        if (c.bad || length > (uint64_t)(c.end - c.at))
            return NEAP_CFI_BAD;
        c.at += length;
    }
    struct program program = {module, &cie, NULL, ~0ull, 0};

    if (!run(&program, cie.initial, &row))
        return NEAP_CFI_BAD;
    initial = row;
    program = (struct program){module, &cie, &initial, pc, start};
    if (!run(&program, c, &row))
        return NEAP_CFI_BAD;
    *ret = row;
    *ret_signal = cie.signal;
    return NEAP_CFI_OK;
}
