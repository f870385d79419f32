"""``python -m ots_simulator``: the market simulator."""

from __future__ import annotations

import asyncio
import sys

from pydantic import ValidationError

from ots_common import process
from ots_simulator.settings import SimulatorSettings
from ots_simulator.tls import ensure_certificate


def main() -> int:
    """Serve until told to stop; 2 when the settings are wrong."""
    try:
        settings = SimulatorSettings()
    except ValidationError as error:
        print(f"market-simulator: {error}", file=sys.stderr)
        return 2
    process.begin("market-simulator", settings)
    # before the seconds that the libraries and the market take: clients who start beside us wait for the authority
    ensure_certificate(settings.simulator_tls_dir)
    from ots_simulator.app import serve

    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
