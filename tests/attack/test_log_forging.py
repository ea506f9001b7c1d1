"""The attacker puts line breaks, escape codes or a novel into a name, hoping to write our log for us."""

import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid

POISONS = [
    "a\n2026-11-23 ALLOW admin",
    "a\r\nb",
    "\x1b[2J\x1b[31m",
    "\u202eevil",
    "a\0b",
    "\u2028",
    "\ud800",
    "x" * 10_000,
]


def assert_harmless(error):
    text = f"{error} {getattr(error, 'hint', None)}"
    assert text.isprintable(), repr(text)
    assert len(text) < 700
    text.encode()  # a lone surrogate would stop the log itself


@pytest.mark.parametrize("poison", POISONS, ids=range(len(POISONS)))
def test_names_in_refusals_are_harmless(poison):
    """A log line that an attacker wrote sends the operator after the wrong agent."""
    for text in (poison, f"spiffe://{poison}/a", f"spiffe://example.org/{poison}"):
        with pytest.raises(AgentShieldError) as caught:
            SpiffeId.parse(text)
        assert_harmless(caught.value)


@pytest.mark.parametrize("poison", POISONS, ids=range(len(POISONS)))
@pytest.mark.parametrize("member", ["sub", "aud", "kid", "typ", "alg", "header"])
def test_members_of_refused_tokens_are_harmless(forge, tokens, at, poison, member):
    """A workload chooses its audience, a stranger everything."""
    header, claims = tokens.header(), tokens.claims()
    match member:
        case "sub" | "aud":
            claims[member] = poison
        case "header":
            header[poison] = poison
        case _:
            header[member] = poison
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json(tokens)))
    with pytest.raises(AgentShieldError) as caught:
        verify_jwt_svid(tokens.token(claims, header=header), bundles, audience="analyst", at=at)
    assert_harmless(caught.value)


@pytest.mark.parametrize("poison", [each for each in POISONS if each.isascii()], ids=lambda each: f"{len(each)}")
def test_names_in_refused_certificates_are_harmless(forge, at, poison):
    """The peer of a failed handshake has proved nothing, and its name goes into the log all the same."""
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json()))
    with pytest.raises(AgentShieldError) as caught:
        verify_x509_svid([forge.leaf(f"spiffe://example.org/{poison}")], bundles, at=at)
    assert_harmless(caught.value)
