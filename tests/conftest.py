"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Hear Ctrl-C in a run that a shell put into the background, too: it starts such a run deaf to it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
