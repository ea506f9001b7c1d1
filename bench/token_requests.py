"""Token requests as clients make them: a fresh assertion and a fresh DPoP proof each, signed before the clock runs."""

import json
import uuid
from datetime import UTC, datetime
from urllib.parse import urlencode

from agentshield.identity.dpop import sign_dpop_proof
from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import generate_private_key

AUDIENCE = "api://agent-b"
SCOPE = "AI.Task.Execute"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
CLIENTS = 64


class Clients:
    """As many clients as there are connections, each with a key of its own for assertions and for proofs."""

    def __init__(self):
        self.keys = {f"client-{number}": generate_private_key() for number in range(CLIENTS)}

    def jwks(self):
        """The public keys by client."""
        return {name: jwk_of(key.public_key(), kid="c", alg="ES256") for name, key in self.keys.items()}

    def credentials(self, issuer, path="/oauth/token", *, count, **form):
        """`count` requests for client_credentials with private_key_jwt."""
        names, form = list(self.keys), {"grant_type": "client_credentials", **form}
        return [self._signed(issuer, path, names[n % CLIENTS], form) for n in range(count)]

    def _signed(self, issuer, path, name, form):
        now, key = datetime.now(UTC), self.keys[name]
        begin = int(now.timestamp())
        claims = {"iss": name, "sub": name, "aud": issuer, "iat": begin, "exp": begin + 120, "jti": uuid.uuid4().hex}
        assertion = sign_compact(claims, key, kid="c")
        form = {**form, "client_id": name, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return proof(key, issuer, now, path=path), urlencode(form)


def proof(key, issuer, now, *, path="/oauth/token"):
    """The header that binds the token to a key."""
    return {"DPoP": sign_dpop_proof(key, method="POST", url=issuer + path, at=now)}


def exchange(issuer, key, subject_token, *, client_id, subject_type=JWT):
    """One exchange by a client that the connection proves."""
    form = {
        "grant_type": EXCHANGE,
        "client_id": client_id,
        "audience": AUDIENCE,
        "scope": SCOPE,
        "subject_token": subject_token,
        "subject_token_type": subject_type,
    }
    return proof(key, issuer, datetime.now(UTC)), urlencode(form)


def granted(answers):
    """The tokens in a server's answers."""
    return [json.loads(answer)["access_token"] for answer in answers]
