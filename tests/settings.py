"""The project's settings, on a state directory of this test run's own."""

import atexit
import os
import shutil
import tempfile

from tests.support.postgres import url_of_run

_state = tempfile.mkdtemp(prefix="lobwife-tests-")
atexit.register(shutil.rmtree, _state, ignore_errors=True)
os.environ["LOBWIFE_STATE_DIR"] = _state
os.environ.setdefault("LOBWIFE_SECRET_KEY", "a-key-for-tests-that-is-long-enough-for-django-and-has-some-variety-12345")

if os.environ.get("LOBWIFE_TEST_DATABASE") == "postgres":
    os.environ["LOBWIFE_DATABASE_URL"] = url_of_run()

from lobwife.settings import *  # noqa: E402, F403

LOCAL_ACCOUNTS = None  # requests of Django's test client have no connection
PASSWORD_HASHERS = ["tests.support.hashers.QuickPBKDF2PasswordHasher"]
WHITENOISE_AUTOREFRESH = True  # each test client would begin with a look at all static files
