"""Two processes share the tests, a core each: more threads in one get in the other's way."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
