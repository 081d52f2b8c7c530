"""`python -m specola_worker.kernel FILE`: serve the order in a file."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Fork the zygote before anything else is imported, so that both get ready side by side."""
    from specola_worker.kernel import order, zygote

    log = logging.getLogger("specola_worker.kernel")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    file = Path(words[0])
    try:
        told = order.read(file)
    except order.OrderError as error:
        log.error("%s", error)  # noqa: TRY400 - it says all there is to say
        return 2
    # the secret is good once: what is left of it helps nobody
    file.unlink(missing_ok=True)
    os.environ.pop("JPY_PARENT_PID", None)
    ours = zygote.spawn()

    import asyncio

    from specola_worker.kernel import worker

    return asyncio.run(worker.work(told, ours))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
