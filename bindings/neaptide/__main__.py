# SPDX-License-Identifier: Apache-2.0
"""``python -m neaptide`` is ``neap``."""

import sys

from neaptide.cli import main

if __name__ == "__main__":
    sys.exit(main())
