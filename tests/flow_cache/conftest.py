"""Settings of the property tests."""

from hypothesis import settings

# No deadline: how fast a machine is must not decide a test. The same examples every time.
settings.register_profile("steady", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("steady")
