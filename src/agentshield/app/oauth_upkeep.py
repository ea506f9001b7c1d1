"""What the token service does beside answering: agents that stop lose tokens, authorities are published, rows go."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from agentshield.app.state_dir import StateDir
from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import TokenRevoked
from agentshield.authority.model import AgentStatus
from agentshield.authority.service import AuthorityService
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.oauth.authorize.store import AuthorizationStore
from agentshield.oauth.backchannel.store import BackchannelStore
from agentshield.oauth.store import TokenStore
from agentshield.policy.approval_store import DENIAL_HOLDS, ApprovalStore
from agentshield.sdk.backoff import Backoff

SETTLED: Final = timedelta(seconds=30)  # longer than any request that began before the agent was stopped
_SETTLE_INTERVAL: Final = 5.0  # seconds

KEPT: Final = timedelta(minutes=5)  # what has ended is kept a little longer, for clocks that differ
_FORGET_INTERVAL: Final = 60.0  # seconds

_BY: Final = "authority"

_log = logging.getLogger("agentshield.token_service")


class StoppedAgents:
    """Does for tokens what the authority does for SVIDs: an agent that is stopped, or deleted, loses those it has.

    A request may have asked whether its agent is active just before that changed, and get its token just after. So the
    tokens of an agent are revoked when it stops, and again until every such request has ended.
    """

    def __init__(self, authority: AuthorityService, tokens: TokenStore, sink: AuditSink, clock: Clock) -> None:
        self._authority = authority
        self._tokens = tokens
        self._sink = sink
        self._clock = clock
        self._known: frozenset[str] = frozenset()
        self._stopped: dict[str, datetime | None] = {}  # since when its tokens have been revoked
        self._unrecorded: list[TokenRevoked] = []
        self._looking = asyncio.Lock()

    async def follow(self) -> None:
        """Look whenever an agent changes, until cancelled."""
        async for _ in self._authority.watch_enforcement():
            await _until_done(self.look)

    async def settle(self) -> None:
        """Look again while a request may be under way that began before a stop, until cancelled."""
        while True:
            await asyncio.sleep(_SETTLE_INTERVAL)
            if self._unrecorded or any(map(self._is_due, self._stopped)):
                await _until_done(self.look)

    async def look(self) -> None:
        """Revoke what agents have that were stopped a short while ago; done first, recorded then.

        Raises:
            UnavailableError: something is away; what is left to do is done at the next look.
        """
        async with self._looking:
            agents = await self._authority.list_agents()
            self._note({str(each.spiffe_id): each.standing is AgentStatus.ACTIVE for each in agents})
            for agent in filter(self._is_due, list(self._stopped)):
                await self._revoke(agent)
            if self._unrecorded:
                await self._sink.record(*self._unrecorded)
                self._unrecorded.clear()

    def _note(self, standing: dict[str, bool]) -> None:
        gone = (self._known | self._stopped.keys()) - standing.keys()  # deleted: not listed any more
        stopped = {agent for agent, is_active in standing.items() if not is_active}
        kept = stopped | set(filter(self._is_due, gone))
        self._stopped = {agent: self._stopped.get(agent) for agent in kept}
        self._known = frozenset(standing)

    def _is_due(self, agent: str) -> bool:
        since = self._stopped.get(agent)
        return since is None or self._clock() < since + SETTLED

    async def _revoke(self, agent: str) -> None:
        at = self._clock()
        if revoked := await self._tokens.revoke_agent(agent, at=at):
            event = TokenRevoked(at=at, by=_BY, agent=agent, derived=len(revoked), detail="agent stopped")
            self._unrecorded.append(event)
        self._stopped[agent] = self._stopped[agent] or at


class PublishedAuthorities:
    """Keeps the file of our X.509 authorities current, for clients that speak no SPIFFE (`StateDir.ca_file`)."""

    def __init__(self, authority: AuthorityService, state: StateDir) -> None:
        self._authority = authority
        self._state = state
        self._pem = b""

    async def follow(self) -> None:
        """Write it whenever our authorities change, until cancelled."""
        async for _ in self._authority.watch_bundles():
            await self.publish()

    async def publish(self) -> None:
        """Write it if it is not what our bundle says."""
        pem = self._authority.bundle().x509_pem()
        if pem != self._pem:
            await asyncio.to_thread(self._state.write_ca, pem)
            self._pem = pem


async def forget_ended(tokens: TokenStore, clock: Clock) -> None:
    """Drop tokens and single uses that have ended, until cancelled: the tables stay as large as what is alive."""
    while True:
        await asyncio.sleep(_FORGET_INTERVAL)
        await tokens.forget(before=clock() - KEPT)


async def forget_answered(approvals: ApprovalStore, requests: BackchannelStore, clock: Clock) -> None:
    """Drop requests for approval once neither their answer nor their denial matters any more, until cancelled."""
    while True:
        await asyncio.sleep(_FORGET_INTERVAL)
        before = clock() - DENIAL_HOLDS - KEPT
        await requests.forget(before=before)
        await approvals.forget(before=before)


async def forget_delegated(requests: AuthorizationStore, clock: Clock) -> None:
    """Drop authorization requests once nothing that came of them lives any more, until cancelled."""
    while True:
        await asyncio.sleep(_FORGET_INTERVAL)
        await requests.forget(before=clock() - KEPT)


async def run_always(work: Callable[[], Awaitable[None]]) -> None:
    """Run what never ends; should it fail, say so and begin again: nobody would miss it until it was needed."""
    backoff = Backoff()
    while True:
        try:
            await work()
        except AgentShieldError as error:
            _log.warning("beginning again: %s", error)
        except Exception:
            _log.exception("beginning again after a defect")
        await backoff.wait()


@asynccontextmanager
async def kept_running(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run each of `works` always, while entered."""
    tasks = [asyncio.create_task(run_always(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_done(look: Callable[[], Awaitable[None]]) -> None:
    backoff = Backoff()
    while True:
        try:
            return await look()
        except Exception as error:  # a stop must reach the tokens, whatever it was
            _log.warning("tokens of stopped agents are not revoked yet: %s", error)
        await backoff.wait()
