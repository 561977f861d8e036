# SPDX-License-Identifier: Apache-2.0
"""The ``neapd`` command of an installed package: becomes the program itself."""

import os
import sys

from neaptide import paths


def main() -> int:
    program = paths.neapd()
    if program is None:
        print("neapd: the collector is not in this installation", file=sys.stderr)
        return 125
    os.execv(program, ["neapd", *sys.argv[1:]])
