"""The node agent's own identity: attested once, renewed at half its life, kept on disk between starts."""

import asyncio
import logging
from datetime import datetime
from typing import Final

from agentshield.clock import Clock
from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.x509_svid import X509Svid, renew_at
from agentshield.node.backoff import Backoff
from agentshield.node.settings import NodeSettings
from agentshield.node.storage import NodeStorage, StoredNode
from agentshield.sdk.clients.authority import AuthorityClient
from agentshield.sdk.clients.errors import NodeRefusedError
from agentshield.sdk.tls import SpiffeContext

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0  # timers stand still while a machine sleeps, so the wall clock is looked at often
_JOIN_TOKEN: Final = "join_token"  # noqa: S105  (the attestor's name)


class OwnIdentity:
    """What the node shows to the authority, and what it verifies the authority with."""

    def __init__(self, settings: NodeSettings, client: AuthorityClient, context: SpiffeContext, clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._context = context
        self._clock = clock
        self._storage = NodeStorage(settings.data_dir, settings.trust_domain)
        self._backoff = Backoff()
        self._look_now = asyncio.Event()
        self._is_refused = False
        self._current: StoredNode | None = None
        self.is_there = asyncio.Event()

    async def run(self) -> None:
        """Attest, or go on with what is on disk, and renew until cancelled.

        Raises:
            AgentShieldError: the authority does not accept this node, and trying again would not help.
        """
        self._restore()
        while True:
            try:
                await self._step()
                self._backoff.reset()
            except UnavailableError as error:
                log.warning("the node's own identity is not renewed: %s", error)
                await asyncio.sleep(self._backoff.next_delay())
            except NodeRefusedError as error:
                self.refused()
                if not error.may_attest:
                    raise

    def refused(self) -> None:
        """Take note that the authority does not know us any more; what we hold is good for nothing."""
        self._is_refused = True
        self._storage.forget()
        self._look_now.set()

    def trust(self, bundle: TrustBundle) -> None:
        """Verify the authority with `bundle` from now on."""
        if self._current is not None and bundle != self._current.bundle:
            self._use(StoredNode(svid=self._current.svid, bundle=bundle))

    def look_now(self) -> None:
        """Check at once whether the identity is due: the clock has jumped."""
        self._look_now.set()

    async def _step(self) -> None:
        """One look: attest, renew, or wait a little."""
        if self._current is None or self._is_refused or self._clock() >= self._current.svid.not_after:
            await self._attest()
        elif self._clock() >= renew_at(self._current.svid):
            await self._renew(self._current)
        else:
            await self._wait(until=renew_at(self._current.svid))

    async def _wait(self, *, until: datetime) -> None:
        seconds = min((until - self._clock()).total_seconds(), LOOK_SECONDS)
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._look_now.wait()
        except TimeoutError:
            return
        self._look_now.clear()

    def _restore(self) -> None:
        stored = self._storage.load()
        if stored is not None and self._clock() < stored.svid.not_after:
            log.info("going on as %s", stored.svid.spiffe_id)
            self._use(StoredNode(svid=stored.svid, bundle=self._newer(stored.bundle)))

    async def _attest(self) -> None:
        token = self._settings.join_token
        if token is None:
            raise ConfigurationError(
                "the node agent has no valid SVID and no join token to get one with",
                hint="`agentshield join-token create` makes one, `agentshield node run --join-token-file` uses it",
            )
        self.is_there.clear()
        key = generate_private_key()
        self._context.update(None, BundleSet.of(self._bootstrap_bundle()))
        self._client.reconnect()  # without a certificate, as one who has none
        answer = await self._client.attest_agent(_JOIN_TOKEN, token.encode(), make_csr(key))
        bundle = await self._client.get_bundle()
        self._is_refused = False
        self._use(StoredNode(svid=X509Svid.of(answer.svid.chain, key), bundle=bundle))
        log.info("attested as %s", answer.svid.spiffe_id)

    async def _renew(self, current: StoredNode) -> None:
        key = generate_private_key()
        issued = await self._client.renew_agent(make_csr(key))
        self._use(StoredNode(svid=X509Svid.of(issued.chain, key), bundle=current.bundle))

    def _use(self, node: StoredNode) -> None:
        has_new_svid = self._current is None or self._current.svid is not node.svid
        self._current = node
        self._context.update(node.svid, BundleSet.of(node.bundle))
        if has_new_svid:
            self._client.reconnect()  # a connection is bound to the certificate that it was made with
        self.is_there.set()
        try:
            self._storage.save(node)
        except OSError as error:
            # Serving goes on; only the next start is in danger, and the operator hears of it now.
            log.error("the node's identity cannot be saved in %s: %s", self._settings.data_dir, error)

    def _bootstrap_bundle(self) -> TrustBundle:
        held = self._current.bundle if self._current is not None else None
        bundle = self._newer(held) if held is not None else self._settings.trust_bundle
        if bundle is None:
            raise ConfigurationError(
                "the node agent has no trust bundle to verify the authority with",
                hint="`agentshield bundle show` on the authority's machine prints it; give it with --trust-bundle",
            )
        return bundle

    def _newer(self, held: TrustBundle) -> TrustBundle:
        """What we heard from the authority itself wins, unless the operator gave us something later."""
        given = self._settings.trust_bundle
        if given is not None and (given.sequence or 0) > (held.sequence or 0):
            return given
        return held
