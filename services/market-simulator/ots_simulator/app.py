"""One process: the live gateway and the historical API over one market, one clock and one set of faults."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from ots_market.sessions import Sessions, sessions_of
from ots_simulator.clock import Clock
from ots_simulator.control import Control
from ots_simulator.faults import Faults
from ots_simulator.historical import HistoricalApi
from ots_simulator.live import LiveGateway
from ots_simulator.query import parse_timestamp
from ots_simulator.replay import TapeSource
from ots_simulator.settings import SimulatorSettings
from ots_simulator.sources import Source
from ots_simulator.tls import ensure_certificate

_log = logging.getLogger(__name__)

_DRAIN_S = 1.0


@dataclass(frozen=True)
class Addresses:
    """Where the servers listen."""

    http_port: int
    live_port: int


class Simulator:
    """Both servers."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.sessions = sessions_of(settings.market_calendar)
        self.source, self.clock = make_market(settings, self.sessions)
        self.faults = Faults()
        self.live = LiveGateway(self.source, self.clock, self.faults, settings)
        self.historical = HistoricalApi(self.source, self.sessions, self.clock, self.faults, settings)
        control = Control(self.source, self.clock, self.faults, self.sessions, self.historical)
        application = web.Application(client_max_size=2**20)
        application.add_routes([*self.historical.routes(), *control.routes()])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_DRAIN_S, handle_signals=False)

    async def start(self) -> Addresses:
        """Listen."""
        certificate, key = ensure_certificate(self.settings.simulator_tls_dir)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self.settings.simulator_bind, self.settings.simulator_http_port, ssl_context=context
        )
        await site.start()
        live_port = await self.live.start()
        self.clock.start()
        return Addresses(self._runner.addresses[0][1], live_port)

    async def stop(self) -> None:
        """Take nothing new; end sessions and transfers within about a second."""
        self.historical.stop()
        await self.live.stop()
        await self._runner.cleanup()


def make_market(settings: SimulatorSettings, sessions: Sessions) -> tuple[Source, Clock]:
    """The market that the settings ask for, and its time."""
    starts = None if settings.simulator_starts_at is None else parse_timestamp(settings.simulator_starts_at)[0]
    if settings.simulator_tape is not None:
        now = time.time_ns() if starts is None else starts
        tape = TapeSource(settings.simulator_tape, shift=settings.simulator_tape_shift, begins_ns=now)
        if starts is None and settings.simulator_tape_shift == "none":
            starts = tape.first_ns
        return tape, Clock(settings.simulator_speed, starts)
    clock = Clock(settings.simulator_speed, starts)
    return seeded_market(settings, sessions, clock.now), clock


def seeded_market(settings: SimulatorSettings, sessions: Sessions, now: Callable[[], int]) -> Source:
    """The generated market; imported late, since a tape does without."""
    from ots_simulator.market import MarketSize, SeededMarket

    return SeededMarket(settings.simulator_seed, sessions, MarketSize[settings.simulator_size.upper()], now)


async def serve(settings: SimulatorSettings) -> None:
    """Run until SIGTERM or SIGINT; one line of JSON on standard output says when and where it is ready."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    simulator = Simulator(settings)
    addresses = await simulator.start()
    ready = {
        "ready": True,
        "source": simulator.source.name,
        "calendar": simulator.sessions.name,
        "http_port": addresses.http_port,
        "live_port": addresses.live_port,
        "ca": str(settings.simulator_tls_dir / "ca.pem"),
    }
    print(json.dumps(ready), flush=True)
    await stopping.wait()
    await simulator.stop()
