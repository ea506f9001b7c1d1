"""X509Source: always what was last said, nothing that was taken away, and a reason when there is nothing."""

import asyncio
import gc

import pytest

from agentshield.errors import UnavailableError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.errors import UnknownTrustDomainError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.sdk.authorizers import member_of
from agentshield.sdk.errors import NoIdentityError, SourceClosedError, WorkloadApiRefusedError
from agentshield.sdk.sources import X509Source
from agentshield.sdk.tls import SpiffeContext
from agentshield.sdk.x509_context import Outage, X509Context
from agentshield.testing import FakeTrustDomain


class Feed:
    """A feed that says what the test puts into it."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def __call__(self):
        while True:
            update = await self.queue.get()
            if isinstance(update, Exception):
                raise update
            yield update

    async def say(self, update):
        await self.queue.put(update)
        await asyncio.sleep(0.01)


@pytest.fixture
def domain():
    return FakeTrustDomain()


@pytest.fixture
async def feed():
    return Feed()


def context_of(domain, *paths):
    return X509Context(
        svids=tuple(domain.issue_svid(path, hint=path.strip("/")) for path in paths), bundles=domain.bundles()
    )


async def test_it_is_always_current(feed, domain):
    """What was said last is what is shown next."""
    first, second = context_of(domain, "/planner"), context_of(domain, "/planner")
    await feed.say(first)
    async with X509Source(feed) as source:
        assert source.svid is first.svids[0]
        await feed.say(second)
        assert source.svid is second.svids[0]
        assert source.status.rotations == 2
        assert source.bundle_for(domain.trust_domain).x509_authorities
        with pytest.raises(UnknownTrustDomainError):
            source.bundle_for(TrustDomain("stranger.test"))


async def test_a_hint_picks_the_identity(feed, domain):
    """A process with two identities shows the one it asked for."""
    await feed.say(context_of(domain, "/planner", "/second"))
    async with X509Source(feed, hint="second") as source:
        assert source.spiffe_id.path == "/second"
    await feed.say(context_of(domain, "/planner"))
    with pytest.raises(NoIdentityError, match="none has hint 'second'; hints given: 'planner'"):
        async with X509Source(feed, hint="second", wait=0.1):
            pass


async def test_waiting_ends_with_the_reason(feed):
    """py-spiffe waits for ever and logs nothing; we say what stands in the way."""
    with pytest.raises(UnavailableError, match=r"no X509-SVID arrived within 0.05s"):
        async with X509Source(feed, wait=0.05):
            pass
    await feed.say(Outage(NoIdentityError()))
    with pytest.raises(NoIdentityError):
        async with X509Source(feed, wait=0.05):
            pass


async def test_a_refusal_ends_the_wait_at_once(feed):
    """What no retry can mend is not waited for."""
    await feed.say(WorkloadApiRefusedError("security header missing"))
    async with asyncio.timeout(5):
        with pytest.raises(WorkloadApiRefusedError):
            async with X509Source(feed, wait=60):
                pass


async def test_an_outage_keeps_the_identity(feed, domain, caplog):
    """A node agent that restarts must not stop its workloads; the log says it once, not at each try."""
    await feed.say(context_of(domain, "/planner"))
    async with X509Source(feed) as source:
        for _ in range(3):
            await feed.say(Outage(UnavailableError("away")))
        assert source.svid
        assert source.status.last_error == "away"
        assert len([each for each in caplog.records if "not up to date" in each.message]) == 1
        await feed.say(context_of(domain, "/planner"))
        assert source.status.last_error is None


async def test_a_redaction_takes_the_identity_away(feed, domain):
    """WAP-02: an identity that is no longer sent must no longer be used, also by contexts handed out before."""
    await feed.say(context_of(domain, "/planner"))
    async with X509Source(feed) as source:
        tls = SpiffeContext.for_client(authorize=member_of("example.test"))
        source.keep_current(tls)
        assert tls.svid is source.svid
        await feed.say(Outage(NoIdentityError()))
        with pytest.raises(NoIdentityError):
            _ = source.svid
        assert tls.svid is None
        assert source.bundles == BundleSet()


async def test_contexts_follow_and_are_let_go(feed, domain):
    """Each TLS context in use is rotated; one that nobody holds any more is forgotten."""
    await feed.say(context_of(domain, "/planner"))
    async with X509Source(feed) as source:
        tls = SpiffeContext.for_client(authorize=member_of("example.test"))
        source.keep_current(tls)
        await feed.say(context_of(domain, "/planner"))
        assert tls.svid is source.svid
        del tls
        gc.collect()
        assert len(source._tls) == 0


async def test_subscribers_hear_and_cannot_harm_each_other(feed, domain):
    """One subscriber's fault must not leave the others with an old identity."""
    heard = []
    await feed.say(context_of(domain, "/planner"))
    async with X509Source(feed) as source:

        def broken(_context):
            raise RuntimeError("mine alone")

        source.subscribe(broken)
        end = source.subscribe(lambda context: heard.append(context.svids[0].spiffe_id.path))
        await feed.say(context_of(domain, "/second"))
        end()
        await feed.say(context_of(domain, "/third"))
    assert heard == ["/second"]


async def test_a_closed_source_says_so(feed, domain):
    """Using a shield after its `async with` must not silently use its last identity."""
    await feed.say(context_of(domain, "/planner"))
    async with X509Source(feed) as source:
        tls = SpiffeContext.for_client(authorize=member_of("example.test"))
        source.keep_current(tls)
    with pytest.raises(SourceClosedError):
        _ = source.svid
    assert tls.svid is None
