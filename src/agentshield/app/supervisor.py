"""Starts services in order, notices when one dies, stops them in reverse order.

A service is an async context manager: entering it makes it ready, leaving it stops it. Work that never ends, such as
the CA's rotation, is kept beside them; its failure stops everything, as a half-running authority is worse than none.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from agentshield.app.exit_codes import ExitCode
from agentshield.errors import AgentShieldError, UnavailableError

START_DEADLINE: Final = 30.0  # seconds
STOP_GRACE: Final = 15.0

_log: Final = logging.getLogger("agentshield.up")
T = TypeVar("T")


class ServiceStartError(UnavailableError):
    """A service was not ready in time."""

    code = "start_timeout"


@dataclass(slots=True)
class Component:
    """What `status` tells of one service."""

    name: str
    state: str = "starting"
    detail: str | None = None


class Supervisor:
    """Holds the running services. Use it as an async context manager; leaving it stops them all."""

    def __init__(self) -> None:
        self.components: list[Component] = []
        self._services = AsyncExitStack()
        self._stop = asyncio.Event()
        self._kept: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._services.aclose()

    async def start(self, name: str, service: AbstractAsyncContextManager[T]) -> T:
        """Make one more service ready, and see to it that it is stopped before those that were ready earlier.

        Raises:
            ServiceStartError: it is not ready in time.
        """
        component = Component(name)
        self.components.append(component)
        began = time.monotonic()
        try:
            async with asyncio.timeout(START_DEADLINE):
                value = await service.__aenter__()
        except TimeoutError as error:
            raise ServiceStartError(f"{name} was not ready within {START_DEADLINE:g}s") from error
        self._services.push_async_exit(_GentleExit(component, service))
        component.state = "ready"
        _log.info("%s ready in %.0f ms", name, (time.monotonic() - began) * 1000)
        return value

    def keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until everything stops; should it end by itself, everything stops."""
        self._run(name, work, at_end=self._fail)

    def mind(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as `keep` does; should it end by itself, the rest goes on and `components` tells why."""
        self._run(name, work, at_end=lambda _: None)

    def _run(self, name: str, work: Coroutine[Any, Any, None], *, at_end: Callable[[Exception], None]) -> None:
        task = asyncio.create_task(self._kept_running(name, work, at_end), name=name)
        self._kept.add(task)
        self._services.push_async_callback(_cancelled, task)

    def request_stop(self) -> None:
        """Begin to stop, as a signal would."""
        self._stop.set()

    async def wait(self) -> None:
        """Return when a signal asks to stop.

        Raises:
            Exception: what made a kept piece of work end.
        """
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure

    async def _kept_running(
        self, name: str, work: Coroutine[Any, Any, None], at_end: Callable[[Exception], None]
    ) -> None:
        component = Component(name, "ready")
        self.components.append(component)
        failure: Exception = UnavailableError(f"{name} ended by itself")
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failure = error
        _log.error("%s failed: %s", name, failure, exc_info=None if isinstance(failure, AgentShieldError) else failure)
        component.state, component.detail = "failed", str(failure)
        at_end(failure)

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._stop.set()

    def _on_signal(self) -> None:
        if self._stop.is_set():  # a second signal: whoever sends it has waited long enough
            os._exit(ExitCode.FAILED)
        self._stop.set()


class _GentleExit:
    """Leaves one service, within the grace, and whatever it raises: the others must still be stopped."""

    def __init__(self, component: Component, service: AbstractAsyncContextManager[Any]) -> None:
        self._component = component
        self._service = service

    async def __call__(self, *_: object) -> bool:
        self._component.state = "stopping"
        try:
            async with asyncio.timeout(STOP_GRACE):
                await self._service.__aexit__(None, None, None)
        except TimeoutError:
            _log.warning("%s did not stop within %g s", self._component.name, STOP_GRACE)
        except Exception:
            _log.exception("%s failed while stopping", self._component.name)
        self._component.state = "stopped"
        return False


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
