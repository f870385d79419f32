"""``python -m ots_simulator``: the market simulator."""

from __future__ import annotations

import asyncio
import sys

from pydantic import ValidationError

from ots_common.logs import configure
from ots_simulator.app import serve
from ots_simulator.settings import SimulatorSettings


def main() -> int:
    """Serve until told to stop; 2 when the settings are wrong."""
    try:
        settings = SimulatorSettings()
    except ValidationError as error:
        print(f"market-simulator: {error}", file=sys.stderr)
        return 2
    configure("market-simulator", level=settings.log_level, fmt=settings.log_format)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
