"""What can go wrong, each with the exit status that says so (docs/DEPLOYMENT_GUIDE.md)."""

from __future__ import annotations

OK, FAILED, USAGE, NOT_READY, LOCKED, DECLINED, NOT_MIGRATED, ROLLED_BACK, NOT_ROLLED_BACK, NOT_WELL = range(10)
INTERRUPTED = 130


class DeployError(Exception):
    """In words for a person; ``status`` is the exit status."""

    def __init__(self, words: str, status: int = FAILED) -> None:
        super().__init__(words)
        self.status = status
