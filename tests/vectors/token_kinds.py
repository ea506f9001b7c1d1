"""One payload that every kind of JWT here would believe, so that nothing but its type, header and key keep them apart.

Whoever is issuer, subject, client, audience and trust domain at once is the worst neighbour a token can have.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from identity_forges import AT, TokenForge

from agentshield.identity.access_token import verify_access_token
from agentshield.identity.attestation_proof import verify_attestation_proof
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.client_assertion import verify_client_assertion
from agentshield.identity.dpop import verify_dpop_proof
from agentshield.identity.foreign_token import IssuerRule, verify_foreign_token
from agentshield.identity.id_jag import verify_id_jag
from agentshield.identity.jwk import KeySet
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.transaction_token import verify_transaction_token
from agentshield.identity.verify import verify_jwt_svid
from agentshield.identity.wit_svid import token_hash, verify_wit_svid
from agentshield.identity.workload_proof import verify_workload_proof

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
    members: Callable[[TokenForge], dict[str, object]] = lambda _: {}  # of its payload, where it differs

    def header(self, forge: TokenForge, **members: object) -> dict[str, object]:
        """An honest header but for `members`."""
        key = {"kid": ..., "jwk": public_jwk(forge)} if self.typ == "dpop+jwt" else {}
        return forge.header(**{"typ": self.typ, **key, **members})

    def token(self, forge: TokenForge, **members: object) -> str:
        """An honest token but for `members` of its header."""
        return forge.token(self.payload(forge), header=self.header(forge, **members))

    def payload(self, forge: TokenForge) -> dict[str, object]:
        """What satisfies every kind, but for the members that keep this kind from being anybody else's."""
        return claims(**self.members(forge))


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


def _wit_members(forge: TokenForge) -> dict[str, object]:
    """A WIT is for nobody in particular, and names a key."""
    return {"aud": ..., "cnf": {"jwk": public_jwk(forge) | {"alg": "ES256"}}}


def _wit_svid(token: str, forge: TokenForge) -> object:
    bundle = {"keys": [forge.jwk(use="wit-svid")]}
    trusted = TrustBundle.from_json(TrustDomain.parse("example.org"), json.dumps(bundle).encode())
    return verify_wit_svid(token, BundleSet.of(trusted), at=AT)


def _wit_of(forge: TokenForge) -> str:
    """The WIT that the forge's workload proofs go with: one for each forge, whatever it signs anew."""
    key = (forge.kid, str(public_jwk(forge)))
    return _WITS.setdefault(key, WIT_SVID.token(forge))


def _workload_proof(token: str, forge: TokenForge) -> object:
    return verify_workload_proof(token, _wit_svid(_wit_of(forge), forge), audience=SELF, at=AT)


def _attestation_proof(token: str, forge: TokenForge) -> object:
    key = keys_of(forge).keys[0].public_key
    return verify_attestation_proof(token, key=key, algorithms=ALGORITHMS, audience=SELF, client=SELF, at=AT)


_WITS: dict[tuple[str, str], str] = {}
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
WIT_SVID = Kind("wit-svid", "wit+jwt", _wit_svid, _wit_members)
DPOP_PROOF = Kind("dpop-proof", "dpop+jwt", lambda token, _: verify_dpop_proof(token, method="POST", url=URL, at=AT))

ATTESTATION_PROOF = Kind("attestation-proof", "oauth-client-attestation-pop+jwt", _attestation_proof)
WORKLOAD_PROOF = Kind(
    "workload-proof", "wpt+jwt", _workload_proof, lambda forge: {"wth": token_hash(_wit_of(forge)), "txn": ...}
)

NAMED_KEY = [ACCESS_TOKEN, CLIENT_ASSERTION, ID_JAG, TRANSACTION_TOKEN, FOREIGN_TOKEN, JWT_SVID, WIT_SVID]
KINDS = [*NAMED_KEY, DPOP_PROOF, ATTESTATION_PROOF, WORKLOAD_PROOF]


def name_of(kind: object) -> str | None:
    """What pytest calls a case."""
    return kind.name if isinstance(kind, Kind) else None
