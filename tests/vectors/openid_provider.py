"""An identity provider of the tests' own: real HTTPS on loopback, strict about its client, false where a test wants."""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import trustme

from agentshield.clock import Clock
from agentshield.identity.client_assertion import verify_client_assertion
from agentshield.identity.jwk import KeySet, jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.oauth.authorize.browser import challenge_of

OUR_CLIENT_ID = "agentshield-there"


@dataclass
class OpenIdProvider:
    """`claims` changes what its ID tokens say (None: left out); `refusal` is what it answers instead of a code."""

    clock: Clock
    client_keys: Callable[[], KeySet]
    url: str = ""
    client_id: str = OUR_CLIENT_ID
    ca_pem: bytes = b""
    key: PrivateKey = field(default_factory=generate_private_key)
    claims: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None
    sends_issuer: bool = True
    answers_with_id_token: bool = True
    is_client_public: bool = False
    discovery: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    redeemed: list[dict[str, str]] = field(default_factory=list)

    def signed_in(self, location: str, **answer: str | None) -> dict[str, str]:
        """The human signs in at the page that `location` is; return what their browser brings back."""
        assert location.startswith(self.url + "/authorize?"), location
        asked = {name: value for name, (value,) in parse_qs(urlsplit(location).query).items()}
        assert (asked["response_type"], asked["client_id"]) == ("code", self.client_id)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        told: dict[str, str | None] = {"error": self.refusal} if self.refusal else {"code": code}
        told |= {"state": asked["state"], "iss": self.url if self.sends_issuer else None}
        return {name: value for name, value in (told | answer).items() if value is not None}

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(self.clock().timestamp())
        claims = {
            "iss": self.url,
            "sub": "ann",
            "name": "Ann Smith",
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "auth_time": now - 60,
            "acr": "mfa",
            "nonce": asked["nonce"],
        } | self.claims
        return sign_compact({k: v for k, v in claims.items() if v is not None}, self.key, kid="op", typ="JWT")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
            body = (await reader.readexactly(length)).decode()
            path = lines[0].split(" ")[1].removeprefix(urlsplit(self.url).path)
            status, members = self._answer(path, body)
            content = json.dumps(members).encode()
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode())
            writer.write(content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client thought better of it
        finally:
            writer.close()

    def _answer(self, path: str, body: str) -> tuple[str, dict[str, Any]]:
        if path == "/.well-known/openid-configuration":
            return "200 OK", {
                "issuer": self.url,
                "authorization_endpoint": self.url + "/authorize",
                "token_endpoint": self.url + "/token",
                "jwks_uri": self.url + "/keys",
                "authorization_response_iss_parameter_supported": self.sends_issuer,
            } | self.discovery
        if path == "/keys":
            return "200 OK", {"keys": [jwk_of(self.key.public_key(), kid="op")]}
        if path == "/token":
            return self._token({name: value for name, (value,) in parse_qs(body).items()})
        return "404 Not Found", {}

    def _token(self, form: dict[str, str]) -> tuple[str, dict[str, Any]]:
        self.redeemed.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        is_client = form.get("client_id") == self.client_id and (self.is_client_public or self._is_proven(form))
        if (
            asked is None
            or not is_client
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge_of(form["code_verifier"]) != asked["code_challenge"]
        ):
            return "400 Bad Request", {"error": "invalid_grant"}
        answer = {"access_token": "theirs", "token_type": "Bearer"}
        return "200 OK", answer | ({"id_token": self.id_token(asked)} if self.answers_with_id_token else {})

    def _is_proven(self, form: dict[str, str]) -> bool:
        verify_client_assertion(
            form["client_assertion"],
            keys=self.client_keys(),
            client_id=self.client_id,
            audience=self.url,
            at=self.clock(),
        )
        return True


@asynccontextmanager
async def running_provider(clock: Clock, client_keys: Callable[[], KeySet]) -> AsyncIterator[OpenIdProvider]:
    """Serve one on a free port."""
    ca, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(tls)
    provider = OpenIdProvider(clock=clock, client_keys=client_keys, ca_pem=ca.cert_pem.bytes())
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=tls)
    provider.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield provider


def with_query(path: str, told: dict[str, str]) -> str:
    return path + "?" + urlencode(told)
