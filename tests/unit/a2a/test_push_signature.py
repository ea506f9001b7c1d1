"""Signed webhooks: whoever can post to a receiver's address must not be able to tell it what became of a task."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.a2a.push_signature import (
    LIFETIME,
    REMEMBERED,
    WEBHOOK_TYPE,
    VerifiedWebhook,
    WebhookBodyError,
    WebhookMemory,
    WebhookRefusedError,
    WebhookReplayedError,
    WebhookSigner,
    verify_webhook,
)
from agentshield.errors import UnavailableError
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jwk import KeySet, UnknownKeyError, VerificationKey, thumbprint
from agentshield.identity.jws import InvalidTokenError, encode_base64url, sign_compact
from agentshield.identity.keys import KeyType, generate_private_key

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
URL, ISSUER = "https://hooks.example.test/told", "https://gateway.example.test"
BODY = json.dumps({"statusUpdate": {"taskId": "t1", "status": {"state": "TASK_STATE_COMPLETED"}}}).encode()
KEY = generate_private_key()
SIGNER = WebhookSigner(issuer=ISSUER, kid=thumbprint(KEY.public_key()), key=KEY)
KEYS = KeySet.of(KEY.public_key())
CLAIMS = {"iss": ISSUER, "aud": URL, "jti": "e1", "iat": int(AT.timestamp()), "exp": int(AT.timestamp()) + 60}
UNSIGNED_DIGEST = encode_base64url(hashlib.sha256(BODY).digest()).decode()


def signed(**changes) -> str:
    return SIGNER.sign(BODY, **{"url": URL, "event_id": "e1", "at": AT, **changes})


def verify(token, body=BODY, **changes) -> VerifiedWebhook:
    known = {"url": URL, "issuer": ISSUER, "keys": KEYS, "memory": WebhookMemory(), "at": AT}
    return verify_webhook(token, body, **{**known, **changes})


def test_a_webhook_is_verified_and_read():
    """What was signed is what is read."""
    found = verify(signed())
    assert (found.event_id, found.event["statusUpdate"]["taskId"]) == ("e1", "t1")


def test_no_other_body_is_believed():
    """The signature would else be a licence to say anything."""
    with pytest.raises(WebhookRefusedError, match="body"):
        verify(signed(), BODY.replace(b"COMPLETED", b"FAILED"))


def test_no_other_address_s_webhook_is_believed():
    """One receiver could pass on what it got to another, who would take it for its own."""
    with pytest.raises(WrongAudienceError):
        verify(signed(url="https://other.example.test/"))
    claims = {**CLAIMS, "aud": [URL, "https://other.example.test/"], "body_sha256": "x"}
    with pytest.raises(WrongAudienceError):
        verify(sign_compact(claims, KEY, kid=SIGNER.kid, typ=WEBHOOK_TYPE))


def test_no_other_issuer_s_webhook_is_believed():
    """Two senders may share a key set; they are two all the same."""
    with pytest.raises(WebhookRefusedError, match="issuer"):
        verify(replace(SIGNER, issuer="https://evil.example.test").sign(BODY, url=URL, event_id="e", at=AT))


def test_no_other_key_is_believed():
    """Whoever has no key of the sender's is not the sender."""
    other = generate_private_key()
    with pytest.raises(BadSignatureError):
        verify(replace(SIGNER, key=other).sign(BODY, url=URL, event_id="e", at=AT))
    with pytest.raises(UnknownKeyError):
        verify(replace(SIGNER, key=other, kid="evil").sign(BODY, url=URL, event_id="e", at=AT))


@pytest.mark.parametrize("at", [AT + LIFETIME, AT - timedelta(minutes=1)])
def test_not_before_and_not_after_its_time(at):
    """What was recorded is worth nothing later."""
    with pytest.raises(WebhookRefusedError):
        verify(signed(), at=at)


@pytest.mark.parametrize("changes", [{"exp": CLAIMS["exp"] + 3600}, {"iat": CLAIMS["iat"] + 600}])
def test_not_good_for_an_hour(changes):
    """The memory of receivers is bounded; so is what must be in it."""
    token = sign_compact({**CLAIMS, "body_sha256": "x", **changes}, KEY, kid=SIGNER.kid, typ=WEBHOOK_TYPE)
    with pytest.raises(WebhookRefusedError):
        verify(token)


@pytest.mark.parametrize("missing", ["iss", "aud", "jti", "iat", "exp", "body_sha256"])
def test_every_claim_must_be_there(missing):
    """A rule that is not stated is not kept."""
    good = {**CLAIMS, "body_sha256": UNSIGNED_DIGEST}
    verify(sign_compact(good, KEY, kid=SIGNER.kid, typ=WEBHOOK_TYPE))
    token = sign_compact({k: v for k, v in good.items() if k != missing}, KEY, kid=SIGNER.kid, typ=WEBHOOK_TYPE)
    with pytest.raises((InvalidTokenError, WebhookRefusedError)):
        verify(token)


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "dpop+jwt"])
def test_a_token_of_another_kind_is_no_webhook(typ):
    """An access token signed with the same key must not become an event."""
    with pytest.raises(InvalidTokenError):
        verify(sign_compact({**CLAIMS, "body_sha256": UNSIGNED_DIGEST}, KEY, kid=SIGNER.kid, typ=typ))


def test_another_algorithm_is_refused_and_not_signed_with():
    """One algorithm: nothing to confuse."""
    rsa = generate_private_key(KeyType.RSA_2048)
    keys = KeySet(keys=(VerificationKey(kid="r", public_key=rsa.public_key(), algorithms=frozenset({"RS256"})),))
    with pytest.raises(WebhookRefusedError, match="RS256"):
        verify(sign_compact(CLAIMS, rsa, kid="r", typ=WEBHOOK_TYPE), keys=keys)
    with pytest.raises(ValueError, match="P-256"):
        WebhookSigner(issuer=ISSUER, kid="r", key=rsa)


def test_an_event_is_received_once():
    """A recorded delivery would else be a second event; a sender's own second try is one as well."""
    memory = WebhookMemory()
    verify(signed(), memory=memory)
    for token in (signed(), signed(at=AT + timedelta(minutes=1))):
        with pytest.raises(WebhookReplayedError):
            verify(token, memory=memory, at=AT + timedelta(minutes=1))
    verify(signed(event_id="e2"), memory=memory)


def test_what_is_refused_is_not_remembered():
    """Otherwise whoever guesses an id could keep the event of that id away."""
    memory = WebhookMemory()
    with pytest.raises(WebhookRefusedError):
        verify(signed(), BODY + b" ", memory=memory)
    verify(signed(), memory=memory)


def test_a_full_memory_refuses_rather_than_forgets():
    """Forgetting early is what a flood would be for."""
    memory = WebhookMemory(most=1)
    memory.use(ISSUER, "e1", at=AT)
    with pytest.raises(UnavailableError):
        memory.use(ISSUER, "e2", at=AT)
    memory.use(ISSUER, "e2", at=AT + REMEMBERED)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"task":1}', b'{"task":{},"message":{}}', b'{"task":{},"task":{}}'])
def test_a_signed_body_that_is_no_event_is_refused(body):
    """A sender's mistake is no event."""
    with pytest.raises(WebhookBodyError):
        verify(SIGNER.sign(body, url=URL, event_id="e", at=AT), body)


def test_a_verified_webhook_comes_from_verification_only():
    """The type is the proof."""
    with pytest.raises(TypeError):
        VerifiedWebhook(issuer=ISSUER, event_id="e", event={})


def test_the_key_is_not_shown():
    """Signers are logged with what holds them."""
    assert "PrivateKey" not in repr(SIGNER)
