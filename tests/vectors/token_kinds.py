"""One payload that every kind of JWT here would believe, so that nothing but its type, header and key keep them apart.

Whoever is issuer, subject, client, audience and trust domain at once is the worst neighbour a token can have.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from identity_forges import AT, TokenForge

from agentshield.identity.access_token import verify_access_token
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.client_assertion import verify_client_assertion
from agentshield.identity.dpop import verify_dpop_proof
from agentshield.identity.foreign_token import IssuerRule, verify_foreign_token
from agentshield.identity.id_jag import verify_id_jag
from agentshield.identity.jwk import KeySet
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.transaction_token import verify_transaction_token
from agentshield.identity.verify import verify_jwt_svid

SELF = "spiffe://example.org/agents/planner"
URL = "https://as.example.test/oauth/token"
ALGORITHMS = frozenset({"ES256"})
RULE = IssuerRule(issuer=SELF, algorithms=ALGORITHMS, audiences=frozenset({SELF}))


@dataclass(frozen=True)
class Kind:
    """A kind of token: its type, and how a token that claims to be one is believed by whoever trusts a forge's key."""

    name: str
    typ: str
    verify: Callable[[str, TokenForge], object]

    def header(self, forge: TokenForge, **members: object) -> dict[str, object]:
        """An honest header but for `members`."""
        key = {"kid": ..., "jwk": public_jwk(forge)} if self.typ == "dpop+jwt" else {}
        return forge.header(**{"typ": self.typ, **key, **members})

    def token(self, forge: TokenForge, **members: object) -> str:
        """An honest token but for `members` of its header."""
        return forge.token(claims(), header=self.header(forge, **members))


def claims(**members: object) -> dict[str, object]:
    """What satisfies every kind at once, but for `members`; a member of value `...` is left out."""
    now = int(AT.timestamp())
    honest = {"iss": SELF, "sub": SELF, "aud": SELF, "client_id": SELF, "jti": "j", "iat": now, "exp": now + 60}
    honest |= {"scope": "read", "txn": "t", "req_wl": SELF, "htm": "POST", "htu": URL} | members
    return {name: value for name, value in honest.items() if value is not ...}


def public_jwk(forge: TokenForge) -> dict[str, object]:
    """The forge's key as a header may show it."""
    return {name: value for name, value in forge.jwk().items() if name in ("kty", "crv", "x", "y", "n", "e")}


def keys_of(forge: TokenForge) -> KeySet:
    """The forge's key as an issuer publishes it."""
    return KeySet.from_jwks(json.dumps({"keys": [forge.jwk(use="sig")]}).encode(), algorithms=ALGORITHMS)


def _jwt_svid(token: str, forge: TokenForge) -> object:
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), json.dumps({"keys": [forge.jwk()]}).encode())
    return verify_jwt_svid(token, BundleSet.of(bundle), audience=SELF, at=AT)


ACCESS_TOKEN = Kind(
    "access-token",
    "at+jwt",
    lambda token, forge: verify_access_token(token, keys=keys_of(forge), issuer=SELF, audience=SELF, at=AT),
)
CLIENT_ASSERTION = Kind(
    "client-assertion",
    "client-authentication+jwt",
    lambda token, forge: verify_client_assertion(token, keys=keys_of(forge), client_id=SELF, audience=SELF, at=AT),
)
ID_JAG = Kind(
    "id-jag",
    "oauth-id-jag+jwt",
    lambda token, forge: verify_id_jag(token, keys=keys_of(forge), issuer=SELF, audience=SELF, client_id=SELF, at=AT),
)
TRANSACTION_TOKEN = Kind(
    "transaction-token",
    "txntoken+jwt",
    lambda token, forge: verify_transaction_token(token, keys=keys_of(forge), trust_domain=SELF, at=AT),
)
FOREIGN_TOKEN = Kind(
    "foreign-token", "JWT", lambda token, forge: verify_foreign_token(token, rule=RULE, keys=keys_of(forge), at=AT)
)
JWT_SVID = Kind("jwt-svid", "JWT", _jwt_svid)
DPOP_PROOF = Kind("dpop-proof", "dpop+jwt", lambda token, _: verify_dpop_proof(token, method="POST", url=URL, at=AT))

NAMED_KEY = [ACCESS_TOKEN, CLIENT_ASSERTION, ID_JAG, TRANSACTION_TOKEN, FOREIGN_TOKEN, JWT_SVID]
KINDS = [*NAMED_KEY, DPOP_PROOF]


def name_of(kind: object) -> str | None:
    """What pytest calls a case."""
    return kind.name if isinstance(kind, Kind) else None
