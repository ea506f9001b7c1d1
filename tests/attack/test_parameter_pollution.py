"""A client says a thing twice, so that one reader checks the first and another acts on the second.

Who is hurt: whoever relies on the check. A token for a scope, an audience or a client that nobody looked at.
"""

import pytest

pytest.importorskip("uvicorn")
from oauth_server import FORM, HEAD, open_door, status_of

ONCE = b"grant_type=client_credentials&scope=read&client_id=a&client_assertion=x.y.z"


@pytest.fixture
async def door():
    async with open_door() as door:
        yield door


async def test_each_parameter_once_is_let_through(door):
    """What is said once reaches the service as it was said."""
    assert status_of(await door.post(ONCE)) == 401  # the service's own word: nobody authenticates there
    (request,) = door.service.asked
    assert (request.get("scope"), request.get("client_id")) == ("read", "a")


@pytest.mark.parametrize(
    "again",
    [
        b"&scope=admin",
        b"&scope=read",  # the same value: who says it twice will say it differently the next time
        b"&scope=",
        b"&s%63ope=admin",
        b"&client_id=b",
        b"&grant_type=password",
        b"&client_assertion=p.q.r",
    ],
)
async def test_parameter_given_twice_is_refused(door, again):
    """RFC 6749, 3.2: neither the first nor the last counts."""
    for body in (ONCE + again, again.lstrip(b"&") + b"&" + ONCE):
        answer = await door.post(body)
        assert status_of(answer) == 400
        assert b'"error":"invalid_request"' in answer
    assert door.service.asked == []


async def test_parameters_in_the_address_are_refused(door):
    """One reader takes the address first, another the body; and addresses are written to logs."""
    head = HEAD.replace(b"/oauth/token", b"/oauth/token?scope=admin") + FORM
    request = head + b"content-length: %d\r\n\r\n" % len(ONCE) + ONCE
    assert status_of(await door.send(request)) == 400
    assert door.service.asked == []


@pytest.mark.parametrize(
    "other", [b"scope[]=admin", b"Scope=admin", b"scope%00=admin", b"scope =admin", b";scope=admin"]
)
async def test_names_that_look_alike_are_not_the_name(door, other):
    """No reader of ours folds case, brackets, blanks or null characters into a name; a semicolon ends nothing."""
    await door.post(ONCE + b"&" + other)
    assert all(request.form["scope"] == ("read",) for request in door.service.asked)


async def test_audiences_reach_the_service_all_of_them(door):
    """The two that may be repeated are seen whole, so that the second is not granted unseen (TX-13)."""
    await door.post(ONCE + b"&audience=api://a&audience=api://b&resource=https://c.example.test")
    (request,) = door.service.asked
    assert request.all("audience") == ("api://a", "api://b")
    assert request.all("resource") == ("https://c.example.test",)


@pytest.mark.parametrize(
    "headers",
    [
        (b"authorization: Basic YTpi", b"authorization: Basic Yjpj"),
        (b"content-type: application/x-www-form-urlencoded",),
        (b"content-type: application/json",),
        (b"transfer-encoding: chunked",),
        (b"content-length: 3",),
    ],
    ids=["two clients", "two content types", "two kinds", "chunked and a length", "two lengths"],
)
async def test_header_fields_given_twice_are_refused(door, headers):
    """A proxy and we must not read two requests, or two clients, out of one."""
    assert status_of(await door.post(ONCE, *headers)) in (400, 415)
    assert door.service.asked == []
