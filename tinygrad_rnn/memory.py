"""What becomes of memory that a pass has freed, where the C library is GNU's: most of Linux.

By default it hands large blocks back to the system, and the next pass pays for every page of them anew: up to a third of its
time. Whether it does depends on what else happens to lie beside them. Asked to, it keeps them for the next pass.
"""

import ctypes
import os
from contextlib import suppress

KEPT = 1 << 29  # bytes
BLOCKS = 1 << 27, 1 << 25  # of blocks up to this size, or to that where this is refused, as by older versions
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
USERS_OWN = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}  # in the environment: then it is theirs


def keep_freed() -> None:
    """Have the process keep up to half a gigabyte that was freed."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        if not USERS_OWN & os.environ.keys() and any(mallopt(M_MMAP_THRESHOLD, size) for size in BLOCKS):
            mallopt(M_TRIM_THRESHOLD, KEPT)
