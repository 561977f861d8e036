/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed vectors by macro:
 *
 *     NEAP_VEC(struct row) rows = {0};
 *     if (!neap_vec_push(&rows, row))
 *         return NEAP_NO_MEMORY;
 *     for (size_t i = 0; i < rows.count; i++)
 *         use(&rows.data[i]);
 *     neap_vec_deinit(&rows);
 *
 * A zeroed struct is an empty vector. count <= capacity; data is one malloc block.
 * A push that fails leaves everything as it was. Growing moves the elements, so no
 * pointer to one outlives a push.
 */
#ifndef NEAP_SCHEMA_BASE_VEC_H
#define NEAP_SCHEMA_BASE_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define NEAP_VEC(type)   \
    struct {             \
        type *data;      \
        size_t count;    \
        size_t capacity; \
    }

/* Room for `need` elements of `size` bytes in all; `*data` and `*capacity` follow. */
static inline bool neap_vec_grow(void **data, size_t *capacity, size_t need,
                                 size_t size)
{
    size_t room = *capacity < 8 ? 8 : *capacity;
    void *moved;

    if (need <= *capacity)
        return true;
    while (room < need) {
        if (room > SIZE_MAX / 2)
            return false;
        room *= 2;
    }
    if (room > SIZE_MAX / size)
        return false;
    moved = realloc(*data, room * size);
    if (!moved)
        return false;
    *data = moved;
    *capacity = room;
    return true;
}

/* Room for `more` elements behind the last. False: no memory. */
#define neap_vec_reserve(vec, more)                                                 \
    ({                                                                              \
        __typeof__(vec) grow_ = (vec);                                              \
        size_t more_ = (more);                                                      \
        void *data_ = grow_->data;                                                  \
        bool there_ = more_ <= SIZE_MAX - grow_->count &&                           \
                      neap_vec_grow(&data_, &grow_->capacity, grow_->count + more_, \
                                    sizeof(*grow_->data));                          \
        grow_->data = data_;                                                        \
        there_;                                                                     \
    })

/* Append one element. False: no memory. */
#define neap_vec_push(vec, ...)                        \
    ({                                                 \
        __typeof__(vec) vec_ = (vec);                  \
        bool room_ = neap_vec_reserve(vec_, 1);        \
        if (room_)                                     \
            vec_->data[vec_->count++] = (__VA_ARGS__); \
        room_;                                         \
    })

#define neap_vec_deinit(vec)              \
    do {                                  \
        __typeof__(vec) vec_ = (vec);     \
        free(vec_->data);                 \
        vec_->data = NULL;                \
        vec_->count = vec_->capacity = 0; \
    } while (0)

#endif
