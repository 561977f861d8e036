# SPDX-License-Identifier: Apache-2.0
"""One module a command of ``neap``: ARGUMENTS, EXAMPLES and ``main(args)``."""
