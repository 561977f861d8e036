# SPDX-License-Identifier: Apache-2.0
"""As much of ELF as it takes to say whether a file's debug information is there."""

import os
import struct

NOTE = 7  # SHT_NOTE
BUILD_ID = 3  # NT_GNU_BUILD_ID


class Elf:
    """The names of a file's sections and its build-id. ValueError: not such a file."""

    def __init__(self, path: str) -> None:
        self.sections: set[str] = set()
        self.build_id = ""
        try:
            with open(path, "rb") as file:
                self.read(file.fileno())
        except (struct.error, IndexError, OverflowError) as error:
            raise ValueError(f"{path} is no ELF file: {error}") from None

    def read(self, fd: int) -> None:
        ident = os.pread(fd, 64, 0)
        if ident[:5] != b"\x7fELF\x02" or ident[5] != 1:
            raise ValueError("no 64-bit little-endian ELF file")
        table, size, count, names = struct.unpack("<40xQ10xHHH", ident)
        headers = [
            struct.unpack("<IIQQQQIIQQ", os.pread(fd, 64, table + i * size))
            for i in range(count)
        ]
        strings = os.pread(fd, min(headers[names][5], 1 << 20), headers[names][4])
        for name, kind, _, _, offset, length, *_ in headers:
            self.sections.add(strings[name : strings.index(b"\0", name)].decode())
            if kind == NOTE and not self.build_id:
                self.read_note(os.pread(fd, min(length, 4096), offset))

    def read_note(self, note: bytes) -> None:
        owner, length, kind = struct.unpack_from("<III", note)
        start = 12 + (owner + 3) // 4 * 4
        if kind == BUILD_ID and note[12:15] == b"GNU":
            self.build_id = note[start : start + length].hex()


def debug_file(path: str) -> str | None:
    """Where the debug information of `path` is: itself, or a file of its build-id."""
    elf = Elf(path)
    if ".debug_info" in elf.sections:
        return path
    if elf.build_id:
        name = f"/usr/lib/debug/.build-id/{elf.build_id[:2]}/{elf.build_id[2:]}.debug"
        if os.path.exists(name):
            return name
    return None
