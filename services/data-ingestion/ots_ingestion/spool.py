"""The spool: uploads as files, on disk and synced before anything is promised about them."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from ots_common.problems import Problem

_CHUNK_BYTES = 2**20
PARTIAL = ".part"


@dataclass(frozen=True)
class Upload:
    """A whole upload in the spool, not yet a run."""

    path: Path
    size: int
    sha256: str


def receive(stream: IO[bytes], spool: Path, run_id: UUID, max_bytes: int) -> Upload:
    """Write ``stream`` to the spool and sync it. Raises a 413 or 507 problem and leaves nothing then."""
    spool.mkdir(parents=True, exist_ok=True)
    path = spool / f"{run_id}{PARTIAL}"
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("xb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    raise Problem(413, "too-large", f"the upload is larger than {max_bytes} bytes; split the file")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(507, "no-room", "no room is left for the upload; nothing of it was kept") from error
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(path, size, digest.hexdigest())


def seal(path: Path) -> Upload:
    """A file that somebody else wrote, synced, with its size and digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
        size = file.tell()
    return Upload(path, size, digest.hexdigest())


def keep(upload: Upload) -> Path:
    """Give an upload its final name, which survives a crash. The new path."""
    final = upload.path.with_suffix(".dbn")
    upload.path.rename(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return final
