"""JWT-SVIDs on demand: one for each entry and audience, given again until half its life is over."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.node.entries import Entry
from agentshield.node.errors import AuthorityUnreachableError
from agentshield.node.upstream import Upstream

log = logging.getLogger(__name__)

MAX_HELD: Final = 4096

# The SPIFFE ID is part of it: an entry that was given another name gets new tokens.
_Key = tuple[str, str, tuple[str, ...]]


class JwtIssuance:
    """Gets JWT-SVIDs from the authority, and holds the latest ones."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._held: OrderedDict[_Key, tuple[JwtSvid, datetime]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[JwtSvid]] = {}

    async def get(self, entry: Entry, audience: Sequence[str]) -> JwtSvid:
        """Return a token with at least half its life before it; with less, when the authority does not answer.

        Raises:
            AuthorityUnreachableError: it does not answer, and no valid token is held.
        """
        key = (entry.id, str(entry.spiffe_id), tuple(sorted(set(audience))))
        held, refresh_at = self._held.get(key, (None, None))
        if held is not None and refresh_at is not None and self._clock() < refresh_at:
            self._held.move_to_end(key)
            return held
        try:
            return await self._ask_once(key, audience)
        except AgentShieldError as error:
            if held is not None and self._clock() < held.expires_at:
                log.warning("a JWT-SVID of %s is given past its half-life: %s", entry.spiffe_id, error)
                return held
            raise AuthorityUnreachableError(f"no JWT-SVID for {entry.spiffe_id}: {error}") from error

    async def _ask_once(self, key: _Key, audience: Sequence[str]) -> JwtSvid:
        """However many wait for the same token, the authority is asked once; none of them can cancel the others."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, audience))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: _Key, audience: Sequence[str]) -> JwtSvid:
        svid = await self._upstream.issue_jwt_svid(key[0], audience)
        if str(svid.spiffe_id) != key[1] or svid.issued_at is None:
            raise AuthorityUnreachableError(f"the authority issued a JWT-SVID of {svid.spiffe_id}, expected {key[1]}")
        self._held[key] = (svid, svid.issued_at + (svid.expires_at - svid.issued_at) / 2)
        self._held.move_to_end(key)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)
        return svid
