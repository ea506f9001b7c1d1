"""Redirect addresses: what may be registered, and what counts as registered (RFC 9700, 2.1, 4.1; RFC 8252, 7.3)."""

import pytest

from agentshield.errors import InvalidInputError
from agentshield.oauth.authorize.redirect_uris import check_redirect_uri, is_registered, origin_of, with_parameters

APP, NATIVE, NATIVE_6 = "https://app.test/cb", "http://127.0.0.1/cb", "http://[::1]:7000/cb?a=b"


@pytest.mark.parametrize("uri", [APP, NATIVE, NATIVE_6, "https://app.test", "https://app.test:8443/a/b?tenant=1"])
def test_addresses_that_may_be_registered(uri):
    """https anywhere, http on the user's own machine."""
    check_redirect_uri(uri)
    assert is_registered(uri, (uri,))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://app.test/cb",
        "http://localhost/cb",  # RFC 8252, 8.3: a name can lead elsewhere
        "http://127.0.0.2/cb",
        "http://127.0.0.1.evil.test/cb",
        "https://app.test/cb#x",
        "https://*.app.test/cb",
        "https://app.test/*",
        "https://user@app.test/cb",
        "https://App.test/cb",
        "https://app.test:0/cb",
        "https://app.test:70000/cb",
        "https://app.test/c b",
        "https://app.test/cb\n",
        "https://app.test/cb\r\nset-cookie:a=b",
        "https://app.test/%zz",
        "https://app.test\\@evil.test/cb",
        "https://app.test;evil.test/cb",
        "https://app.test/cb?code=1",
        "https://app.test/cb?a=b&state=x",
        "https://app.test/cb?iss=",
        "javascript:alert(1)",
        "data:text/html,x",
        "com.example.app:/cb",
        "https:///cb",
        "//app.test/cb",
        "https://app.test/" + "a" * 600,
    ],
)
def test_addresses_that_may_not_be_registered(uri):
    """Each would let somebody else, or nobody in particular, receive a code."""
    with pytest.raises(InvalidInputError):
        check_redirect_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.test/cb/",
        "https://app.test/CB",
        "https://app.test/cb?",
        "https://app.test/cb?x=1",
        "https://app.test/cb/../evil",
        "https://app.test/%63b",
        "https://app.test:443/cb",
        "https://app.test:8443/cb",
        "https://app.test.evil.test/cb",
        "https://app.test@evil.test/cb",
        "http://app.test/cb",
        "https://evil.test/?https://app.test/cb",
        " https://app.test/cb",
        "https://app.test/cb#",
    ],
)
def test_an_address_is_compared_to_the_letter(uri):
    """RFC 9700, 2.1 (BCP-01): every near miss has been somebody's open redirector."""
    assert not is_registered(uri, (APP,))


def test_the_port_of_a_loopback_address_may_differ_and_nothing_else():
    """RFC 8252, 7.3: a program on the user's machine takes the port that is free."""
    assert is_registered("http://127.0.0.1:51004/cb", (APP, NATIVE))
    assert is_registered("http://[::1]/cb?a=b", (NATIVE_6,))
    for uri in (
        "http://127.0.0.1:51004/other",
        "http://127.0.0.1:51004/cb?x=1",
        "http://[::1]:51004/cb",
        "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:/cb",
        "http://127.0.0.1:51004@evil.test/cb",
        "https://127.0.0.1:51004/cb",
        "http://localhost:51004/cb",
    ):
        assert not is_registered(uri, (APP, NATIVE)), uri


def test_an_answer_goes_into_the_query_escaped():
    """RFC 6749, 3.1.2: what the address had stays, and what the client wrote cannot become another parameter."""
    answer = {"code": "a.b", "state": "x&iss=https://evil.test#"}
    assert with_parameters(APP, answer) == APP + "?code=a.b&state=x%26iss%3Dhttps%3A%2F%2Fevil.test%23"
    assert with_parameters("https://app.test/?t=1", {"code": "c"}) == "https://app.test/?t=1&code=c"
    assert origin_of(NATIVE_6) == "http://[::1]:7000"
