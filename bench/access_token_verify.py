"""What a resource server pays for one access token, beside the bare ES256 verification that nobody can do without.

The peers get the same token, the same key object, and check the same claims: issuer, audience, times.
"""

from datetime import UTC, datetime, timedelta

import joserfc.jwt
import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey

from agentshield.identity.access_token import (
    AccessTokenClaims,
    Confirmation,
    sign_access_token,
    verify_access_token,
    verify_confirmation,
)
from agentshield.identity.dpop import sign_dpop_proof, verify_dpop_proof
from agentshield.identity.jwk import KeySet, thumbprint
from agentshield.identity.jws import decode_base64url
from agentshield.identity.keys import generate_private_key
from bench.timing import microseconds

ISSUER = "https://localhost:8440"
AUDIENCE = "api://agent-b"
URL = "https://agent-b.example.test/api/v1/task"
ECDSA = ec.ECDSA(hashes.SHA256())


class World:
    """One token, bound to a key, with a proof of that key; and its signature by itself."""

    def __init__(self):
        self.now = datetime.now(UTC)
        self.key, holder = generate_private_key(), generate_private_key()
        self.keys = KeySet.of(self.key.public_key())
        self.token = sign_access_token(claims(self.now, holder), self.key, kid=thumbprint(self.key.public_key()))
        self.proof = sign_dpop_proof(holder, method="POST", url=URL, at=self.now, access_token=self.token)
        signed, _, signature = self.token.rpartition(".")
        raw = decode_base64url(signature.encode(), what="signature")
        self.der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        self.signed = signed.encode()
        self.public = self.key.public_key()
        self.joserfc_key = ECKey.import_key(self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.registry = joserfc.jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
        )

    def bare(self):
        self.public.verify(self.der, self.signed, ECDSA)

    def ours(self):
        return verify_access_token(self.token, keys=self.keys, issuer=ISSUER, audience=AUDIENCE, at=self.now)

    def pyjwt(self):
        jwt.decode(self.token, self.public, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)

    def joserfc(self):
        self.registry.validate(joserfc.jwt.decode(self.token, self.joserfc_key, algorithms=["ES256"]).claims)

    def bound(self, token):
        proof = verify_dpop_proof(self.proof, method="POST", url=URL, at=self.now, access_token=self.token)
        verify_confirmation(token, dpop=proof, certificate_der=None)


def claims(now, holder):
    """What a token of an exchange holds."""
    return AccessTokenClaims(
        issuer=ISSUER,
        subject="spiffe://example.test/agents/planner",
        audience=AUDIENCE,
        client_id="spiffe://example.test/agents/planner",
        scopes=frozenset({"AI.Task.Execute"}),
        issued_at=now,
        expires_at=now + timedelta(minutes=5),
        jti="019abc-example",
        confirmation=Confirmation(jkt=thumbprint(holder.public_key())),
    )


def run():
    """Rows for a token never seen, and for a proof beside a token that was."""
    world = World()
    seen = world.ours()
    us = microseconds(
        {
            "bare": world.bare,
            "ours": world.ours,
            "pyjwt": world.pyjwt,
            "joserfc": world.joserfc,
            "proof": lambda: world.bound(seen),
        },
        rounds=15,
    )
    return [
        row("access token verified", us["ours"], "us", None),
        row("bare verify / access token verified", us["bare"] / us["ours"], "", ">= 0.88"),
        row("PyJWT / access token verified", us["pyjwt"] / us["ours"], "x", ">= 1.7 x"),
        row("joserfc / access token verified", us["joserfc"] / us["ours"], "x", ">= 1.4 x"),
        row("DPoP proof verified, token known", us["proof"], "us", None),
        row("bare verify / DPoP proof verified", us["bare"] / us["proof"], "", ">= 0.90"),
    ]


def row(name, value, unit, goal):
    return {"name": name, "value": value, "unit": unit, "goal": goal, "bound_by": "one ES256 verification"}


if __name__ == "__main__":
    for each in run():
        print(f"{each['name']:<45} {each['value']:>8.2f} {each['unit']:<3} {each['goal'] or ''}")
