# SPDX-License-Identifier: Apache-2.0
"""Record CMD and its children: ``neap run`` becomes ``neapd run``.

There is one implementation, in C, which needs no Python on the machine. This module
only finds it and hands the words over as they are. The launcher of a build does the
same without Python, and comes here for the help and for what went wrong.
"""

import sys

from neaptide import paths

FAILED_STATUS = 125


EXAMPLES = """\
  neap run -- ./app
  neap run -o app.neap -- make test
"""


def show_help(program: str) -> int:
    """What neapd says of itself, under the name that was typed."""
    import subprocess

    answer = subprocess.run(
        [program, "run", "--help"], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = answer.stdout.replace("usage: neapd run", "usage: neap run", 1)
    if answer.returncode == 0:
        lines += "\nexample:\n" + EXAMPLES
    sys.stdout.write(lines)
    return answer.returncode


def execute(words: list[str]) -> int:
    """Become neapd. Returns only when that is impossible, or for help."""
    program = paths.neapd()
    if program is None:
        reason = "it is neither in the package nor in build/bin"
    else:
        try:
            if words and words[0] in ("-h", "--help"):
                return show_help(program)
            sys.stdout.flush()
            from neaptide.become import become

            become(program, [program, "run", *words])
        except OSError as error:
            reason = f"{program}: {error.strerror}"
    sys.stderr.write(f"neap: cannot start neapd: {reason}; {paths.neapd_fix()}\n")
    return FAILED_STATUS
