"""The vectors that we publish for other verifiers, held against our own first."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid

VECTORS = Path(__file__).parents[2] / "vectors"
TOKENS = json.loads((VECTORS / "jwt_svid/tokens.json").read_text())
CHAINS = json.loads((VECTORS / "x509_svid/chains.json").read_text())


def each(document):
    cases = document["cases"]
    return pytest.mark.parametrize("case", cases, ids=[case["name"].replace(" ", "-") for case in cases])


def outcome(verify):
    try:
        verify()
    except AgentShieldError:
        return "refuse"
    return "accept"


@each(TOKENS)
def test_token(case):
    """A verifier that disagrees with the file trusts a forger, or turns an honest agent away."""
    bundle = TrustBundle.from_json(TrustDomain.parse(TOKENS["trust_domain"]), json.dumps(TOKENS["bundle"]).encode())
    at = datetime.fromtimestamp(TOKENS["at"], UTC)
    told = outcome(lambda: verify_jwt_svid(case["token"], BundleSet.of(bundle), audience=TOKENS["audience"], at=at))
    assert told == case["outcome"], case["rule"]


@each(CHAINS)
def test_chain(case):
    """As with tokens."""
    bundles = BundleSet.from_json(json.dumps(CHAINS["bundles"]).encode())
    chain = [base64.b64decode(certificate) for certificate in case["chain"]]
    told = outcome(lambda: verify_x509_svid(chain, bundles, at=datetime.fromtimestamp(CHAINS["at"], UTC)))
    assert told == case["outcome"], case["rule"]
