"""What every test shares."""

import signal

import cloudpickle
import pytest
from hypothesis import settings

# The same examples everywhere, and no clock: a test fails for what it tests.
settings.register_profile("espnet3", deadline=None, derandomize=True)
settings.load_profile("espnet3")

# `nohup` has the tests ignore that the terminal is closed, and what they start as well.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A shell that starts the tests with `&` has them ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def by_value(request):
    """Workers cannot import a test module: what a test defines travels whole."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)
