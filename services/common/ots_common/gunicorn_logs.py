"""gunicorn's own lines in the shape of all others, from its first one on."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from ots_common import logs
from ots_common.settings import LogSettings


class LineLogger(Logger):  # type: ignore[misc]
    """Leaves everything to the root logger; the service's name is gunicorn's ``proc_name``."""

    def setup(self, cfg: Any) -> None:
        """What gunicorn calls before it says anything; the application configures the same again."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.loglevel = 0
        logs.configure(cfg.proc_name, LogSettings())
        logs.take_over()

    def access(self, *_: Any) -> None:
        """The services write their own, with the request's id."""

    def reopen_files(self) -> None:
        """There are none of gunicorn's."""
