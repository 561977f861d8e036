# SPDX-License-Identifier: Apache-2.0
"""Record CMD and its children: ``neap run`` becomes ``neapd run``.

There is one implementation, in C, which needs no Python on the machine. This module
only finds it and hands the words over as they are.
"""

import os
import sys

from neaptide import paths

FAILED_STATUS = 125


def execute(words: list[str]) -> int:
    """Become neapd. Returns only when that is impossible."""
    program = paths.neapd()
    if program is None:
        reason = "it is neither in the package nor in build/bin; run make"
    else:
        try:
            sys.stdout.flush()
            os.execv(program, [program, "run", *words])
        except OSError as error:
            reason = f"{program}: {error.strerror}"
    sys.stderr.write(
        f"neap: cannot start neapd: {reason}, or set NEAP_NEAPD to its path\n"
    )
    return FAILED_STATUS
