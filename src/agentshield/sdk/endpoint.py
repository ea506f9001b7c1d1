"""Where the Workload API is: `SPIFFE_ENDPOINT_SOCKET`, read strictly (SPIFFE Workload Endpoint 4)."""

import ipaddress
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from agentshield.errors import ConfigurationError

VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"
_EXAMPLE: Final = "it looks like unix:///run/agentshield/workload.sock or tcp://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Unix socket's path, or an IP address and port."""

    path: str | None = None
    host: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str, *, name: str = VARIABLE) -> Self:
        """Read `unix:///absolute/path` or `tcp://IP:port`; a host name is not allowed, nor any other part of a URI.

        Raises:
            ConfigurationError: it is neither.
        """
        try:
            uri = urllib.parse.urlsplit(text)
            port = uri.port
        except ValueError as error:
            raise _wrong(name, text, str(error)) from error
        if uri.query or uri.fragment or uri.username is not None or uri.password is not None:
            raise _wrong(name, text, "has a query, fragment or user")
        match uri.scheme:
            case "unix":
                return cls._unix(name, text, uri)
            case "tcp":
                return cls._tcp(name, text, uri, port)
            case _:
                raise _wrong(name, text, f"has scheme {uri.scheme!a}, expected unix or tcp")

    @classmethod
    def _unix(cls, name: str, text: str, uri: urllib.parse.SplitResult) -> Self:
        if uri.netloc or not uri.path.startswith("/") or uri.path == "/":
            raise _wrong(name, text, "has no absolute path")
        return cls(path=urllib.parse.unquote(uri.path))

    @classmethod
    def _tcp(cls, name: str, text: str, uri: urllib.parse.SplitResult, port: int | None) -> Self:
        if uri.path:
            raise _wrong(name, text, "has a path")
        try:
            host = str(ipaddress.ip_address(uri.hostname or ""))
        except ValueError as error:
            raise _wrong(name, text, "has no IP address") from error
        if not port:
            raise _wrong(name, text, "has no port")
        return cls(host=host, port=port)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read `SPIFFE_ENDPOINT_SOCKET`.

        Raises:
            ConfigurationError: unset, or not an endpoint.
        """
        text = environment.get(VARIABLE)
        if not text:
            raise ConfigurationError(
                f"{VARIABLE} is not set, so there is nobody to ask for an identity",
                hint="start the program with `agentshield run --as NAME -- …`, or set it to your node agent's socket",
            )
        return cls.parse(text)

    @classmethod
    def of(cls, address: "str | os.PathLike[str] | Endpoint") -> "Endpoint":
        """Take an endpoint, its URI, or the path of a socket.

        Raises:
            ConfigurationError: a URI that is not an endpoint.
        """
        if isinstance(address, Endpoint):
            return address
        text = os.fspath(address)
        return cls.parse(text, name="endpoint") if ":" in text else cls(path=str(Path(text).absolute()))

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in (self.host or "") else f"tcp://{self.host}:{self.port}"


def _wrong(name: str, text: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{name} {text[:200]!a} {what}", hint=_EXAMPLE)
