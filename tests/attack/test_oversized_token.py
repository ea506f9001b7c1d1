"""The attacker makes the verifier work before it can know who asks: huge tokens, deep JSON, endless lists."""

import time

import pytest

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_jwt_svid


@pytest.fixture
def present(forge, tokens, at):
    """Show a token to a service of example.org called `analyst`."""
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json(tokens)))
    return lambda token: verify_jwt_svid(token, bundles, audience="analyst", at=at)


@pytest.mark.parametrize("shape", ["payload", "signature", "header", "dots", "letters"])
def test_a_megabyte_of_token_is_refused_at_once(present, tokens, shape):
    """A kilobyte of work for a megabyte of nonsense, or a single peer can fill a core."""
    header, payload, signature = tokens.token().split(".")
    big = "A" * 2**20
    token = {
        "payload": f"{header}.{big}.{signature}",
        "signature": f"{header}.{payload}.{big}",
        "header": f"{big}.{payload}.{signature}",
        "dots": "." * 2**20,
        "letters": big,
    }[shape]
    begin = time.perf_counter()
    with pytest.raises(InvalidTokenError) as caught:
        present(token)
    assert time.perf_counter() - begin < 0.1
    assert len(str(caught.value)) < 200


def test_deep_json_is_refused_without_a_crash(present, tokens):
    """Recursion that ends the process ends it for everybody."""
    for deep in (b"[" * 5000, b'{"a":' * 1500):
        with pytest.raises(InvalidTokenError):
            present(tokens.token(b'{"sub":"spiffe://example.org/a","x":' + deep))


def test_a_thousand_audiences_are_refused(present, tokens):
    """A token for everybody is a token that everybody can replay."""
    with pytest.raises(InvalidSvidError, match="at most"):
        present(tokens.token(tokens.claims(aud=["analyst", *(f"a{n}" for n in range(1000))])))
