/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one frame to the next: rules applied to registers, and the small stack machine
 * of DWARF expressions (DWARF 5 §2.5) that some of them are written for. Memory is
 * read through the caller's peek only; no loops, so an expression ends.
 */
#include <string.h>

#include "libhook/cfi.h"
#include "libhook/cursor.h"

struct machine {
    uint64_t stack[16];
    unsigned depth;
    const struct neap_cfi_regs *regs;
    neap_cfi_peek *peek;
    void *context;
    bool bad;
};

static void push(struct machine *m, uint64_t value)
{
    if (m->depth == NEAP_ARRAY_LEN(m->stack))
        m->bad = true;
    else
        m->stack[m->depth++] = value;
}

static uint64_t pop(struct machine *m)
{
    if (m->depth == 0) {
        m->bad = true;
        return 0;
    }
    return m->stack[--m->depth];
}

static void push_reg(struct machine *m, uint64_t reg, int64_t offset)
{
    if (reg >= NEAP_REGS || !(m->regs->known >> reg & 1))
        m->bad = true;
    else
        push(m, m->regs->value[reg] + (uint64_t)offset);
}

static void load(struct machine *m, size_t bytes)
{
    uint64_t value = 0;

    if (bytes == 0 || bytes > 8 || !m->peek(m->context, pop(m), &value))
        m->bad = true;
    else
        push(m, bytes == 8 ? value : value & ((1ull << 8 * bytes) - 1));
}

/* DW_OP_*: constants and stack shuffling. False: not one of these. */
static bool eval_constant(struct machine *m, struct neap_cursor *c, uint8_t op)
{
    switch (op) {
    case 0x03: /* addr */
    case 0x0e: /* const8u */
    case 0x0f: /* const8s */
        push(m, neap_cursor_unsigned(c, 8));
        return true;
    case 0x08:
        push(m, neap_cursor_unsigned(c, 1));
        return true;
    case 0x09:
        push(m, (uint64_t)neap_cursor_signed(c, 1));
        return true;
    case 0x0a:
        push(m, neap_cursor_unsigned(c, 2));
        return true;
    case 0x0b:
        push(m, (uint64_t)neap_cursor_signed(c, 2));
        return true;
    case 0x0c:
        push(m, neap_cursor_unsigned(c, 4));
        return true;
    case 0x0d:
        push(m, (uint64_t)neap_cursor_signed(c, 4));
        return true;
    case 0x10:
        push(m, neap_cursor_uleb(c));
        return true;
    case 0x11:
        push(m, (uint64_t)neap_cursor_sleb(c));
        return true;
    case 0x12: /* dup */
        push(m, m->depth ? m->stack[m->depth - 1] : pop(m));
        return true;
    case 0x13: /* drop */
        pop(m);
        return true;
    default:
        return false;
    }
}

/* DW_OP_*: arithmetic on the two topmost. False: not one of these. */
static bool eval_binary(struct machine *m, uint8_t op)
{
    static const uint8_t binary[] = {0x1a, 0x1c, 0x1e, 0x21, 0x22, 0x24, 0x25, 0x26,
                                     0x27, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e};
    uint64_t right, left;

    if (!memchr(binary, op, sizeof(binary)))
        return false;
    right = pop(m);
    left = pop(m);
    switch (op) {
    case 0x1a:
        push(m, left & right);
        break;
    case 0x1c:
        push(m, left - right);
        break;
    case 0x1e:
        push(m, left * right);
        break;
    case 0x21:
        push(m, left | right);
        break;
    case 0x22:
        push(m, left + right);
        break;
    case 0x24:
        push(m, right < 64 ? left << right : 0);
        break;
    case 0x25:
        push(m, right < 64 ? left >> right : 0);
        break;
    case 0x26:
        push(m, (uint64_t)((int64_t)left >> (right < 64 ? right : 63)));
        break;
    case 0x27:
        push(m, left ^ right);
        break;
    case 0x29:
        push(m, left == right);
        break;
    case 0x2a:
        push(m, (int64_t)left >= (int64_t)right);
        break;
    case 0x2b:
        push(m, (int64_t)left > (int64_t)right);
        break;
    case 0x2c:
        push(m, (int64_t)left <= (int64_t)right);
        break;
    case 0x2d:
        push(m, (int64_t)left < (int64_t)right);
        break;
    default:
        push(m, left != right);
    }
    return true;
}

/* `place`: of the expression's length, from the header. */
static bool evaluate(const struct neap_cfi_module *module, int32_t place,
                     struct machine *m, uint64_t *ret)
{
    struct neap_cursor c = {module->hdr + place, module->end, false};
    uint64_t length = neap_cursor_uleb(&c);

    c.end = c.at + length;
    while (c.at < c.end && !c.bad && !m->bad) {
        uint8_t op = (uint8_t)neap_cursor_unsigned(&c, 1);

        if (op >= 0x30 && op <= 0x4f) /* lit0..31 */
            push(m, op - 0x30u);
        else if (op >= 0x70 && op <= 0x8f) /* breg0..31 */
            push_reg(m, op - 0x70u, neap_cursor_sleb(&c));
        else if (op == 0x06) /* deref */
            load(m, 8);
        else if (op == 0x94) /* deref_size */
            load(m, neap_cursor_unsigned(&c, 1));
        else if (op == 0x23) /* plus_uconst */
            push(m, pop(m) + neap_cursor_uleb(&c));
        else if (op != 0x96 && !eval_constant(m, &c, op) && !eval_binary(m, op))
            return false;
    }
    *ret = pop(m);
    return !c.bad && !m->bad;
}

bool neap_cfi_apply(const struct neap_cfi_module *module,
                    const struct neap_cfi_row *row, neap_cfi_peek *peek, void *context,
                    struct neap_cfi_regs *regs, bool *ret_end)
{
    struct neap_cfi_regs out = *regs;
    uint64_t cfa, value;

    *ret_end = row->reg[NEAP_REG_RA].kind == NEAP_CFI_UNDEFINED;
    if (*ret_end)
        return true;
    if (row->cfa_reg == NEAP_CFI_CFA_EXPR) {
        struct machine m = {.regs = regs, .peek = peek, .context = context};

        if (!evaluate(module, row->cfa_value, &m, &cfa))
            return false;
    } else {
        if (row->cfa_reg >= NEAP_REGS || !(regs->known >> row->cfa_reg & 1))
            return false;
        cfa = regs->value[row->cfa_reg] + (uint64_t)(int64_t)row->cfa_value;
    }
    /* The caller's stack pointer is the CFA unless a rule says otherwise. */
    out.value[NEAP_REG_RSP] = cfa;
    out.known = (out.known | 1u << NEAP_REG_RSP) & ~(1u << NEAP_REG_RA);
    for (unsigned i = 0; i < NEAP_REGS; i++) {
        const struct neap_cfi_rule *rule = &row->reg[i];
        struct machine m = {.regs = regs, .peek = peek, .context = context};
        uint64_t address = cfa + (uint64_t)(int64_t)rule->value;
        bool found = true;

        switch (rule->kind) {
        case NEAP_CFI_SAME:
            continue;
        case NEAP_CFI_OFFSET:
            found = peek(context, address, &value);
            break;
        case NEAP_CFI_VAL_OFFSET:
            value = address;
            break;
        case NEAP_CFI_REGISTER:
            found =
                (uint32_t)rule->value < NEAP_REGS && (regs->known >> rule->value & 1);
            value = found ? regs->value[rule->value] : 0;
            break;
        case NEAP_CFI_EXPR:
            push(&m, cfa);
            found = evaluate(module, rule->value, &m, &value) &&
                    peek(context, value, &value);
            break;
        case NEAP_CFI_VAL_EXPR:
            push(&m, cfa);
            found = evaluate(module, rule->value, &m, &value);
            break;
        default:
            found = false;
        }
        out.known &= ~(1u << i);
        if (found) {
            out.value[i] = value;
            out.known |= 1u << i;
        }
    }
    if (!(out.known >> NEAP_REG_RA & 1) || !(out.known >> NEAP_REG_RSP & 1))
        return false;
    *regs = out;
    return true;
}
