"""Which addresses are connected to: the text of a URL, and where its name leads."""

from ipaddress import ip_network

import pytest

from agentshield.sdk.egress import ForbiddenAddressError, check_address, parse_https_url


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example.test",
        "https://idp.example.test:8443/realms/a",
        "https://idp.example.test/keys?v=2",
        "https://93.184.215.14/keys",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/keys",
        "https://localhost:8443/keys",
    ],
)
def test_an_ordinary_https_url_may_be_fetched(url):
    """Else no issuer could be registered; that localhost leads nowhere is found when it is resolved."""
    assert parse_https_url(url).target.startswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example.test/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user@idp.example.test/",
        "https://idp.example.test@169.254.169.254/",
        "https://idp.example.test/#keys",
        "https://IDP.example.test/",
        "https://idp.example.test:/",
        "https://idp.example.test:0/",
        "https://idp.example.test:99999/",
        "https://idp.example.test./",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.1.:443/",
        "https://[::1%25eth0]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:127.0.0.1]:1\\@idp.example.test/",
        "https://idp.example.test/a b",
        "https://idp.example.test/\r\nHost: other",
        "https://idp.example.test\\@169.254.169.254/",
        "https://\u24dbocalhost/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://" + "a" * 600 + ".test/",
    ],
)
def test_a_url_that_two_readers_read_differently_is_refused(url):
    """What our check reads and what the resolver reads must be one host, or the check guards nothing."""
    with pytest.raises(ForbiddenAddressError):
        parse_https_url(url)


PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.2",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a9fe:a9fe",
    "2001::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "3fff::1",
    "4000::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_inside_somebody_s_network_is_refused(address):
    """Metadata services and databases answer whoever is inside: an administrator of issuers must not be."""
    with pytest.raises(ForbiddenAddressError):
        check_address(address, allow_loopback=False)


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_loopback_is_fetched_from_only_where_settings_say_so(address):
    """A demonstration has its issuer on this machine; a server has its own secrets there."""
    check_address(address, allow_loopback=True)
    with pytest.raises(ForbiddenAddressError):
        check_address(address, allow_loopback=False)


@pytest.mark.parametrize("address", [each for each in PRIVATE if each != "127.0.0.2"])
def test_allowing_loopback_allows_nothing_else(address):
    """The switch for demonstrations must not open the metadata service."""
    with pytest.raises(ForbiddenAddressError):
        check_address(address, allow_loopback=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_the_public_internet_is_fetched_from(address):
    """Where issuers are."""
    check_address(address, allow_loopback=False)


def test_a_query_without_a_path_is_asked_of_the_root():
    """`https://host?x` and `https://host/?x` are one resource (RFC 9110, 4.2.3); a request line begins with a slash."""
    assert parse_https_url("https://idp.example.test?v=2").target == "/?v=2"


def test_a_network_that_the_operator_names_is_connected_to():
    """Receivers of a company's own are on its own network; it says which."""
    mine = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
    for address in ("10.1.2.3", "fd12::7"):
        check_address(address, networks=mine)
    for address in ("10.2.0.1", "fd13::7", "127.0.0.1", "::1"):
        with pytest.raises(ForbiddenAddressError):
            check_address(address, networks=mine)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fe80::1", "0.0.0.0"],
)
def test_no_network_however_wide_opens_a_metadata_service(address):
    """Whoever writes 0.0.0.0/0 to make it work must not have given away the machine's credentials."""
    with pytest.raises(ForbiddenAddressError):
        check_address(address, networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
