"""The slips of the article that AgentShield was created from, one test each: the product refuses it, or does it right.

docs/explain/seed-samples.md shows the article's samples beside these.
"""

import importlib
import re
import ssl
from datetime import timedelta
from pathlib import Path

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agentshield.authority.settings import AuthoritySettings
from agentshield.errors import ConfigurationError
from agentshield.identity.bundle import BundleSet, JwtAuthority, TrustBundle
from agentshield.identity.errors import BadSignatureError, InvalidSvidError, PeerNotAllowedError, UntrustedSvidError
from agentshield.identity.issue import JwtIssuer
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.authorizers import member_of, only
from agentshield.sdk.http import async_client, sync_client
from agentshield.sdk.pdp import Pdp
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates, SpiffeContext, peer_of
from agentshield.testing.clock import FakeClock
from agentshield.testing.trust_domain import FakeTrustDomain

ROOT = Path(__file__).parents[2]
AGENT_A = "spiffe://nextriad.ai/agent-a"
AGENT_B = "spiffe://nextriad.ai/agent-b"


def pages():
    """What we tell readers: the README and the documentation."""
    return [path for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if path.is_file()]


def sources():
    """What we ship."""
    return [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.txt")]


def says(paths, pattern):
    """Name the files in which `pattern` stands; line breaks count as spaces."""
    return [path.name for path in paths if re.search(pattern, " ".join(path.read_text("utf-8").split()), re.IGNORECASE)]


def handshake(client, server, *, server_hostname=None):
    """Do TLS in memory; return both ends. Whoever refuses raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server, server_hostname=server_hostname)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client_end, server_end]
    for _ in range(20):
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            return client_end, server_end
    raise AssertionError("the handshake does not end")


@pytest.fixture
def domain():
    return FakeTrustDomain("nextriad.ai")


def client_of(domain, name="/agent-a", *, expect=AGENT_B, bundles=None):
    tls = SpiffeContext.for_client(authorize=only(expect))
    tls.update(domain.issue_svid(name), bundles or domain.bundles())
    return tls


def server_of(domain, name="/agent-b", *, bundles=None, certificates=ClientCertificates.REQUIRED):
    tls = SpiffeContext.for_server(client_certificates=certificates)
    tls.update(domain.issue_svid(name), bundles or domain.bundles())
    return tls


# --- the eleven of the standards sheet ---------------------------------------------------------------------------


def test_slip_01_a_draft_is_called_a_draft():
    """Whoever believes that a standard covers them stops asking; the draft is Informational and defines no protocol."""
    assert says(pages(), r"klrc[^.]{0,80}\bis (the|an?) (IETF )?(standard|specification)") == []
    assert says(pages(), r"draft-ietf-wimse-aims") != []
    assert says(sources(), r"draft-klrc-aiagent-auth") == []


def test_slip_02_one_hour_is_our_default_and_nobody_s_law(domain, forge, at):
    """Peers may issue for longer: it would be wrong to refuse them in a standard's name, or to do so ourselves."""
    settings = AuthoritySettings(trust_domain=TrustDomain.parse("nextriad.ai"))
    assert settings.x509_svid_ttl <= timedelta(hours=1)
    assert settings.jwt_svid_ttl <= timedelta(hours=1)
    leaf = forge.leaf("spiffe://example.org/agents/planner", not_after=at + timedelta(hours=24))
    bundle = TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json())
    assert verify_x509_svid([leaf], BundleSet.of(bundle), at=at).valid_until == at + timedelta(hours=24)


def test_slip_03_nist_asks_and_does_not_recommend():
    """An auditor who is told that NIST requires something will ask where."""
    assert says(pages(), r"NCCoE[^.|]{0,60}\b(requires|mandates|recommendation requires)") == []


def test_slip_04_no_service_principal_with_a_secret_is_made_for_an_agent():
    """`az ad sp create-for-rbac` prints a password; nothing of ours may tell anybody to run it."""
    assert says(sources(), r"create-for-rbac") == []
    assert set(says(pages(), r"create-for-rbac")) <= {"seed-samples.md"}


def test_slip_05_entra_gets_the_jwt_svid_as_an_assertion_with_its_issuer_and_one_audience(at):
    """Entra compares iss, sub and aud exactly, and takes one audience; a token that lacks one logs nobody in."""
    issuer = JwtIssuer(
        trust_domain=TrustDomain.parse("nextriad.ai"), key_id="k", private_key=generate_private_key(KeyType.RSA_2048)
    )
    svid = issuer.issue_jwt_svid(
        SpiffeId.parse(AGENT_A),
        ["api://AzureADTokenExchange"],
        issued_at=at,
        expires_at=at + timedelta(minutes=5),
        issuer="https://spire.nextriad.ai",
    )
    claims = pyjwt.decode(svid.token, options={"verify_signature": False})
    assert (claims["iss"], claims["sub"]) == ("https://spire.nextriad.ai", AGENT_A)
    assert claims["aud"] in ("api://AzureADTokenExchange", ["api://AzureADTokenExchange"])
    assert says(sources(), r"token-exchange.{0,80}AzureADTokenExchange") == []


def test_slip_06_an_rsa_authority_signs_rs256_for_those_who_take_nothing_else(at):
    """Microsoft tests RS256 issuers only; elsewhere ES256 stays the default."""
    domain = TrustDomain.parse("nextriad.ai")
    assert AuthoritySettings(trust_domain=domain).jwt_key_type is KeyType.EC_P256
    settings = AuthoritySettings(trust_domain=domain, jwt_key_type=KeyType.RSA_2048, jwt_issuer="https://a.test")
    key = generate_private_key(settings.jwt_key_type)
    issuer = JwtIssuer(trust_domain=domain, key_id="k", private_key=key)
    token = issuer.issue_jwt_svid(
        SpiffeId.parse(AGENT_A), ["a"], issued_at=at, expires_at=at + timedelta(minutes=5)
    ).token
    assert pyjwt.get_unverified_header(token)["alg"] == "RS256"
    bundle = TrustBundle(trust_domain=domain, jwt_authorities=(JwtAuthority(key_id="k", public_key=key.public_key()),))
    assert str(verify_jwt_svid(token, BundleSet.of(bundle), audience="a", at=at).spiffe_id) == AGENT_A


def test_slip_07_no_agent_card_of_the_article_s_own_shape():
    """A card that no A2A client can read declares a security that nobody applies."""
    assert says(sources(), r"""["']agentId["']|["']tokenEndpoint["']""") == []


def test_slip_08_no_client_secret_anywhere():
    """A secret in the environment is inherited by every child and printed by every crash report.

    The token service, and the administrator's two doors to it, alone know the word: for the client that can do no
    better yet, by name and with an end.
    """
    doors = {("admin", "clients.py"), ("cli", "client.py")}
    others = [path for path in sources() if "oauth" not in path.parts and path.parts[-2:] not in doors]
    assert says(others, r"client_secret") == []
    assert says(sources(), r"(environ|getenv)[^;]{0,80}secret") == []


@pytest.mark.parametrize(
    "lookalike",
    [
        "spiffe://nextriad.ai/agent-a-evil",
        "spiffe://nextriad.ai/agent-a/../admin",
        "spiffe://nextriad.ai/agent-a/child",
        "spiffe://nextriad.ai/Agent-a",
        "spiffe://nextriad.ai.evil.test/agent-a",
    ],
)
def test_slip_09_an_id_that_begins_alike_is_another(lookalike, at):
    """`startswith` lets every neighbour in; the whole ID counts."""
    name = "/" + lookalike.removeprefix("spiffe://").partition("/")[2]
    other = FakeTrustDomain(lookalike.removeprefix("spiffe://").partition("/")[0])
    clock = other.clock()
    if ".." in name:
        with pytest.raises(InvalidSvidError):
            verify_x509_svid(other.unsafe_svid_with_uris(lookalike).chain, other.bundles(), at=clock)
        return
    peer = verify_x509_svid(other.issue_svid(name).chain, other.bundles(), at=clock)
    with pytest.raises(PeerNotAllowedError) as caught:
        only(AGENT_A)(peer)
    assert AGENT_A in str(caught.value)
    if "evil.test" in lookalike:
        with pytest.raises(PeerNotAllowedError):
            member_of("nextriad.ai")(peer)


def test_slip_09_a_federated_authority_cannot_write_our_names(domain):
    """The text after a generic TLS check proves nothing: the chain must lead to that very domain's anchors."""
    partner = FakeTrustDomain("partner.test")
    forged = partner.unsafe_forged_svid(AGENT_A)
    with pytest.raises(UntrustedSvidError, match=r"nextriad\.ai"):
        verify_x509_svid(forged.chain, domain.bundles(partner), at=domain.clock())

    evil = SpiffeContext.for_client(authorize=only(AGENT_B))
    evil.update(forged, domain.bundles(partner))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(evil, server_of(domain, bundles=domain.bundles(partner)))
    assert isinstance(caught.value.__cause__, UntrustedSvidError)


def test_slip_10_a_client_context_checks_the_server(domain):
    """`Purpose.CLIENT_AUTH` makes a context that, as a client, would have believed anybody."""
    tls = client_of(domain)
    assert tls.protocol is ssl.PROTOCOL_TLS_CLIENT
    assert tls.verify_mode is ssl.CERT_REQUIRED
    handshake(tls, server_of(domain))

    with pytest.raises(ssl.SSLError):
        handshake(tls, server_of(FakeTrustDomain("nextriad.ai")))  # a rogue CA of the same name
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(tls, server_of(domain, "/agent-c"))
    assert isinstance(caught.value.__cause__, PeerNotAllowedError)


def test_slip_10_a_server_context_checks_the_client(domain):
    """Mutual means mutual: a client without an SVID, or with a stranger's, gets no answer."""
    nobody = SpiffeContext.for_client(authorize=only(AGENT_B))
    nobody.update(None, domain.bundles())
    with pytest.raises(ssl.SSLError):
        handshake(nobody, server_of(domain))
    stranger = client_of(FakeTrustDomain("nextriad.ai"), bundles=domain.bundles())
    with pytest.raises(ssl.SSLError):
        handshake(stranger, server_of(domain))


def test_slip_11_the_peer_s_name_is_read_from_its_certificate_and_verified(domain):
    """`getpeercert()` is for host names, and empty where it matters; the application gets a verified identity."""
    client_end, server_end = handshake(client_of(domain), server_of(domain))
    assert str(peer_of(server_end).spiffe_id) == AGENT_A
    assert str(peer_of(client_end).spiffe_id) == AGENT_B


def test_slip_11_no_certificate_means_no_identity(domain):
    """Where a client may be anonymous, anonymous must not look like anybody."""
    nobody = SpiffeContext.for_client(authorize=only(AGENT_B))
    nobody.update(None, domain.bundles())
    _, server_end = handshake(nobody, server_of(domain, certificates=ClientCertificates.OPTIONAL))
    assert peer_of(server_end) is None


# --- and those of the SPIRE sheet --------------------------------------------------------------------------------


def test_sample_the_names_it_should_have_imported_exist():
    """`spiffe.workload_api` has no client; a reader who starts with ours must find it where we say."""
    import spiffe

    import agentshield

    assert agentshield.Shield is Shield
    assert spiffe.WorkloadApiClient is not None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("spiffe.workload_api")


def test_sample_without_a_socket_says_which_variable_to_set():
    """`WorkloadApiClient()` alone fails with a traceback; the operator needs the name of the variable."""
    with pytest.raises(ConfigurationError) as caught:
        Shield.from_env({})
    assert "SPIFFE_ENDPOINT_SOCKET" in f"{caught.value} {caught.value.hint}"


def test_sample_an_svid_has_no_paths_and_hides_its_key(domain):
    """A key in a file outlives the process; who wants files asks for bytes and decides where they go."""
    svid = domain.issue_svid("/agent-a")
    assert isinstance(svid, X509Svid)
    for name in ("cert_chain_path", "private_key_path", "trust_bundle_path"):
        assert not hasattr(svid, name)
    assert svid.chain_pem().startswith(b"-----BEGIN CERTIFICATE-----")
    assert svid.key_pem().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE" not in repr(svid)


def test_sample_the_spiffe_id_is_checked_where_the_host_name_was(domain):
    """SVIDs have no DNS names: a host name check would refuse every agent, or be turned off with all the rest."""
    handshake(client_of(domain), server_of(domain), server_hostname="agent-b.nextriad.ai")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_of(domain), server_of(domain, "/agent-c"), server_hostname="agent-b.nextriad.ai")


@pytest.mark.parametrize("make", [async_client, sync_client])
@pytest.mark.parametrize("flavor", ["httpx", "httpx2"])
@pytest.mark.parametrize("option", ["cert", "verify", "transport", "proxy"])
def test_sample_nothing_takes_tls_out_of_our_hands(domain, make, flavor, option):
    """`verify=False`, or a certificate of one's own, would undo the check without a word."""
    with pytest.raises(TypeError, match=option):
        make(client_of(domain), flavor=flavor, clock=FakeClock(), **{option: False})


def test_sample_no_answer_is_no(domain):
    """`else: READ_ONLY` is a yes to every stranger; without a policy there is no right at all."""
    peer = verify_x509_svid(domain.issue_svid("/anybody").chain, domain.bundles(), at=domain.clock())
    decision = Pdp().decide(peer, "read", callee=SpiffeId.parse(AGENT_B), at=domain.clock())
    assert not decision.is_allowed
    with pytest.raises(TypeError):
        bool(decision)


def test_sample_one_ttl_without_a_parent_is_both_lifetimes():
    """The article's readers type `-ttl 3600` and no parent; it must mean what it meant."""
    from agentshield.app.cli.entry import create

    context = create.make_context(
        "create", ["-spiffeID", AGENT_A, "-selector", "k8s:ns:production", "-selector", "k8s:sa:a", "-ttl", "3600"]
    )
    assert context.params["ttl"] == timedelta(hours=1)
    assert context.params["parent_id"] is None


def test_sample_one_command_installs_an_authority():
    """The file that the article applies with kubectl does not exist; the command that we print must."""
    from agentshield.app.main import root

    assert root.get_command(root.make_context("agentshield", [], resilient_parsing=True), "up") is not None
    assert says([*pages(), *sources()], r"support/k8s/spire-server\.yaml") in ([], ["seed-samples.md"])


def test_sample_rsa_and_ec_keys_do_not_stand_in_for_each_other(at):
    """`algorithms=["RS256"]` beside a key of another kind verified nothing in some libraries."""
    domain = TrustDomain.parse("nextriad.ai")
    signer = JwtIssuer(trust_domain=domain, key_id="k", private_key=generate_private_key(KeyType.RSA_2048))
    token = signer.issue_jwt_svid(
        SpiffeId.parse(AGENT_A), ["a"], issued_at=at, expires_at=at + timedelta(minutes=5)
    ).token
    other = JwtAuthority(key_id="k", public_key=ec.generate_private_key(ec.SECP256R1()).public_key())
    bundle = TrustBundle(trust_domain=domain, jwt_authorities=(other,))
    with pytest.raises(BadSignatureError, match="RS256"):
        verify_jwt_svid(token, BundleSet.of(bundle), audience="a", at=at)
