"""A caller registers a webhook that is to lead inside our network, by every spelling, by DNS, and by a redirect."""

import asyncio
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from webhook_receiver import HOST, leading_to, webhook_receiver

from agentshield.a2a.push_egress import PushEgress, PushPolicy, PushUndeliverableError
from agentshield.errors import ConfigurationError
from agentshield.sdk.egress import ForbiddenAddressError

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
async def inside():
    """A service on loopback that answers whoever is inside; `knocks` counts who came."""
    knocks: list[None] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(None)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], knocks


@pytest.fixture
async def receiver():
    async with webhook_receiver() as found:
        yield found


def egress_to(receiver, *answers, **policy):
    resolve, asked = leading_to(*(answers or (("127.0.0.1",),)))
    wanted = PushPolicy(ports=frozenset({receiver.port}), **{"networks": LOOPBACK, **policy})
    return PushEgress(wanted, resolve=resolve, ca_pem=receiver.ca_pem), asked


SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://hooks.example.test:{port}/",
    "https://127.0.0.1:{port}/",
    "https://localhost:{port}/",
    "https://LOCALHOST:{port}/",
    "https://localhost.:{port}/",
    "https://127.0.0.1.:{port}/",
    "https://127.1:{port}/",
    "https://127.0.1:{port}/",
    "https://127.0.0.2:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0.0.1:{port}/",
    "https://0x7f.1:{port}/",
    "https://017700000001:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://0:{port}/",
    "https://0.0.0.0:{port}/",
    "https://[::]:{port}/",
    "https://[::1]:{port}/",
    "https://[0:0:0:0:0:0:0:1]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/",
    "https://[2002:7f00:1::]:{port}/",
    "https://[2001:0:7f00:1::]:{port}/",
    "https://[fe80::1%25lo]:{port}/",
    "https://[::1%25lo]:{port}/",
    "https://[::1]:{port}@hooks.example.test/",
    "https://hooks.example.test@127.0.0.1:{port}/",
    "https://user:secret@localhost:{port}/",
    "https://127.0.0.1:{port}#@hooks.example.test/",
    "https://127.0.0.1:{port}\\@hooks.example.test/",
    "https://hooks.example.test\\@127.0.0.1:{port}/",
    "https://hooks.example.test:{port}/a#b",
    "https://\u24dbocalhost:{port}/",
    "https://\uff11\uff12\uff17.0.0.1:{port}/",
    "https://127\u30020\u30020\u30021:{port}/",
    "https://loca\u00adlhost:{port}/",
    "https://b\u00fccher.example.test:{port}/",
    "https://loc\u212aalhost:{port}/",
    "https://hooks.example.test:{port}/\r\nHost: 127.0.0.1",
    "https://hooks.example.test:{port}/a b",
    " https://127.0.0.1:{port}/",
    "https:/127.0.0.1:{port}/",
    "https:127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "https://:{port}/",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "ftp://127.0.0.1:{port}/",
    "unix:///run/docker.sock",
    "",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://100.100.100.200/",
]


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_of_inside_is_registered_or_delivered_to(inside, url):
    """Whoever may begin a task could otherwise have us speak to what answers to anybody inside."""
    port, knocks = inside
    egress = PushEgress(PushPolicy(ports=frozenset({443, port})))
    for attempt in (egress.check(url.format(port=port)), egress.post(url.format(port=port), b"{}", headers={})):
        with pytest.raises(ForbiddenAddressError):
            await attempt
    assert knocks == []


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("10.0.0.5",),
        ("172.16.0.1",),
        ("192.168.1.1",),
        ("100.64.0.1",),
        ("169.254.169.254",),
        ("fd00:ec2::254",),
        ("fe80::1%lo",),
        ("64:ff9b::7f00:1",),
        ("2002:7f00:1::",),
        ("224.0.0.1",),
        ("0.0.0.0",),
        ("8.8.8.8", "127.0.0.1"),
        ("127.0.0.1", "8.8.8.8"),
    ],
)
async def test_a_public_name_that_leads_inside_is_refused(inside, addresses):
    """DNS is the caller's to write. One inside address among public ones is refused with them."""
    port, knocks = inside
    resolve, _ = leading_to(addresses)
    egress = PushEgress(PushPolicy(ports=frozenset({port})), resolve=resolve)
    with pytest.raises(ForbiddenAddressError):
        await egress.post(f"https://{HOST}:{port}/", b"{}", headers={})
    assert knocks == []


async def test_an_address_is_checked_whatever_a_resolver_says_of_it(inside):
    """An address needs no resolver, so none may excuse it."""
    port, knocks = inside
    egress = PushEgress(PushPolicy(ports=frozenset({port})), resolve=leading_to(("8.8.8.8",))[0])
    for host in ("127.0.0.1", "169.254.169.254", "[::1]"):
        with pytest.raises(ForbiddenAddressError):
            await egress.check(f"https://{host}:{port}/")
    assert knocks == []


async def test_a_name_that_leads_elsewhere_by_the_time_of_delivery_is_refused(inside):
    """Rebinding between registration and delivery: good then, loopback now."""
    port, knocks = inside
    resolve, asked = leading_to(("8.8.8.8",), ("127.0.0.1",))
    egress = PushEgress(PushPolicy(ports=frozenset({port})), resolve=resolve)
    await egress.check(f"https://{HOST}:{port}/")
    with pytest.raises(ForbiddenAddressError):
        await egress.post(f"https://{HOST}:{port}/", b"{}", headers={})
    assert (knocks, asked) == ([], [HOST, HOST])


async def test_what_was_checked_is_what_is_connected_to(receiver):
    """Rebinding between check and connection: the name is not asked for a second time, whatever it says by then."""
    egress, asked = egress_to(receiver, ("127.0.0.1",), ("127.0.0.2",))
    answer = await egress.post(receiver.url, b'{"a":1}', headers={"X-Test": "1"})
    assert (answer.status, asked) == (204, [HOST])
    ((headers, body),) = receiver.posted
    assert (headers["host"], headers["x-test"], body) == (f"{HOST}:{receiver.port}", "1", b'{"a":1}')


async def test_the_certificate_must_be_of_the_name_not_of_the_address():
    """Who holds an address is not who holds the name: the event and its credential go to the name."""
    async with webhook_receiver("127.0.0.1") as receiver:
        egress, _ = egress_to(receiver)
        with pytest.raises(PushUndeliverableError):
            await egress.post(receiver.url, b"secret", headers={})
        assert receiver.posted == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(receiver, inside, status):
    """A receiver that we may speak to sends us on to one that we may not."""
    port, knocks = inside
    receiver.status, receiver.headers = status, f"Location: http://127.0.0.1:{port}/\r\n"
    egress, asked = egress_to(receiver)
    answer = await egress.post(receiver.url, b"{}", headers={})
    assert (answer.status, knocks, len(asked)) == (int(status[:3]), [], 1)


async def test_the_environment_s_proxy_is_not_asked(receiver, inside, monkeypatch):
    """A proxy would resolve the name again, past our check."""
    port, knocks = inside
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    egress, _ = egress_to(receiver)
    assert (await egress.post(receiver.url, b"{}", headers={})).status == 204
    assert knocks == []


async def test_an_address_that_nobody_answers_at_gives_way_to_the_next(receiver):
    """A receiver may have two addresses; both were checked."""
    egress, _ = egress_to(receiver, ("127.0.0.3", "127.0.0.1"))
    assert (await egress.post(receiver.url, b"{}", headers={})).status == 204


@pytest.mark.parametrize(
    ("policy", "host"),
    [
        ({"denied_hosts": ("example.test",)}, HOST),
        ({"denied_hosts": (HOST,)}, HOST.upper()),
        ({"denied_hosts": ("*.example.test",)}, HOST),
        ({"allowed_hosts": ("other.example.test",)}, HOST),
        ({"allowed_hosts": ("*.example.test",)}, "example.test"),
        ({"allowed_hosts": ("*.example.test",)}, "evilexample.test"),
        ({"allowed_hosts": (HOST,)}, f"{HOST}.evil.test"),
        ({"allowed_hosts": (HOST,), "denied_hosts": ("example.test",)}, HOST),
    ],
)
async def test_the_operators_lists_hold(receiver, policy, host):
    """An operator's gateways among the receivers would let a caller speak to us as us."""
    egress, _ = egress_to(receiver, **policy)
    with pytest.raises(ForbiddenAddressError):
        await egress.post(f"https://{host}:{receiver.port}/", b"{}", headers={})
    assert receiver.knocks == 0


@pytest.mark.parametrize("allowed", [HOST, "*.example.test"])
async def test_an_allowed_host_is_delivered_to_however_it_is_capitalised(receiver, allowed):
    """Names have no case; a list that has one is a list that fails."""
    egress, _ = egress_to(receiver, allowed_hosts=(allowed,))
    assert (await egress.post(receiver.url.replace("https://hooks", "HTTPS://Hooks"), b"", headers={})).status == 204


async def test_a_port_that_is_not_listed_is_not_connected_to(receiver):
    """SSH and databases answer on ports; webhooks on few."""
    egress = PushEgress(PushPolicy(networks=LOOPBACK), resolve=leading_to(("127.0.0.1",))[0], ca_pem=receiver.ca_pem)
    with pytest.raises(ForbiddenAddressError, match="port"):
        await egress.post(receiver.url, b"{}", headers={})
    assert receiver.knocks == 0


@pytest.mark.parametrize("settings", [{"allowed_hosts": ("UP.test",)}, {"denied_hosts": ("a.",)}, {"ports": {0}}])
def test_a_list_that_could_never_hold_is_refused(settings):
    """A misspelt deny list denies nobody."""
    with pytest.raises(ConfigurationError):
        PushPolicy(**settings)
