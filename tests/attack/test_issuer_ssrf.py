"""Whoever may register an issuer, or owns one that is registered, tries to have us fetch from inside our network."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from oauth_world import IDP, OAuthWorld

from agentshield.oauth.issuers.errors import KeysUnavailableError
from agentshield.oauth.issuers.fetch import Document, IssuerFetch
from agentshield.oauth.issuers.key_source import KeySource
from agentshield.sdk.egress import ForbiddenAddressError


@pytest.fixture
def world() -> OAuthWorld:
    return OAuthWorld()


@pytest.fixture
async def inside():
    """A service on loopback that answers whoever is inside; `knocks` counts who came."""
    knocks: list[None] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(None)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], knocks


def leading_to(*addresses: str):
    asked = []

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return addresses if len(asked) == 1 else ("127.0.0.1",)

    return resolve


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("10.0.0.5",),
        ("169.254.169.254",),
        ("fd00:ec2::254",),
        ("100.100.100.200",),
        ("192.0.0.192",),
        ("168.63.129.16",),
        ("64:ff9b::7f00:1",),
        ("2002:7f00:1::",),
        ("224.0.0.1",),
        ("0.0.0.0",),
        ("8.8.8.8", "127.0.0.1"),
    ],
)
async def test_a_public_name_that_leads_inside_is_refused(world, inside, addresses):
    """DNS is the attacker's to write. One inside address among public ones is rebinding, so all are refused."""
    port, knocks = inside
    fetch = IssuerFetch(world.settings, resolve=leading_to(*addresses))
    with pytest.raises(ForbiddenAddressError):
        await fetch.get(f"https://idp.example.test:{port}/keys")
    assert knocks == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_no_spelling_of_loopback_gets_through(world, inside, host):
    """Resolvers read numbers generously; we do not let them."""
    port, knocks = inside
    with pytest.raises(ForbiddenAddressError):
        await IssuerFetch(world.settings).get(f"https://{host}:{port}/keys")
    assert knocks == []


async def test_the_name_is_not_resolved_a_second_time(world, inside):
    """Rebinding: public when it is checked, loopback when it is connected to."""
    port, knocks = inside
    resolve = leading_to("192.0.2.1")  # for documentation, so refused; the second answer would be loopback
    with pytest.raises(ForbiddenAddressError):
        await IssuerFetch(world.settings, resolve=resolve).get(f"https://idp.example.test:{port}/keys")
    assert knocks == []


@pytest.mark.parametrize(
    "jwks_uri", ["http://127.0.0.1/keys", "https://localhost/keys", "file:///etc/passwd", "https://169.254.169.254/"]
)
async def test_a_discovery_document_cannot_send_us_inside(world, jwks_uri):
    """The document is the issuer's to write: the address it names is checked as any other."""
    real = IssuerFetch(world.settings)

    class Discovery:
        async def get(self, url: str, *, ca_pem: bytes | None = None) -> Document:
            if url.startswith(IDP):
                return Document(body=json.dumps({"issuer": IDP, "jwks_uri": jwks_uri}).encode())
            return await real.get(url, ca_pem=ca_pem)

    with pytest.raises(KeysUnavailableError, match="will not connect"):
        await KeySource(Discovery()).keys_for(world.issuer(jwks=None), kid="i1", alg="ES256", at=world.clock())


async def test_an_issuer_with_such_an_address_is_not_even_registered(world):
    """The mistake is shown to whoever makes it."""
    for url in ("https://user@idp.example.test/", "https://0x7f.1/", "http://idp.example.test/"):
        with pytest.raises(ForbiddenAddressError):
            await world.registrations.issuers.create(world.issuer(jwks=None, jwks_url=url), by="eve")
