"""A stream while it lasts: until the agent ends it, the caller leaves, or may have no more of it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from agentshield.a2a.enforcement import Admission, Enforcement
from agentshield.sdk.visit import Visit

PING_SECONDS: Final = 15.0  # between two signs of life of a stream on which nothing happens
LOOK_SECONDS: Final = 0.25  # how soon a stream is cut on which nothing happens, once its caller is locked

Event = Mapping[str, Any]


async def followed(
    first: Event | None,
    events: AsyncGenerator[Event],
    enforcement: Enforcement,
    admission: Admission,
    visit: Visit,
    gone: "asyncio.Future[None]",
) -> AsyncGenerator[Event | None]:
    """Yield `first` and what follows; None as a sign of life. Ends when `gone` is done, and closes `events`.

    Raises:
        AgentShieldError: the agent breaks off, or the caller is cut off.
    """
    if first is not None:
        yield first
    quiet = 0.0
    upcoming: asyncio.Task[Event | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events, None))
            both: set[asyncio.Future[Any]] = {upcoming, gone}
            await asyncio.wait(both, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            await enforcement.require_still(admission)
            visit.verify_again()
            if upcoming.done():
                event, upcoming, quiet = upcoming.result(), None, 0.0
                if event is None:
                    return
                yield event
                continue
            quiet += LOOK_SECONDS
            if quiet >= PING_SECONDS:
                quiet = 0.0
                yield None
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await upcoming
        await events.aclose()
