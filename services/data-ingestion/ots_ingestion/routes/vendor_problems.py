"""What the vendor did not give, as an answer over HTTP."""

from __future__ import annotations

import math

from ots_common.problems import Problem
from ots_ingestion.vendor import BadRequest, NoKey, NotEntitled, RateLimited, TooCostly, VendorError, VendorUnavailable

_STATUS: tuple[tuple[type[VendorError], int], ...] = (
    (NoKey, 409),
    (NotEntitled, 422),
    (BadRequest, 422),
    (TooCostly, 422),
    (RateLimited, 503),
    (VendorUnavailable, 503),
)


def problem_of(error: VendorError) -> Problem:
    """502 where the fault lies between us and the vendor (key, payment), 503 where it passes, else 4xx."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 502)
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "retry_after", None) or 5)))
    return Problem(status, error.kind, str(error), hint=error.hint, headers=headers)
