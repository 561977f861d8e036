# SPDX-License-Identifier: Apache-2.0
"""The ``neapd`` command of an installed package: becomes the program itself."""

import sys

from neaptide import paths
from neaptide.become import become


def main() -> int:
    """Become neapd. Returns only when there is none."""
    program = paths.neapd()
    if program is not None:
        try:
            become(program, ["neapd", *sys.argv[1:]])
        except OSError as error:
            reason = f"{program}: {error.strerror}"
    else:
        reason = "it is not in this installation"
    sys.stderr.write(f"neapd: cannot start the collector: {reason};")
    sys.stderr.write(f" {paths.neapd_fix()}\n")
    return 125
