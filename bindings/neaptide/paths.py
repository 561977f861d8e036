# SPDX-License-Identifier: Apache-2.0
"""Where the other parts are: beside the package when installed, in build/ else."""

import os

PACKAGE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.dirname(os.path.dirname(PACKAGE))


def find(variable: str, *parts: str) -> str | None:
    """A part's path: from the environment, in the package, or in the build tree."""
    chosen = os.environ.get(variable)
    if chosen:
        return chosen
    for base in (PACKAGE, BUILD):
        path = os.path.join(base, *parts)
        if os.path.isfile(path):
            return path
    return None


def neapd() -> str | None:
    """The collector's program."""
    return find("NEAP_NEAPD", "bin", "neapd")


def neapd_fix() -> str:
    """What to do when that does not run."""
    if os.environ.get("NEAP_NEAPD"):
        return "set NEAP_NEAPD to its path, or unset it to use neap's own"
    return "run make, or install neaptide again, or set NEAP_NEAPD to its path"


def libneap() -> str | None:
    """The library that is loaded into programs."""
    return find("NEAP_HOOK", "lib", "libneap.so")
