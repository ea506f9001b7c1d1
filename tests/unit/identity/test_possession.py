"""Proofs that a WIT's holder has its key: to an authorization server, and to another workload."""

from datetime import UTC, datetime, timedelta

import pytest
from wit_forge import PLANNER, WitForge, digest, new_key

from agentshield.errors import AuthenticationError
from agentshield.identity.attestation_proof import (
    InvalidAttestationProofError,
    VerifiedAttestationProof,
    sign_attestation_proof,
    verify_attestation_proof,
)
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.identity.workload_proof import (
    InvalidWorkloadProofError,
    VerifiedWorkloadProof,
    sign_workload_proof,
    verify_workload_proof,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SERVER = "https://as.example.test"
ANALYST = "https://analyst.example.test/tasks"
FORGE = WitForge(NOW)
HOLDER = new_key()
WIT = FORGE.wit(HOLDER)
BUNDLES = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.test"), FORGE.bundle()))


def proved(proof, *, wit=WIT, at=NOW):
    """Verify a proof for the authorization server as its client authentication does."""
    confirmation = verify_wit_svid(wit, BUNDLES, at=NOW).confirmation
    return verify_attestation_proof(
        proof,
        key=confirmation.public_key,
        algorithms=frozenset({confirmation.algorithm}),
        audience=SERVER,
        client=PLANNER,
        at=at,
    )


def received(proof, *, wit=WIT, at=NOW, **context):
    """Verify a WPT as the analyst does."""
    return verify_workload_proof(proof, verify_wit_svid(wit, BUNDLES, at=NOW), audience=ANALYST, at=at, **context)


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521", "RSA"])
def test_a_proof_by_the_wit_s_key_holds_for_a_minute(curve):
    """By whatever key the WIT names, made by another library."""
    holder = new_key(curve)
    proof = proved(FORGE.attestation_proof(holder, SERVER), wit=FORGE.wit(holder))
    assert (proof.jti, proof.expires_at) == ("proof-1", NOW + timedelta(seconds=60))


def test_our_own_proofs_hold():
    """Ours is signed without a kid: the WIT says which key."""
    made = [sign_attestation_proof(HOLDER.private_key, client=PLANNER, audience=SERVER, at=NOW) for _ in range(2)]
    assert len({proved(proof).jti for proof in made}) == 2
    wpt = sign_workload_proof(HOLDER.private_key, wit=WIT, audience=ANALYST, at=NOW)
    assert str(received(wpt).spiffe_id) == PLANNER


def test_a_proof_may_say_whose_it_is():
    """The draft's example does; a proof of another's makes no sense beside this WIT."""
    assert proved(FORGE.attestation_proof(HOLDER, SERVER, iss=PLANNER))
    for other in ("spiffe://example.test/agents/billing", "", None, [PLANNER]):
        with pytest.raises(InvalidAttestationProofError):
            proved(FORGE.attestation_proof(HOLDER, SERVER, iss=other))


@pytest.mark.parametrize(
    "audience", [SERVER + "/oauth/token", SERVER + "/", [SERVER, "https://b.test"], "https://b.test"]
)
def test_a_proof_is_for_one_server(audience):
    """A hostile server could use here what was made for it."""
    with pytest.raises(WrongAudienceError):
        proved(FORGE.attestation_proof(HOLDER, audience))


@pytest.mark.parametrize("changes", [{"iat": ...}, {"jti": ...}, {"jti": ""}, {"jti": 1}, {"iat": "now"}, {"exp": "x"}])
def test_a_proof_without_its_claims_is_none(changes):
    """Without a jti it is good twice, without an iat for ever."""
    with pytest.raises(InvalidTokenError):
        proved(FORGE.attestation_proof(HOLDER, SERVER, **changes))


@pytest.mark.parametrize(
    "changes", [{"iat": SECONDS - 60}, {"iat": SECONDS + 31}, {"exp": SECONDS}, {"nbf": SECONDS + 31}, {"iat": 1}]
)
def test_a_proof_is_made_now(changes):
    """Later it is a thief's, earlier it was made in store."""
    with pytest.raises(InvalidAttestationProofError):
        proved(FORGE.attestation_proof(HOLDER, SERVER, **changes))


def test_a_proof_by_another_key_or_algorithm_is_refused():
    """WIT-11: under exactly the algorithm that the WIT names."""
    with pytest.raises(BadSignatureError):
        proved(FORGE.attestation_proof(new_key(), SERVER))
    rsa = new_key("RSA")
    with pytest.raises(BadSignatureError, match="PS256"):
        proved(FORGE.attestation_proof(rsa, SERVER, header={"alg": "PS256"}), wit=FORGE.wit(rsa))
    with pytest.raises(BadSignatureError):
        received(FORGE.workload_proof(new_key(), WIT, ANALYST))
    wit = FORGE.wit(rsa)
    with pytest.raises(BadSignatureError, match="PS256"):
        received(FORGE.workload_proof(rsa, wit, ANALYST, header={"alg": "PS256"}), wit=wit)


def test_the_two_proofs_are_not_each_other():
    """One is for the authorization server, the other for a peer: neither may use the other's."""
    with pytest.raises(InvalidTokenError, match="type"):
        proved(FORGE.workload_proof(HOLDER, WIT, SERVER, iat=SECONDS))
    with pytest.raises(InvalidTokenError, match="type"):
        received(FORGE.attestation_proof(HOLDER, ANALYST, exp=SECONDS + 60, wth=digest(WIT)))


def test_wpp_a_workload_proof_tells_who_sends():
    """WPP-01 to 09: by another library, for a minute, with a jti to remember."""
    proof = received(FORGE.workload_proof(HOLDER, WIT, ANALYST))
    assert (str(proof.spiffe_id), proof.jti, proof.covered) == (PLANNER, "proof-1", frozenset())
    assert proof.expires_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize("aud", ["https://analyst.example.test", ANALYST + "?q", [ANALYST, "https://b.test"]])
def test_wpp_06_a_proof_for_another_address_is_refused(aud):
    """By our own name, from configuration."""
    with pytest.raises(WrongAudienceError):
        received(FORGE.workload_proof(HOLDER, WIT, aud))


@pytest.mark.parametrize("changes", [{"exp": SECONDS}, {"exp": SECONDS + 331}, {"nbf": SECONDS + 60}])
def test_wpp_07_a_proof_is_good_for_minutes(changes):
    """One that is good for a day is a credential."""
    with pytest.raises(InvalidWorkloadProofError):
        received(FORGE.workload_proof(HOLDER, WIT, ANALYST, **changes))
    with pytest.raises(InvalidTokenError):
        received(FORGE.workload_proof(HOLDER, WIT, ANALYST, exp=...))


def test_wpp_07_a_fresh_proof_does_not_outlive_its_wit():
    """The WIT was verified when the connection began; the proof came an hour later."""
    late = SECONDS + 3600
    with pytest.raises(InvalidWorkloadProofError, match="WIT"):
        received(FORGE.workload_proof(HOLDER, WIT, ANALYST, exp=late + 60), at=NOW + timedelta(hours=1))


def test_wpp_08_a_proof_is_for_one_wit():
    """Of two WITs with one key, the proof says which."""
    for wth in (..., None, "", digest(FORGE.wit(HOLDER, jti="another"))):
        with pytest.raises(InvalidWorkloadProofError, match="wth"):
            received(FORGE.workload_proof(HOLDER, WIT, ANALYST, wth=wth))


def test_wpp_09_a_proof_has_a_name():
    """Without one it cannot be used up."""
    with pytest.raises(InvalidTokenError, match="jti"):
        received(FORGE.workload_proof(HOLDER, WIT, ANALYST, jti=...))


def test_wpp_10_a_transaction_token_is_covered_or_refused():
    """A Txn-Token that was put beside a proof is somebody else's transaction."""
    covering = sign_workload_proof(HOLDER.private_key, wit=WIT, audience=ANALYST, at=NOW, transaction_token="txn")
    assert received(covering, transaction_token="txn").covered == {"txn-token"}
    bare = FORGE.workload_proof(HOLDER, WIT, ANALYST)
    for proof, token in ((covering, "other"), (covering, None), (bare, "txn")):
        with pytest.raises(InvalidWorkloadProofError, match="tth"):
            received(proof, transaction_token=token)


def test_wpp_11_every_other_token_is_checked_or_the_proof_is_refused():
    """An entry that we do not understand may be the one that matters."""
    made = sign_workload_proof(HOLDER.private_key, wit=WIT, audience=ANALYST, at=NOW, others={"Tenant": " a "})
    assert received(made, others={"tenant": "a"}).covered == {"tenant"}
    for context in ({}, {"tenant": "b"}, {"tenant": ""}, {"tenant": "\xe4"}, {"other": "a"}):
        with pytest.raises(InvalidWorkloadProofError, match="oth"):
            received(made, others=context)
    with pytest.raises(InvalidWorkloadProofError, match="oth"):
        received(FORGE.workload_proof(HOLDER, WIT, ANALYST, oth=["tenant"]))


def test_proofs_are_made_by_verification_alone():
    """A value that says "proved" is proof that it was."""
    with pytest.raises(TypeError):
        VerifiedAttestationProof(jti="j", issued_at=NOW, expires_at=NOW)
    with pytest.raises(TypeError):
        VerifiedWorkloadProof(spiffe_id=received_id(), jti="j", expires_at=NOW, covered=frozenset())


def received_id():
    return received(FORGE.workload_proof(HOLDER, WIT, ANALYST)).spiffe_id


@pytest.mark.parametrize("kind", [proved, received])
def test_text_that_is_no_proof_is_refused(kind):
    """Whatever a header field holds."""
    for text in ("", "x", "a.b.c", "é", WIT):
        with pytest.raises((InvalidTokenError, AuthenticationError)):
            kind(text)
