# SPDX-License-Identifier: Apache-2.0
"""The law of the house, read from the includes and imports themselves.

daemon, libhook and bindings never include one another; all three stand on schema.
Within the rooms the same, one floor at a time.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schema", "libhook", "daemon", "bindings")

# Where a file stands (longest prefix wins) and what it may include of ours.
LAW: dict[str, tuple[str, ...]] = {
    "schema/attr.h": (),
    "schema/wire/": ("schema/attr.h", "schema/wire/"),
    "schema/base/": ("schema/attr.h", "schema/base/"),
    "schema/store/": ("schema/attr.h", "schema/base/", "schema/store/"),
    "libhook/": ("schema/attr.h", "schema/wire/", "libhook/"),
    "libhook/heap/": ("schema/attr.h", "libhook/heap/"),
    "daemon/": ("schema/", "daemon/"),
    "daemon/source/": (
        "schema/attr.h",
        "schema/wire/",
        "schema/base/",
        "daemon/source/",
    ),
    "daemon/symbol/": (
        "schema/attr.h",
        "schema/wire/event.h",  # limits of a module's record
        "schema/base/",
        "daemon/symbol/",
    ),
    "daemon/ingest/": ("schema/", "daemon/symbol/", "daemon/ingest/"),
    "bindings/query/": (
        "schema/attr.h",
        "schema/base/",
        "schema/store/",
        "bindings/query/",
    ),
    "bindings/loadable/": (
        "schema/attr.h",
        "schema/store/",
        "bindings/query/",
        "bindings/loadable/",
    ),
    "bindings/ext/": (
        "schema/attr.h",
        "schema/base/",
        "bindings/query/",
        "bindings/ext/",
    ),
}

# Headers of the system that a room has no business with.
BANNED = {
    "schema/wire/": {"stdio.h", "stdlib.h", "locale.h", "sqlite3.h", "pthread.h"},
    "libhook/": {"stdio.h", "locale.h", "sqlite3.h"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def c_files() -> list[Path]:
    return sorted(
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".c", ".h")
    )


def place(name: str) -> str:
    found = [where for where in LAW if name.startswith(where)]
    assert found, f"{name} stands in no room: give it one in LAW"
    return max(found, key=len)


def broken(name: str, text: str) -> list[str]:
    """Each include of this file that breaks the law, in words."""
    where = place(name)
    wrong = []
    for quote, header in INCLUDE.findall(text):
        if quote == "<":
            for room, banned in BANNED.items():
                if name.startswith(room) and header in banned:
                    wrong.append(f"{name} includes <{header}>")
        elif not (ROOT / header).is_file():
            wrong.append(f"{name} includes {header}, not named from the top")
        elif not header.startswith(LAW[where]):
            wrong.append(f"{name} includes {header}")
        if header == "Python.h" and name != "bindings/ext/py.h":
            wrong.append(f"{name} includes Python.h, which is py.h's to do")
    return wrong


def test_includes() -> None:
    files = c_files()
    assert len(files) > 30
    wrong = [
        line
        for path in files
        for line in broken(str(path.relative_to(ROOT)), path.read_text())
    ]
    assert not wrong, "the law is broken:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "include"),
    [
        ("libhook/x.c", '"schema/base/error.h"'),
        ("libhook/x.c", '"daemon/ingest/ingest.h"'),
        ("libhook/x.c", "<stdio.h>"),
        ("daemon/x.c", '"bindings/query/query.h"'),
        ("daemon/source/x.c", '"daemon/ingest/ingest.h"'),
        ("daemon/symbol/x.c", '"daemon/ingest/ingest.h"'),
        ("bindings/query/x.c", '"schema/wire/ring.h"'),
        ("bindings/query/x.c", "<Python.h>"),
        ("bindings/ext/x.c", "<Python.h>"),
        ("schema/wire/x.c", '"schema/base/error.h"'),
        ("schema/wire/x.c", "<stdlib.h>"),
        ("schema/base/x.c", '"schema/store/store.h"'),
        ("schema/base/x.c", '"error.h"'),
    ],
)
def test_the_test_sees_a_broken_law(name: str, include: str) -> None:
    assert broken(name, f"#include {include}\n")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_the_package_needs_the_standard_library_alone() -> None:
    wrong = []
    files = sorted((ROOT / "bindings" / "neaptide").rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path):
            first = module.split(".")[0]
            if module.startswith("."):
                wrong.append(f"{path.relative_to(ROOT)}: write {module} from the top")
            elif first != "neaptide" and first not in sys.stdlib_module_names:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_the_package_does_not_read_recordings_behind_the_querys_back() -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "bindings" / "neaptide").rglob("*.py")
        if "sqlite3" in imports(path)
    ]
    assert users == []
