"""SPIFFE_ENDPOINT_SOCKET, read as SPIFFE Workload Endpoint 4 has it (WEP-04)."""

import pytest

from agentshield.errors import ConfigurationError
from agentshield.sdk.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:///run/workload.sock", Endpoint(path="/run/workload.sock")),
        ("unix:/run/workload.sock", Endpoint(path="/run/workload.sock")),
        ("unix:///run/with%20space.sock", Endpoint(path="/run/with space.sock")),
        ("tcp://127.0.0.1:8000", Endpoint(host="127.0.0.1", port=8000)),
        ("tcp://[::1]:8000", Endpoint(host="::1", port=8000)),
    ],
)
def test_wep_04_addresses(text, endpoint):
    """Both kinds of address are understood, and written back as they were."""
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == Endpoint.parse(str(Endpoint.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "/run/workload.sock",
        "unix:relative.sock",
        "unix://host/run/workload.sock",
        "unix://",
        "unix:///",
        "unix:///run/x.sock?query",
        "unix:///run/x.sock#fragment",
        "tcp://localhost:8000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:8000/path",
        "tcp://user@127.0.0.1:8000",
        "http://127.0.0.1:8000",
        "https://127.0.0.1:8000",
    ],
)
def test_wep_04_other_forms_are_refused(text):
    """A host name could be answered by anybody; a stray part hides a typing mistake. The variable is named."""
    with pytest.raises(ConfigurationError, match="SPIFFE_ENDPOINT_SOCKET"):
        Endpoint.parse(text)


def test_an_unset_variable_says_what_to_do():
    """The first error that a developer meets names the command that sets it."""
    with pytest.raises(ConfigurationError) as error:
        Endpoint.from_environment({})
    assert "agentshield run" in error.value.hint


def test_a_path_may_be_given_bare_in_code(tmp_path):
    """`Shield.from_socket(path)` needs no URI."""
    assert Endpoint.of(tmp_path / "x.sock") == Endpoint(path=str(tmp_path / "x.sock"))
    assert Endpoint.of("unix:///x.sock") == Endpoint(path="/x.sock")
