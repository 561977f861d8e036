# SPDX-License-Identifier: Apache-2.0
"""Wheels: the C parts come from make, this packs them into the Python package.

What lies in the package when installed:

    neaptide/_neap.abi3.so      questions to recordings; one file for Python >= 3.11
    neaptide/bin/neapd          the collector
    neaptide/lib/libneap.so     what is loaded into programs
    neaptide/lib/libneapsql.so  what is loaded into SQLite, for the view event
"""

import os
import re
import subprocess
import sys

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

PARTS = {
    "python/neaptide/_neap.abi3.so": "_neap.abi3.so",
    "bin/neapd": "bin/neapd",
    "lib/libneap.so": "lib/libneap.so",
    "lib/libneapsql.so": "lib/libneapsql.so",
}


def version() -> str:
    with open("schema/base/version.h", encoding="ascii") as file:
        found = re.search(r'NEAP_VERSION "(.+)"', file.read())
    if not found:
        sys.exit("setup.py: schema/base/version.h names no version")
    return found[1]


class Make(build_ext):  # type: ignore[misc]
    """Let make build the parts, in a tree of its own, and put them in place."""

    def run(self) -> None:
        if self.editable_mode:
            sys.exit(
                "neaptide: no editable installs; run 'make' and use build/bin/neap"
            )
        tree = os.path.join("build", "wheel")
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        environment = {k: v for k, v in os.environ.items() if k != "MAKEFLAGS"}
        subprocess.run(
            [
                *(
                    "make",
                    jobs,
                    "PACKAGES=say",
                    f"B={tree}",
                    f"PYTHON={sys.executable}",
                ),
                *("neapd", "hook", "sql", "ext"),
            ],
            env=environment,
            check=True,
        )
        for made, name in PARTS.items():
            target = os.path.join(self.build_lib, "neaptide", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self.copy_file(os.path.join(tree, made), target)

    def get_outputs(self) -> list[str]:
        return [
            os.path.join(self.build_lib, "neaptide", name) for name in PARTS.values()
        ]


setup(
    version=version(),
    packages=find_packages("bindings", include=["neaptide", "neaptide.*"]),
    package_dir={"": "bindings"},
    package_data={"neaptide": ["py.typed", "*.pyi"]},
    # Nothing is compiled from this; it makes the wheel one for this kind of machine.
    ext_modules=[Extension("neaptide._neap", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": Make},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
