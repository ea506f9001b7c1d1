"""`tls_client_auth` from the registration to the token: RFC 8705, 2.1 and 5, through real handshakes."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agentshield.app.token_service import token_service
from agentshield.identity.jws import UnverifiedJws
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.oauth import registered_tls
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, Resource
from agentshield.sdk.key_file import load_svid

NAME = "planner.workloads.example.test"
AGENT = SpiffeId.of(TrustDomain("example.test"), "/agents/planner")


class Authority:
    """A company's own certificate authority, which has never heard of SPIFFE."""

    def __init__(self, name="Corporate CA"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.key.public_key(), self.name, is_authority=True)

    @property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def client(self, path, dns=NAME):
        """Write a client's certificate and key, and return its file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
        certificate = self._sign(key.public_key(), subject, dns=dns)
        file = path / f"{certificate.serial_number}.pem"  # not by id(key), which another key may have after it
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file

    def _sign(self, public_key, subject, *, dns=None, is_authority=False):
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if is_authority:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        else:
            names = x509.SubjectAlternativeName([x509.DNSName(dns)])
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def corporate():
    return Authority()


@pytest.fixture
async def door(authority, database, recorded, state, corporate, free_tcp_port, monkeypatch):
    """The token service with a second port, where the corporation's planner is registered."""
    monkeypatch.setattr(registered_tls, "LOOK_INTERVAL", 0.02)
    async with token_service(authority, database, recorded, state, mtls_port=free_tcp_port) as running:
        now = datetime.now(UTC)
        await running.store.resources.put(
            Resource(audience="api://b", scopes=frozenset({"read"}), created_at=now, created_by="ann")
        )
        registration = ClientRegistration(
            client_id="planner-at-corporate",
            spiffe_id=AGENT,
            methods=frozenset({ClientAuthMethod.TLS_CLIENT_AUTH}),
            tls_ca=corporate.der,
            tls_san_dns=NAME,
            created_at=now,
            created_by="ann",
        )
        await running.registrations.clients.create(registration, by="ann")
        await asyncio.sleep(0.3)  # until a new client is let in
        yield running


def trusting(state, file=None):
    tls = ssl.create_default_context(cafile=str(state.ca_file))
    if file is not None:
        tls.load_cert_chain(file)
    return tls


async def ask(url, tls, **form):
    values = {"grant_type": "client_credentials", "client_id": "planner-at-corporate", "resource": "api://b"}
    async with httpx2.AsyncClient(verify=tls) as client:
        return await client.post(url, data=values | {"scope": "read"} | form)


async def aliases(running, state):
    async with httpx2.AsyncClient(verify=trusting(state)) as client:
        answer = await client.get(running.settings.issuer + "/.well-known/oauth-authorization-server")
    return answer.json()


async def test_certificate_is_token(door, state, corporate, tmp_path):
    """At the alias that metadata names; bound to the certificate that was shown."""
    document = await aliases(door, state)
    assert "tls_client_auth" in document["token_endpoint_auth_methods_supported"]
    url = document["mtls_endpoint_aliases"]["token_endpoint"]
    assert url != document["token_endpoint"]
    answer = await ask(url, trusting(state, corporate.client(tmp_path)))
    assert answer.status_code == 200, answer.text
    claims = UnverifiedJws.parse(answer.json()["access_token"], types=frozenset({"at+jwt"})).unverified_claims()
    assert claims["sub"] == str(AGENT)
    assert set(claims["cnf"]) == {"x5t#S256"}
    assert claims["iss"] == document["issuer"]  # wherever it was asked for


async def test_refusals(door, state, corporate, tmp_path, recorded):
    """The handshake lets in whom a registered authority vouches for; who it is, the registration says."""
    url = (await aliases(door, state))["mtls_endpoint_aliases"]["token_endpoint"]
    for form, file in (
        ({}, corporate.client(tmp_path, dns="other.workloads.example.test")),
        ({"client_id": "somebody-else"}, corporate.client(tmp_path)),
    ):
        answer = await ask(url, trusting(state, file), **form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    with pytest.raises((httpx2.ReadError, httpx2.ConnectError, httpx2.RemoteProtocolError)):
        await ask(url, trusting(state, Authority().client(tmp_path)))  # an authority nobody registered, of one name
    with pytest.raises((httpx2.ReadError, httpx2.ConnectError, httpx2.RemoteProtocolError)):
        await ask(url, trusting(state))  # no certificate
    assert not recorded.named("token.issued")


async def test_deleted_client_gets_nothing_though_its_authority_is_in_the_context(door, state, corporate, tmp_path):
    """The registration decides at each request, not the handshake."""
    url = (await aliases(door, state))["mtls_endpoint_aliases"]["token_endpoint"]
    await door.registrations.clients.delete("planner-at-corporate", by="ann")
    answer = await ask(url, trusting(state, corporate.client(tmp_path)))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_svid_does_not_pass_for_a_registered_certificate(door, state, authority):
    """Our own authority is not among the registered ones: there is one door for each kind."""
    url = (await aliases(door, state))["mtls_endpoint_aliases"]["token_endpoint"]
    tls = trusting(state)
    load_svid(tls, await authority.server_svid())
    with pytest.raises((httpx2.ReadError, httpx2.ConnectError, httpx2.RemoteProtocolError)):
        await ask(url, tls)


async def test_without_a_second_port_it_is_not_promised(running, state):
    document = await aliases(running, state)
    assert "mtls_endpoint_aliases" not in document
    assert "tls_client_auth" not in document["token_endpoint_auth_methods_supported"]
