# SPDX-License-Identifier: Apache-2.0
"""What the built libraries show of themselves, and what they need of others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOOK = ROOT / "build" / "lib" / "libneap.so"
NEAPD = ROOT / "build" / "bin" / "neapd"
SQL = ROOT / "build" / "lib" / "libneapsql.so"
EXTENSION = ROOT / "build" / "python" / "neaptide" / "_neap.abi3.so"


def tool(*words: str | Path) -> str:
    return subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True
    ).stdout


def symbols(library: Path, *options: str) -> set[str]:
    """The dynamic symbols, without their versions; marks of versions left out."""
    lines = [line.split() for line in tool("nm", "-D", *options, library).splitlines()]
    return {words[-1].split("@")[0] for words in lines if words[-2] != "A"}


def needed(library: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-d", library)))


def mapped() -> set[str]:
    """The names of libhook.map."""
    text = (ROOT / "libhook" / "libhook.map").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    shown = text.split("global:")[1].split("local:")[0]
    return {name.strip() for name in shown.split(";") if name.strip()}


def test_libneap_exports_what_its_map_lists() -> None:
    names = mapped()
    assert {"malloc", "free", "realloc", "_Znwm", "mmap"} <= names
    assert symbols(HOOK, "--defined-only") == names


def test_libneap_needs_nothing_but_libc() -> None:
    assert needed(HOOK) == {"libc.so.6"}


def test_libneap_keeps_its_thread_data_where_no_call_is_needed() -> None:
    assert "__tls_get_addr" not in symbols(HOOK, "--undefined-only")
    assert "STATIC_TLS" in tool("readelf", "-d", HOOK)


def test_libneap_stays_loaded_and_is_bound_at_once() -> None:
    dynamic = tool("readelf", "-d", HOOK)
    assert re.search(r"FLAGS_1\).*\bNOW\b", dynamic)
    assert re.search(r"FLAGS_1\).*\bNODELETE\b", dynamic)


def test_libneap_has_no_text_relocations_and_no_executable_stack() -> None:
    assert "TEXTREL" not in tool("readelf", "-d", HOOK)
    assert re.search(r"GNU_STACK.*\n?.*\bRW\s", tool("readelf", "-lW", HOOK))


def test_neapd_runs_on_a_machine_without_python() -> None:
    libraries = needed(NEAPD)
    assert any(name.startswith("libsqlite3.") for name in libraries)
    assert not [name for name in libraries if "python" in name]


def test_the_extension_shows_only_its_entry() -> None:
    assert symbols(EXTENSION, "--defined-only") == {"PyInit__neap"}


def test_libneapsql_shows_only_its_entry_and_brings_no_sqlite() -> None:
    assert symbols(SQL, "--defined-only") == {"sqlite3_neapsql_init"}
    assert not [name for name in needed(SQL) if "sqlite" in name]
    assert not [name for name in symbols(SQL, "--undefined-only") if "sqlite" in name]


def test_the_extension_is_bound_to_no_version_of_python() -> None:
    assert not [name for name in needed(EXTENSION) if "python" in name]
