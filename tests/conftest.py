# SPDX-License-Identifier: Apache-2.0
"""What all tests stand on: signals as a person at a terminal has them.

Whoever starts the tests in the background, or with nohup, may have them ignored, and
programs under test would inherit that.
"""

from __future__ import annotations

import signal

HANDLERS = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


def pytest_configure() -> None:
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
