"""What every test shares."""

from hypothesis import settings

# The same examples everywhere, and no clock: a test fails for what it tests.
settings.register_profile("espnet3", deadline=None, derandomize=True)
settings.load_profile("espnet3")
