"""Troubles of the machine itself, each bounded and taken back: disks, memory, processors, the clock."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alerts.installations import NotHere, reload, until
from alerts.rule_files import PROMETHEUS
from alerts.shorter_rules import CHANGED, shortened

if TYPE_CHECKING:
    from alerts.drill import Drill

# processors

_BURNING: list[subprocess.Popen[bytes]] = []
_BURNT: list[tuple[float, float]] = []


def quiet_before(drill: Drill) -> None:
    """On a busy machine the alert fires by itself: wait for a quiet moment, for some minutes at most."""
    until(lambda: "ProcessorsBusy" not in drill.watch.firing(), 240)


def burn(_: Drill) -> None:
    """Two endless loops a processor."""
    for _ in range((os.cpu_count() or 1) * 2):
        _BURNING.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
    _BURNT[:] = [(time.monotonic(), 0.0)]


def burnt(_: Drill) -> str:
    """Which part of the machine the loops had, so that nobody else's work is taken for theirs."""
    used = 0
    for process in _BURNING:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    seconds = used / os.sysconf("SC_CLK_TCK")
    share = seconds / (time.monotonic() - _BURNT[0][0]) / (os.cpu_count() or 1)
    return f"the drill's own loops had {share:.0%} of the processors"


def cool(_: Drill) -> None:
    """End them."""
    while _BURNING:
        process = _BURNING.pop()
        process.kill()
        process.wait()


# memory

_HELD: list[subprocess.Popen[bytes]] = []
_PART = 0.04
_READ_S = 8
_HOLD = "import sys,time;held=bytearray(int(sys.argv[1]));held[::4096]=b'x'*len(held[::4096]);time.sleep(600)"


def take_memory(drill: Drill) -> None:
    """Take 4 % of the machine's memory, and lower the bound to half of that below what is there now: nobody fills a
    machine that others use. Raises NotHere where even that would be too much."""
    total, available = _memory()
    if available / total < 0.05 + 2 * _PART:
        raise NotHere("there is too little memory left to take any of it")
    _bound(drill, available / total - _PART / 2)
    # until it has read its configuration Prometheus knows nobody to tell, and tells again a minute later
    time.sleep(_READ_S)
    _HELD.append(subprocess.Popen([sys.executable, "-c", _HOLD, str(int(total * _PART))]))


def more_memory(_: Drill) -> None:
    """Others gave some back: take as much again, up to a quarter of all."""
    total, available = _memory()
    if _HELD and len(_HELD) < 6 and available / total > 0.3:
        time.sleep(4)
        _HELD.append(subprocess.Popen([sys.executable, "-c", _HOLD, str(int(total * _PART))]))


def give_memory_back(drill: Drill) -> None:
    """And the bound."""
    while _HELD:
        process = _HELD.pop()
        process.kill()
        process.wait()
    until(lambda: "MemoryAlmostFull" not in drill.watch.firing(), 20)
    _bound(drill, 0.05)


def _memory() -> tuple[float, float]:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return float(lines["MemTotal"].split()[0]) * 1024, float(lines["MemAvailable"].split()[0]) * 1024


def _bound(drill: Drill, share: float) -> None:
    changed = {**CHANGED, "MemoryAlmostFull": [("< 0.05", f"< {share:.4f}")]}
    (drill.installation.rules / "machine.yml").write_text(
        shortened((PROMETHEUS / "rules" / "machine.yml").read_text(), changed)
    )
    reload(drill.installation, "prometheus")


def die_of_memory(drill: Drill) -> None:
    """Natively in a group of 64 MB, in Compose in a container of 64 MB."""
    before = _killed()
    drill.installation.die_of_memory()
    if _killed() == before:
        raise NotHere("the kernel does not count the processes that it ends")


def _killed() -> int:
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["oom_kill"])


def killed_in_a_group() -> None:
    """A process of ours in a control group with less memory than it takes. Raises NotHere."""
    first = Path("/sys/fs/cgroup/memory")
    root, bound = (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    group = root / f"ots-drill-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotHere(f"no control group may be made here: {error.strerror}") from None
    try:
        try:
            (group / bound).write_text(str(64 * 2**20))
            for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
                with contextlib.suppress(OSError):
                    (group / swap).write_text(str(64 * 2**20) if "memsw" in swap else "0")
        except OSError as error:
            raise NotHere(f"control groups bound no memory here: {error.strerror}") from None
        script = "import sys;open(sys.argv[1],'w').write('0');held=b'x'*300_000_000"
        done = subprocess.run([sys.executable, "-c", script, group / "cgroup.procs"], check=False, capture_output=True)
        if done.returncode != -9:
            raise NotHere(f"a process above its bound is not killed here: {done.returncode}")
    finally:
        until(lambda: group.rmdir() is None, 5)


# disks

_MOUNTED: list[Path] = []


def _mounted(drill: Drill, size: int, *words: str) -> Path:
    """A filesystem in a file, mounted where the exporter sees it. Raises NotHere where that may not be done."""
    folder = drill.installation.disks / str(time.monotonic_ns())
    folder.mkdir()
    image = drill.installation.disks.parent / f"{folder.name}.image"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", *words, image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        folder.rmdir()
        image.unlink()
        raise NotHere(f"no disk may be mounted here: {mounted.stderr.strip()}")
    _MOUNTED.append(folder)
    return folder


def filling_disk(drill: Drill) -> None:
    """Of 1.5 GB that take no room: what is allocated and not written is nowhere."""
    _mounted(drill, 1_500_000_000)


def fill(_: Drill) -> None:
    """100 MB more."""
    folder = _MOUNTED[-1]
    room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if room > 110_000_000:
        subprocess.run(["fallocate", "-l", "100M", folder / str(time.monotonic_ns())], check=True)
    elif room > 60_000_000:
        subprocess.run(["fallocate", "-l", "45M", folder / str(time.monotonic_ns())], check=True)
    time.sleep(1)


def small_disk(drill: Drill) -> None:
    """With as many files as it can have."""
    folder = _mounted(drill, 8_000_000, "-N", "64")
    with contextlib.suppress(OSError):
        for number in range(1000):
            (folder / str(number)).touch()


def disk_away(drill: Drill) -> None:
    """Unmount and delete what was mounted."""
    while _MOUNTED:
        folder = _MOUNTED.pop()
        if not until(lambda folder=folder: subprocess.run(["umount", folder], check=False).returncode == 0, 20):
            raise OSError(f"{folder} stays mounted")
        shutil.rmtree(folder)
        (drill.installation.disks.parent / f"{folder.name}.image").unlink()


# the clock

_PLL, _UNSYNC, _FREQHOLD, _NANO = 0x0001, 0x0040, 0x0080, 0x2000
_OFFSET, _FREQUENCY, _MAXERROR, _STATUS, _CONSTANT = 0x0001, 0x0002, 0x0004, 0x0010, 0x0020
_IN_MICROSECONDS, _IN_NANOSECONDS = 0x1000, 0x2000
_TIME_ERROR = 5
_OFF_NS = 300_000_000


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2)."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_long * 16),
    ]  # fmt: skip


_BEFORE: list[_Timex] = []


def _adjust(**given: int) -> tuple[int, _Timex]:
    timex = _Timex(**given)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        raise NotHere(f"nobody may adjust the clock here: {os.strerror(ctypes.get_errno())}")
    return state, timex


def clock_off(_: Drill) -> None:
    """Tell the kernel what a keeper of the time tells it that finds the clock 0.3 s off.

    The kernel then moves the clock by offset / 4096 a second, 73 us: in the half minute until that is taken back by two
    thousandths of a second. Raises NotHere where somebody keeps the clock: that is theirs.
    """
    state, before = _adjust(modes=0)
    if state != _TIME_ERROR:
        raise NotHere("somebody keeps this clock, and is not to be disturbed")
    _BEFORE.append(before)
    _adjust(modes=_STATUS, status=_PLL | _FREQHOLD | _NANO)
    _adjust(
        modes=_STATUS | _MAXERROR | _CONSTANT | _OFFSET | _IN_NANOSECONDS,
        status=_PLL | _FREQHOLD | _NANO,
        maxerror=1000,
        constant=10,
        offset=_OFF_NS,
    )


def clock_right(_: Drill) -> None:
    """Nothing is off any more, and nobody keeps the clock, as before."""
    while _BEFORE:
        before = _BEFORE.pop()
        _adjust(modes=_STATUS | _OFFSET, status=_PLL | _FREQHOLD | _NANO, offset=0)
        _adjust(modes=_FREQUENCY | _CONSTANT, freq=before.freq, constant=before.constant)
        _adjust(modes=_STATUS | _MAXERROR, status=before.status, maxerror=before.maxerror)
        _adjust(modes=_IN_NANOSECONDS if before.status & _NANO else _IN_MICROSECONDS)
