"""Believing a card: by keys that were enrolled, for the places they were enrolled for, all of it or not at all."""

import base64
import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from agent_cards import AGENT, AT, BINDING, ORIGIN, Publisher, whole_card

from agentshield.errors import AgentShieldError
from agentshield.identity.agent_card import errors
from agentshield.identity.agent_card.canonical import canonical_bytes, sdk_form
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.jose import CardSigner, sign_payload
from agentshield.identity.agent_card.signature import Coverage, EnrolledKeys, VerifiedCard, sign_card, verify_card
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.testing.trust_domain import FakeTrustDomain


@pytest.fixture
def publisher():
    return Publisher()


def verified(members, keys, at=AT, bundles=None) -> VerifiedCard:
    return verify_card(AgentCard.parse(json.dumps(members).encode()), keys=keys, bundles=bundles, at=at)


def chain_of(svid):
    return tuple(each.public_bytes(Encoding.DER) for each in svid.chain)


def by_sdk(publisher, members):
    """Sign as the SDKs do: over what is not empty."""
    payload = canonical_bytes(sdk_form(AgentCard.of(members).members))
    return members | {"signatures": [sign_payload(payload, publisher.signer)]}


def test_signed_card_is_believed_completely(publisher):
    card = verified(publisher.sign(whole_card()), publisher.keys())
    assert (card.signed_by, card.coverage, card.spiffe_id) == ("publisher-1", Coverage.COMPLETE, AGENT)
    assert (card.binding, card.ignored) == (BINDING, ())


@pytest.mark.parametrize("kind", [KeyType.EC_P256, KeyType.EC_P384, KeyType.RSA_2048])
def test_every_kind_of_key_signs(kind):
    publisher = Publisher(key=generate_private_key(kind))
    assert verified(publisher.sign(whole_card()), publisher.keys()).coverage is Coverage.COMPLETE


def test_verified_card_is_not_made_by_hand(publisher):
    card = verified(publisher.sign(whole_card()), publisher.keys())
    with pytest.raises(TypeError):
        VerifiedCard(
            card=card.card,
            signed_by="me",
            coverage=Coverage.COMPLETE,
            binding=None,
            spiffe_id=AGENT,
            ignored=(),
            digest="",
        )


def test_card_with_something_empty_is_not_signed(publisher):
    """Others' verifiers would not see it."""
    for change in ({"iconUrl": ""}, {"skills": []}, {"url": "https://legacy.example.test"}):
        with pytest.raises(errors.InvalidCardError) as caught:
            publisher.sign(whole_card() | change)
        assert caught.value.hint


def test_several_keys_while_one_takes_over(publisher):
    """A2A 8.4.3: who knows either believes it."""
    successor = Publisher(kid="publisher-2")
    members = json.loads(sign_card(AgentCard.of(whole_card()), publisher.signer, successor.signer))
    assert verified(members, publisher.keys()).ignored == ("publisher-2",)
    assert verified(members, successor.keys()).ignored == ("publisher-1",)


def test_unsigned_card_is_refused(publisher):
    with pytest.raises(errors.UnsignedCardError):
        verified(whole_card(), publisher.keys())
    with pytest.raises(errors.UnsignedCardError):
        verified(publisher.sign(whole_card()), EnrolledKeys())


@pytest.mark.parametrize("change", [{"is_revoked": True}, {"expires_at": AT}])
def test_key_whose_time_is_over_is_not_used(publisher, change):
    with pytest.raises(errors.CardKeyNotValidError):
        verified(publisher.sign(whole_card()), publisher.keys(**change))


def test_card_has_its_time(publisher):
    members = publisher.sign(whole_card())
    for at in (BINDING.expires_at, BINDING.issued_at - timedelta(minutes=2)):
        with pytest.raises(errors.CardNotCurrentError):
            verified(members, publisher.keys(), at=at)
    assert verified(members, publisher.keys(), at=BINDING.issued_at - timedelta(seconds=20))


def test_key_speaks_for_its_origins_and_its_trust_domain_only(publisher):
    members = publisher.sign(whole_card())
    for change in ({"origins": frozenset({"https://other.example.test"})}, {"trust_domain": None}):
        with pytest.raises(errors.CardOutOfPlaceError):
            verified(members, publisher.keys(**change))
    plain = whole_card()
    plain["supportedInterfaces"][0]["url"] = "http://analyst.example.test/a2a"
    with pytest.raises(errors.CardOutOfPlaceError):
        verified(publisher.sign(plain), publisher.keys())


def test_x509_svid_signs_for_its_own_agent(publisher):
    """The chain stands in the header and is believed by the bundle of the trust domain, nothing else."""
    domain = FakeTrustDomain("example.test", clock=lambda: AT)
    svid = domain.issue_svid("/agents/analyst")
    signer = CardSigner(kid="svid", key=svid.private_key, chain=chain_of(svid))
    members = json.loads(sign_card(AgentCard.of(whole_card()), signer))
    card = verified(members, EnrolledKeys(), bundles=domain.bundles())
    assert (card.signed_by, card.spiffe_id, card.coverage) == (str(AGENT), AGENT, Coverage.COMPLETE)
    other = FakeTrustDomain("example.test", clock=lambda: AT)
    for bundles in (None, other.bundles()):
        with pytest.raises(errors.UnsignedCardError):
            verified(members, EnrolledKeys(), bundles=bundles)
    stranger = domain.issue_svid("/agents/planner")
    signer = CardSigner(kid="svid", key=stranger.private_key, chain=chain_of(stranger))
    members = json.loads(sign_card(AgentCard.of(whole_card()), signer))
    with pytest.raises(errors.CardOutOfPlaceError):
        verified(members, EnrolledKeys(), bundles=domain.bundles())


def test_chain_of_somebody_with_the_signature_of_another_is_tampered(publisher):
    domain = FakeTrustDomain("example.test", clock=lambda: AT)
    svid = domain.issue_svid("/agents/analyst")
    signer = CardSigner(kid="svid", key=publisher.key, chain=chain_of(svid))
    members = json.loads(sign_card(AgentCard.of(whole_card()), signer))
    with pytest.raises(errors.CardTamperedError):
        verified(members, EnrolledKeys(), bundles=domain.bundles())


def test_card_of_an_sdk_is_believed_where_its_key_was_enrolled_for_that():
    publisher = Publisher(takes_sdk_form=True)
    card = verified(by_sdk(publisher, whole_card(is_bound=False)), publisher.keys())
    assert (card.coverage, card.spiffe_id) == (Coverage.SDK_FORM, None)
    with pytest.raises(errors.CardPartlySignedError):
        verified(by_sdk(publisher, whole_card(is_bound=False)), publisher.keys(takes_sdk_form=False))


def test_sdk_may_leave_out_what_has_nothing_to_do_with_security():
    publisher = Publisher(takes_sdk_form=True)
    members = whole_card(is_bound=False) | {"iconUrl": ""}
    assert verified(by_sdk(publisher, members), publisher.keys()).coverage is Coverage.SDK_FORM


def test_strict_signer_vouches_for_empty_members_too(publisher):
    """Another implementation of 8.4.1: what is empty is under its signature."""
    members = whole_card()
    members["securityRequirements"].append({"schemes": {"mtls": {}}})
    payload = canonical_bytes(AgentCard.of(members).members)
    signed = members | {"signatures": [sign_payload(payload, publisher.signer)]}
    assert verified(signed, publisher.keys()).coverage is Coverage.COMPLETE


def header(**members):
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "protected",
    [
        header(alg="none", kid="publisher-1", typ="JOSE"),
        header(alg="HS256", kid="publisher-1", typ="JOSE"),
        header(alg="ES384", kid="publisher-1", typ="JOSE"),
        header(alg="ES256", kid="publisher-1"),
        header(alg="ES256", kid="publisher-1", typ="JWT"),
        header(alg="ES256", typ="JOSE"),
        header(alg="ES256", kid="publisher-1", typ="JOSE", crit=["b64"], b64=False),
        header(alg="ES256", kid="publisher-1", typ="JOSE", jwk={}),
        header(alg="ES256", kid="publisher-1", typ="JOSE", x5u="https://evil.example.test"),
        header(alg="ES256", kid="publisher-1", typ="JOSE", x5c="text"),
        header(alg="ES256", kid="publisher-1", typ="JOSE", x5c=["%%"]),
        header(alg=7, kid="publisher-1", typ="JOSE"),
        "not base64!",
        "\u00e9",
        "e30=",
        "",
    ],
)
def test_header_that_is_not_ours_to_believe_is_refused(publisher, protected):
    """RFC 8725, 3.1: the key says how it signs; nothing in a header makes a key good."""
    members = publisher.sign(whole_card())
    members["signatures"][0]["protected"] = protected
    with pytest.raises(AgentShieldError) as caught:
        verified(members, publisher.keys())
    assert caught.value.code in ("invalid_agent_card", "agent_card_tampered", "invalid_token")


def test_origin_is_where_it_was_signed_for():
    assert ORIGIN in Publisher().enrolled().origins
