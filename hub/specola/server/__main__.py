"""`python -m specola.server`: the API service of the facility in `SPECOLA_STATE`."""

from __future__ import annotations

import asyncio
import signal

from specola.core import log
from specola.facility.runtime import load_runtime
from specola.server.wiring import build

GRACE = 3.0


async def serve() -> None:
    """Listen on loopback until TERM or INT."""
    logger = log.setup("service")
    runtime = load_runtime()
    service = build(runtime)
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await service.start(runtime.ports.service)
    logger.info("listening on %s", runtime.service_url)
    await stop.wait()
    logger.info("stopping")
    await service.stop(GRACE)


if __name__ == "__main__":
    asyncio.run(serve())
