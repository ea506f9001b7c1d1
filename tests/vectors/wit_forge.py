"""WIT-SVIDs and proofs made by another library, honest or not, for verifiers that must tell the difference.

joserfc makes keys, JWKs and signatures; nothing here calls the code that the tests judge.
"""

import base64
import hashlib
import json
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

PLANNER = "spiffe://example.test/agents/planner"
ALGORITHMS = [family + size for family in ("RS", "PS", "ES") for size in ("256", "384", "512")] + ["Ed25519"]


def new_key(curve: str = "P-256") -> Key:
    """A workload's key pair."""
    if curve == "RSA":
        return RSAKey.generate_key(2048)
    return OKPKey.generate_key("Ed25519") if curve == "Ed25519" else ECKey.generate_key(curve)


def public_jwk(key: Key, **members: Any) -> dict[str, Any]:
    """The public half as `cnf.jwk` has it; a member of value `...` is left out."""
    algorithm = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}.get(str(key.as_dict().get("crv")), "RS256")
    return _without_ellipsis({**key.as_dict(private=False), "alg": algorithm, "kid": ..., **members})


def signed(key: Key, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A JWT with exactly this header and payload, but for members of value `...`."""
    header, claims = _without_ellipsis(header), _without_ellipsis(claims)
    registry = jwt.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    return jwt.encode(header, claims, key, algorithms=ALGORITHMS, registry=registry)


class WitForge:
    """A trust domain's authority for WIT-SVIDs."""

    def __init__(self, at: datetime, *, kid: str = "wit-1", curve: str = "P-256") -> None:
        self.at = int(at.timestamp())
        self.kid = kid
        self.key = new_key(curve)

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key as an entry of a SPIFFE bundle."""
        entry = {**self.key.as_dict(private=False), "use": "wit-svid", "kid": self.kid}
        return _without_ellipsis({**entry, **members})

    def bundle(self, *others: dict[str, Any]) -> bytes:
        """The bundle document, with this key and `others`."""
        return json.dumps({"keys": [self.jwk(), *others]}).encode()

    def wit(
        self, holder: Key | None = None, *, header: dict[str, Any] | None = None, jwk: Any = None, **claims: Any
    ) -> str:
        """A WIT-SVID of the planner for the holder's key, honest but for what is given."""
        confirmation = {"jwk": public_jwk(holder or new_key()) if jwk is None else jwk}
        honest = {"sub": PLANNER, "iat": self.at, "exp": self.at + 3600, "cnf": confirmation}
        algorithm = {"P-256": "ES256", "P-384": "ES384"}.get(str(self.key.as_dict().get("crv")), "RS256")
        return signed(
            self.key, {"alg": algorithm, "typ": "wit+jwt", "kid": self.kid, **(header or {})}, honest | claims
        )

    def attestation_proof(
        self, holder: Key, audience: Any, *, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A Client Attestation PoP JWT (attestation-based-client-auth-11, 5.2)."""
        honest = {"aud": audience, "jti": "proof-1", "iat": self.at}
        members = {"alg": public_jwk(holder)["alg"], "typ": "oauth-client-attestation-pop+jwt"}
        return signed(holder, members | (header or {}), honest | claims)

    def workload_proof(
        self, holder: Key, wit: str, audience: Any, *, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A WPT (wpt-02)."""
        honest = {"aud": audience, "jti": "proof-1", "exp": self.at + 60, "wth": digest(wit)}
        return signed(holder, {"alg": public_jwk(holder)["alg"], "typ": "wpt+jwt", **(header or {})}, honest | claims)


def digest(text: str) -> str:
    """Base64url of SHA-256, as `wth`, `tth` and the entries of `oth` are."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _without_ellipsis(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ...}
