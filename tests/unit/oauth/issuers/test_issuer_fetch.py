"""Fetching an issuer's documents from a real HTTPS server."""

from datetime import timedelta

import pytest
import trustme

from agentshield.oauth.issuers import fetch as fetch_module
from agentshield.oauth.issuers.errors import KeysUnavailableError, NotDeliveredError
from agentshield.oauth.issuers.fetch import MAX_DOCUMENT_BYTES, IssuerFetch


def http_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


async def test_a_document_is_fetched_with_how_long_it_holds(foreign, settings):
    """The way it is meant to be."""
    foreign.answers["/keys"] = http_answer(b"{}", headers="Cache-Control: public, max-age=120\r\n")
    document = await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=foreign.ca_pem)
    assert (document.body, document.max_age) == (b"{}", timedelta(seconds=120))


async def test_a_name_is_resolved_once_and_tls_still_asks_for_it(foreign, settings):
    """Resolved twice, the second answer would be unchecked; connected by address, TLS must still verify the name."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return ("127.0.0.1",)

    port = foreign.url.rpartition(":")[2]
    fetch = IssuerFetch(settings, resolve=resolve)
    await fetch.get(foreign.url + "/keys", ca_pem=foreign.ca_pem)
    assert asked == ["localhost"]
    with pytest.raises(KeysUnavailableError, match="cannot connect"):
        await fetch.get(f"https://other.example.test:{port}/keys", ca_pem=foreign.ca_pem)


async def test_a_certificate_of_another_authority_is_refused(foreign, settings):
    """A record's own authority replaces the system's, and the system's does not vouch for a private issuer."""
    with pytest.raises(KeysUnavailableError):
        await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=trustme.CA().cert_pem.bytes())
    with pytest.raises(KeysUnavailableError):
        await IssuerFetch(settings).get(foreign.url + "/keys")


async def test_a_redirect_is_not_followed(foreign, settings):
    """Where it leads nobody has checked."""
    foreign.answers["/keys"] = http_answer(
        b"", status="302 Found", headers="Location: https://169.254.169.254/latest\r\n"
    )
    with pytest.raises(KeysUnavailableError, match="answered 302"):
        await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=foreign.ca_pem)
    assert foreign.asked == ["/keys"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http_answer(b"x" * (MAX_DOCUMENT_BYTES + 1)), "more than"),
        (http_answer(b"x", headers="Content-Encoding: gzip\r\n"), "compressed"),
        (http_answer(b"", status="404 Not Found"), "404"),
        (b"nonsense\r\n\r\n", "failed"),
    ],
)
async def test_an_answer_out_of_the_ordinary_is_refused(foreign, settings, answer, why):
    """A hostile issuer could otherwise fill our memory."""
    foreign.answers["/keys"] = answer
    with pytest.raises(KeysUnavailableError, match=why):
        await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=foreign.ca_pem)


async def test_a_server_that_never_answers_is_given_up(foreign, settings, monkeypatch):
    """Five seconds for everything together: a byte a second must not hold a request for minutes."""
    monkeypatch.setattr(fetch_module, "FETCH_SECONDS", 0.3)
    foreign.answers["/keys"] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    with pytest.raises(KeysUnavailableError):
        await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=foreign.ca_pem)


async def test_the_environment_s_proxy_is_not_asked(foreign, settings, monkeypatch):
    """A proxy would resolve the name again, and our check of the address would be for nothing."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert (await IssuerFetch(settings).get(foreign.url + "/keys", ca_pem=foreign.ca_pem)).body == foreign.jwks()


async def test_a_notification_is_posted_with_its_token(foreign, settings):
    """CIBA Core, 10.2: the body is read by the client, the token tells it that it is us. 200 will do, as will 204."""
    for status in ("204 No Content", "200 OK"):
        foreign.answers["/told"] = http_answer(b"", status=status)
        await IssuerFetch(settings).post(foreign.url + "/told", {"auth_req_id": "r"}, bearer="t", ca_pem=foreign.ca_pem)
    assert foreign.asked == ["/told", "/told"]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"", status="302 Found", headers="Location: https://169.254.169.254/latest\r\n"),
        http_answer(b"", status="307 Temporary Redirect", headers="Location: /elsewhere\r\n"),
        http_answer(b"", status="500 Oops"),
        b"nonsense\r\n\r\n",
    ],
)
async def test_a_notification_goes_nowhere_else(foreign, settings, answer):
    """A redirect would take the client's token and the id to wherever its endpoint likes (CIBA Core, 10.2)."""
    foreign.answers["/told"] = answer
    with pytest.raises(NotDeliveredError) as caught:
        await IssuerFetch(settings).post(
            foreign.url + "/told", {"auth_req_id": "secret-id"}, bearer="secret-token", ca_pem=foreign.ca_pem
        )
    assert foreign.asked == ["/told"]
    assert "secret" not in str(caught.value)
