"""Whoever carries a card changes it: strips, swaps or adds requirements, flips a leaf, adds a signature of their own.

The signature form of the A2A SDKs (1.3) does not cover what is empty, so several of these pass there unseen.
"""

import copy
import json
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from agent_cards import AT, Publisher, changed, leaves, whole_card, without

from agentshield.errors import AgentShieldError
from agentshield.identity.agent_card.canonical import canonical_bytes, sdk_form
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.errors import CardPartlySignedError, CardTamperedError, UnsignedCardError
from agentshield.identity.agent_card.jose import CardSigner, sign_payload
from agentshield.identity.agent_card.signature import verify_card
from agentshield.identity.keys import generate_private_key

PUBLISHER = Publisher()
SIGNED = PUBLISHER.sign(whole_card())
COVERED = {name: value for name, value in SIGNED.items() if name != "signatures"}


def refused(members, keys=None):
    with pytest.raises(AgentShieldError) as caught:
        verify_card(AgentCard.parse(json.dumps(members).encode()), keys=keys or PUBLISHER.keys(), at=AT)
    return caught.value


@pytest.mark.parametrize("path", list(leaves(COVERED)), ids=lambda path: "/".join(map(str, path)))
def test_any_leaf_flipped(path):
    refused(changed(SIGNED, path))


@pytest.mark.parametrize(
    "path",
    [
        ("securityRequirements",),
        ("securitySchemes",),
        ("securitySchemes", "mtls"),
        ("securityRequirements", 0, "schemes", "mtls"),
        ("securityRequirements", 0, "schemes", "tokens"),
        ("securityRequirements", 0, "schemes", "mtls", "list"),
        ("skills", 0, "securityRequirements"),
        ("capabilities", "extensions"),
        ("capabilities", "extensions", 1),
        ("supportedInterfaces", 0),
    ],
)
def test_security_stripped(path):
    assert isinstance(refused(without(SIGNED, path)), CardTamperedError)


@pytest.mark.parametrize(
    "added", [{"schemes": {}}, {}, {"schemes": {"other": {}}}, {"schemes": {"mtls": {"list": []}}}]
)
@pytest.mark.parametrize("at_skill", [False, True])
def test_empty_alternative_added(added, at_skill):
    """Alternatives are OR: one that asks for nothing opens the agent. Both SDKs accept such a card."""
    members = copy.deepcopy(SIGNED)
    (members["skills"][0] if at_skill else members)["securityRequirements"].append(added)
    assert isinstance(refused(members), CardPartlySignedError | CardTamperedError)
    sdk_signed = sdk_card(takes=True)
    assert canonical_bytes(sdk_form(AgentCard.of(members).members)) == canonical_bytes(
        sdk_form(AgentCard.of(SIGNED).members)
    )
    (sdk_signed[1]["skills"][0] if at_skill else sdk_signed[1])["securityRequirements"].append(added)
    assert isinstance(refused(sdk_signed[1], sdk_signed[0].keys()), CardPartlySignedError)


def sdk_card(*, takes):
    """A card signed by an SDK, whose mTLS scheme has no description: to that signature it is not there."""
    publisher = Publisher(takes_sdk_form=takes)
    members = whole_card(is_bound=False)
    payload = canonical_bytes(sdk_form(AgentCard.of(members).members))
    return publisher, members | {"signatures": [sign_payload(payload, publisher.signer)]}


def test_card_that_an_sdk_signed_with_everything_stripped():
    """What was taken out cannot be seen: so a card that asks for nothing is never believed in that form."""
    publisher = Publisher(takes_sdk_form=True)
    members = whole_card(is_bound=False)
    members["securitySchemes"] = {"mtls": {"mtlsSecurityScheme": {}}}
    members["securityRequirements"] = [{"schemes": {"mtls": {}}}]
    members["skills"][0].pop("securityRequirements")
    payload = canonical_bytes(sdk_form(AgentCard.of(members).members))
    stripped = {
        name: value for name, value in members.items() if name not in ("securitySchemes", "securityRequirements")
    }
    signatures = {"signatures": [sign_payload(payload, publisher.signer)]}
    assert isinstance(refused(stripped | signatures, publisher.keys()), CardPartlySignedError)
    assert isinstance(refused(members | signatures, publisher.keys()), CardPartlySignedError)
    swapped = members | {"securityRequirements": [{"schemes": {"other": {}}}]}
    assert isinstance(refused(swapped | signatures, publisher.keys()), CardPartlySignedError)


def test_duplicate_key():
    text = json.dumps(SIGNED)
    with pytest.raises(AgentShieldError):
        AgentCard.parse(('{"securityRequirements": [],' + text[1:]).encode())


def test_signature_of_another_under_a_known_name():
    mallory = CardSigner(kid="publisher-1", key=generate_private_key())
    payload = canonical_bytes(AgentCard.of(SIGNED).members)
    assert isinstance(refused(SIGNED | {"signatures": [sign_payload(payload, mallory)]}), CardTamperedError)


def test_bad_second_signature_beside_a_good_one():
    """By a name we know it is tampering; by one we do not know it is told, and counts for nothing."""
    payload = canonical_bytes(AgentCard.of(changed(SIGNED, ("name",))).members)
    bad = sign_payload(payload, PUBLISHER.signer)
    assert isinstance(refused(SIGNED | {"signatures": [*SIGNED["signatures"], bad]}), CardTamperedError)
    unknown = sign_payload(payload, CardSigner(kid="nobody", key=generate_private_key()))
    members = SIGNED | {"signatures": [unknown, *SIGNED["signatures"]]}
    card = verify_card(AgentCard.of(members), keys=PUBLISHER.keys(), at=AT)
    assert card.ignored == ("nobody",)
    garbage = {"protected": "e30", "signature": "AAAA"}
    refused(SIGNED | {"signatures": [*SIGNED["signatures"], garbage]})


def test_jku_of_the_attacker_is_not_asked():
    """A2A issue 2096: a signer that names its own keys. Its listener hears nothing."""
    import base64

    mallory = Publisher(kid="mallory")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/jwks"
        header = json.dumps({"alg": "ES256", "kid": "mallory", "typ": "JOSE", "jku": url}).encode()
        protected = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
        signature = sign_payload(canonical_bytes(AgentCard.of(SIGNED).members), mallory.signer) | {
            "protected": protected
        }
        assert isinstance(refused(SIGNED | {"signatures": [signature]}), UnsignedCardError)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_members_of_an_older_protocol_are_not_believed():
    """`url` is where a 0.3 client goes; no signature covers it, so it is told, and never part of the card."""
    members = SIGNED | {"url": "https://evil.example.test", "preferredTransport": "JSONRPC"}
    card = verify_card(AgentCard.of(members), keys=PUBLISHER.keys(), at=AT)
    assert card.card.unsigned == ("/url", "/preferredTransport")
    assert "url" not in card.card.members


def test_card_of_another_agent_in_its_place():
    """A good card, replayed at another's address: the signer speaks for its own origins only."""
    other = Publisher(kid="publisher-2")
    keys = other.keys(origins=frozenset({"https://other.example.test"}))
    refused(other.sign(whole_card()), keys)
