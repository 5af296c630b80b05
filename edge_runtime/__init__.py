"""From a camera or a file to a reading. Imports ``ecg`` only, never torch, transformers or timm."""

import os

# The matrices here are small: OpenBLAS's own threads would gain nothing, and spin on cores that the nets need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
