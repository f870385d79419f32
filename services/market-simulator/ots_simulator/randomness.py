"""Random numbers by name: any of them can be drawn alone, in any order, and is always the same.

Streams are numpy's Philox 4x64 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): the
key is a digest of the seed and the purpose, the counter holds the day and the block. Numbers of single contracts at
single moments come from SplitMix64's finaliser (Steele, Lea and Flood 2014), which needs no stream.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_53_BITS = float(2**-53)


@lru_cache(maxsize=4096)
def _key(seed: int, purpose: str, subject: str) -> tuple[int, int]:
    digest = blake2b(f"{seed}|{purpose}|{subject}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def stream(seed: int, purpose: str, subject: str, day: int = 0, block: int = 0) -> np.random.Generator:
    """The stream of ``subject`` for ``purpose`` on a UTC ``day`` (days since 1970) in a ``block`` of that day."""
    key = np.array(_key(seed, purpose, subject), np.uint64)
    # the lowest word counts the numbers drawn, so that streams never run into one another
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, block, day, 0], np.uint64)))


def salt(seed: int, purpose: str, subject: str) -> np.uint64:
    """A key for :func:`uniforms`."""
    return np.uint64(_key(seed, purpose, subject)[0])


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def uniforms(key: np.uint64, *words: NDArray[np.uint64] | int) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each element of the broadcast ``words``, by their values alone."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the method
        state = np.atleast_1d(np.asarray(key, np.uint64))
        for word in words:
            state = _mixed((state + _GOLDEN) ^ (np.asarray(word, np.uint64) * _MIX_2))
        return (_mixed(state) >> np.uint64(11)).astype(np.float64) * _53_BITS
