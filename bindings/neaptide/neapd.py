# SPDX-License-Identifier: Apache-2.0
"""The ``neapd`` command of an installed package: becomes the program itself."""

import os
import sys

from neaptide import paths


def main() -> int:
    """Become neapd. Returns only when there is none."""
    program = paths.neapd()
    if program is not None:
        os.execv(program, ["neapd", *sys.argv[1:]])
    sys.stderr.write(
        "neapd: cannot find the collector: it is not in this installation; install"
        " neaptide again, or set NEAP_NEAPD to its path\n"
    )
    return 125
