"""WIT-SVIDs on demand: one key and one token for each entry, given to all its workloads until half its life is over."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.wit_svid import IssuedWitSvid, UnverifiedWitSvid
from agentshield.node.entries import Entry
from agentshield.node.errors import AuthorityUnreachableError
from agentshield.node.upstream import Upstream
from agentshield.sdk.errors import NotOfferedError

log = logging.getLogger(__name__)

# The SPIFFE ID is part of it: an entry that was given another name gets another key and token.
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldWit:
    """A WIT-SVID that is being served, and the key that it is for."""

    svid: IssuedWitSvid
    private_key: PrivateKey = field(repr=False)
    authority_id: str
    refresh_at: datetime


class WitIssuance:
    """Gets WIT-SVIDs from the authority, each for a new key, and holds the latest of each entry."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._held: dict[_Key, HeldWit] = {}
        self._asking: dict[_Key, asyncio.Task[HeldWit]] = {}

    async def get(self, entry: Entry, bundle: TrustBundle) -> HeldWit:
        """Return a WIT-SVID with half its life before it, by an authority that `bundle` has and nobody has tainted.

        When the authority does not answer: one with less, as long as it is valid and its authority is in the bundle.

        Raises:
            NotOfferedError: this authority issues none.
            AuthorityUnreachableError: it does not answer, and no valid one is held.
        """
        key, at = (entry.id, str(entry.spiffe_id)), self._clock()
        self._drop_ended(at)
        held = self._held.get(key)
        known = None if held is None else bundle.find_wit_authority(held.authority_id)
        if held is not None and known is not None and not known.tainted and at < held.refresh_at:
            return held
        try:
            return await self._ask_once(key)
        except NotOfferedError:
            raise
        except AgentShieldError as error:
            if held is not None and known is not None and at < held.svid.expires_at:
                log.warning("a WIT-SVID of %s is given past its time: %s", entry.spiffe_id, error)
                return held
            raise AuthorityUnreachableError(f"no WIT-SVID for {entry.spiffe_id}: {error}") from error

    async def _ask_once(self, key: _Key) -> HeldWit:
        """However many wait for the same one, the authority is asked once; none of them can cancel the others."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: _Key) -> HeldWit:
        entry_id, name = key
        private_key = generate_private_key()
        svid = await self._upstream.issue_wit_svid(entry_id, make_csr(private_key))
        if str(svid.spiffe_id) != name:
            raise AuthorityUnreachableError(f"the authority issued a WIT-SVID of {svid.spiffe_id}, expected {name}")
        held = HeldWit(
            svid=svid,
            private_key=private_key,
            authority_id=UnverifiedWitSvid.parse(svid.token).key_id,
            refresh_at=svid.issued_at + (svid.expires_at - svid.issued_at) / 2,
        )
        self._held[key] = held
        return held

    def _drop_ended(self, at: datetime) -> None:
        """Forget what nobody can use, of entries that went too: their keys go with their last token."""
        self._held = {key: held for key, held in self._held.items() if at < held.svid.expires_at}
