/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking large debug files onto the disk.
 *
 * Distributions compress debugging sections, and libdw unpacks all of them into
 * memory when it opens a file: hundreds of megabytes for a browser. What is unpacked
 * into an unlinked temporary file instead is mapped like any other file, and costs
 * disk while the recording lasts, but no memory that could run out.
 */
#ifndef NEAP_DAEMON_SYMBOL_INFLATE_H
#define NEAP_DAEMON_SYMBOL_INFLATE_H

#include <gelf.h>

/*
 * A descriptor of a nameless copy of `elf` with no section compressed. -1: it is
 * compressed in a way not known here, too large, damaged, or there is no room.
 */
int neap_inflate(Elf *elf);

#endif
