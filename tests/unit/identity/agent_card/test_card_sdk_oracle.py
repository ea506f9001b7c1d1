"""Our cards and those of the A2A SDK, held against each other: where its signatures are sound, both believe both."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from a2a.types import AgentCard as SdkCard
from a2a.utils.signing import InvalidSignaturesError, create_agent_card_signer, create_signature_verifier
from agent_cards import AT, Publisher, changed, leaves, whole_card
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from agentshield.identity.agent_card.canonical import canonical_bytes, sdk_form
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.signature import Coverage, verify_card

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PUBLISHER = Publisher()
SIGNED = PUBLISHER.sign(whole_card())


def sdk_verify(members, publisher):
    pem = publisher.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    create_signature_verifier(lambda _kid, _jku: pem, ["ES256"])(ParseDict(members, SdkCard()))


def sdk_sign(members, publisher):
    pem = publisher.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header = {"kid": publisher.kid, "alg": "ES256", "jku": None, "typ": "JOSE"}
    return MessageToDict(create_agent_card_signer(pem, header)(ParseDict(members, SdkCard())))


def test_sdk_believes_what_we_sign():
    sdk_verify(SIGNED, PUBLISHER)
    for path in leaves({name: value for name, value in SIGNED.items() if name != "signatures"}):
        with pytest.raises(InvalidSignaturesError):
            sdk_verify(changed(SIGNED, path), PUBLISHER)


def test_our_card_is_as_complete_after_a_way_through_the_sdk():
    """A server on the SDK reads our card and writes it again."""
    members = MessageToDict(ParseDict(SIGNED, SdkCard()))
    card = verify_card(AgentCard.parse(json.dumps(members).encode()), keys=PUBLISHER.keys(), at=AT)
    assert card.coverage is Coverage.COMPLETE


def test_we_believe_what_the_sdk_signs_where_that_is_sound():
    publisher = Publisher(kid="sdk", takes_sdk_form=True)
    members = sdk_sign(whole_card(is_bound=False), publisher)
    assert verify_card(AgentCard.of(members), keys=publisher.keys(), at=AT).coverage is Coverage.SDK_FORM


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {
            "name": TEXT,
            "description": TEXT,
            "iconUrl": st.none() | TEXT,
            "securityRequirements": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "schemes": st.dictionaries(
                            TEXT, st.fixed_dictionaries({}, optional={"list": st.lists(TEXT, max_size=2)}), max_size=2
                        )
                    },
                ),
                max_size=3,
            ),
            "capabilities": st.fixed_dictionaries(
                {},
                optional={
                    "streaming": st.booleans(),
                    "extensions": st.lists(
                        st.fixed_dictionaries(
                            {"uri": TEXT, "required": st.booleans()},
                            optional={
                                "params": st.dictionaries(
                                    TEXT, st.booleans() | TEXT | st.integers(-(2**50), 2**50) | st.just({}), max_size=3
                                )
                            },
                        ),
                        max_size=2,
                    ),
                },
            ),
        }
    )
)
def test_sdk_form_is_what_the_sdk_signs(written):
    """The same bytes, whatever is empty: or a card of theirs would be refused, or believed for what it is not."""
    from a2a.utils.signing import _canonicalize_agent_card

    theirs = _canonicalize_agent_card(ParseDict({k: v for k, v in written.items() if v is not None}, SdkCard()))
    ours = canonical_bytes(sdk_form(AgentCard.of(written).members)).decode()
    assert ours == (theirs if theirs != "null" else "{}")
