"""What a client may post: one form, one reading."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentshield.oauth import form as form_module
from agentshield.oauth.form import MAX_BODY, ClientGoneError, FormError, parse_form, read_form

FORM = (b"content-type", b"application/x-www-form-urlencoded")


def received(*parts):
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0)

    return receive


async def test_form_is_read_in_pieces():
    """A body in two packets is one body."""
    form = await read_form([FORM], b"", received(b"grant_type=a&sc", b"ope=x+y&resource=1&resource=2"))
    assert form == {"grant_type": ("a",), "scope": ("x y",), "resource": ("1", "2")}


@pytest.mark.parametrize(
    "body",
    [
        b"scope=a&scope=b",
        b"scope",
        b"a=%ff",
        b"a=\xff",
        b"a=%00",
        b"&".join(b"p%d=1" % number for number in range(65)),
    ],
)
def test_two_readings_are_refused(body):
    """RFC 6749, 3.2: where two readers could take two values, a check and a use could part."""
    with pytest.raises(FormError):
        parse_form(body)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 415),
        ([(b"content-type", b"application/json")], 415),
        ([FORM, FORM], 415),
        ([(b"content-type", b"application/x-www-form-urlencoded; charset=utf-16")], 415),
        ([FORM, (b"content-encoding", b"gzip")], 415),
        ([FORM, (b"content-length", str(MAX_BODY + 1).encode())], 413),
        ([FORM, (b"content-length", b"-1")], 413),
    ],
)
async def test_other_bodies_are_refused_unread(headers, status):
    """What is no form of a reasonable size costs us nothing."""
    with pytest.raises(FormError) as caught:
        await read_form(headers, b"", received(b"a=1"))
    assert caught.value.status == status


async def test_body_without_an_end_is_refused():
    """A length that was not announced is bounded all the same."""
    with pytest.raises(FormError) as caught:
        await read_form([FORM], b"", received(b"a=" + b"x" * MAX_BODY, b"x"))
    assert caught.value.status == 413


async def test_body_that_does_not_come_is_ended(monkeypatch):
    """A client that sends nothing holds nothing."""
    monkeypatch.setattr(form_module, "DEADLINE", 0.01)

    async def never():
        await asyncio.sleep(10)

    with pytest.raises(FormError) as caught:
        await read_form([FORM], b"", never)
    assert caught.value.status == 408


async def test_client_that_hangs_up_is_let_go():
    """There is nobody to answer."""

    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await read_form([FORM], b"", gone)


async def test_secrets_in_the_address_are_refused():
    """RFC 6749, 2.3.1: an address is written to logs."""
    with pytest.raises(FormError, match="address"):
        await read_form([FORM], b"client_secret=x", received(b""))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_refused(body):
    """Nothing a client sends is a failure of ours."""
    try:
        form = parse_form(body)
    except FormError:
        return
    assert all(isinstance(value, tuple) for value in form.values())
