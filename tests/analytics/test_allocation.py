"""Memory that mathematics gives back is there for the next request."""

import subprocess
import sys

import pytest

from ots_analytics.allocation import keep_freed_memory

# a process of its own: the setting is one of the whole process, and the count of pages too
_FAULTS = """
import resource
import numpy as np
from ots_analytics.allocation import keep_freed_memory
assert keep_freed_memory()
def turn():
    return sum(float(array[-1]) for array in [np.ones(100_000) for _ in range(8)])
turn(), turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_arrays_are_not_fetched_from_the_kernel_again():
    if not keep_freed_memory():
        pytest.skip("this C library cannot be told")
    done = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True)
    # 20 turns of 8 arrays of 195 pages each: 30,600 when each turn's are returned
    assert int(done.stdout) < 200
