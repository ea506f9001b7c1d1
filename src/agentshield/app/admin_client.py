"""The CLI's side of the admin socket: HTTP and JSON over a Unix socket, with the standard library only.

`http.client` costs 20 ms to import where an HTTP library costs 150, and this is paid by every command.
"""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from agentshield.app.failure import CommandError, Failure
from agentshield.app.state_dir import NotRunningError
from agentshield.errors import UnavailableError

JsonObject = dict[str, Any]


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose other end is a socket in the file system."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("agentshield", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Dial the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AdminClient:
    """Asks the running `agentshield up`. Each call is one connection: commands are short."""

    def __init__(self, admin_socket: Path, *, timeout: timedelta) -> None:
        self._socket = admin_socket
        self._timeout = timeout.total_seconds()

    def get(self, path: str, **query: object) -> JsonObject:
        """Read a resource.

        Raises:
            NotRunningError: nobody listens on the socket.
            CommandError: the other end refused; carries what it said.
        """
        return self._ask("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> JsonObject:
        """Create or act; raises as `get` does."""
        return self._ask("POST", path, body=body or {})

    def put(self, path: str, body: Mapping[str, Any]) -> JsonObject:
        """Replace; raises as `get` does."""
        return self._ask("PUT", path, body=body)

    def delete(self, path: str, **query: object) -> JsonObject:
        """Remove; raises as `get` does."""
        return self._ask("DELETE", path, query=query)

    def items(self, path: str, **query: object) -> list[JsonObject]:
        """Read a list of resources; raises as `get` does."""
        return list(self.get(path, **query)["items"])

    def stream(self, path: str, **query: object) -> Iterator[JsonObject]:
        """Read resources as they come, until the other end stops; raises as `get` does."""
        with self._connected(timeout=None) as connection:
            connection.request("GET", _target(path, query))
            response = connection.getresponse()
            _check(response)
            while line := response.readline():
                if line.strip():
                    yield json.loads(line)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> JsonObject:
        with self._connected(timeout=self._timeout) as connection:
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, _target(path, query or {}), payload, {"content-type": "application/json"})
            response = connection.getresponse()
            _check(response)
            content = response.read()
        answer: JsonObject = json.loads(content) if content else {}
        return answer

    @contextmanager
    def _connected(self, *, timeout: float | None) -> Iterator[_UnixConnection]:
        connection = _UnixConnection(self._socket, timeout or self._timeout)
        try:
            connection.connect()
            assert connection.sock is not None
            connection.sock.settimeout(timeout)
            yield connection
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NotRunningError(
                f"no agentshield up answers on {self._socket}",
                hint="agentshield up --detach, or name another --state-dir",
            ) from error
        except TimeoutError as error:
            raise UnavailableError(
                f"no answer on {self._socket} within {self._timeout:g}s",
                hint="agentshield status, or a longer --timeout",
            ) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise UnavailableError(
                f"{self._socket} closed the connection before answering", hint="agentshield status"
            ) from error
        finally:
            connection.close()


def segment(text: str) -> str:
    """Quote one part of a path, so that `a/b` stays one part."""
    return quote(text, safe="")


def _target(path: str, query: Mapping[str, object]) -> str:
    wanted = {key: str(value) for key, value in query.items() if value is not None}
    return path + ("?" + urlencode(wanted) if wanted else "")


def _check(response: http.client.HTTPResponse) -> None:
    """Raise what the other end reported."""
    if response.status < 400:
        return
    try:
        failure = Failure.from_json(json.loads(response.read()))
    except ValueError:
        failure = Failure(what=f"the admin socket answered {response.status}", code="internal")
    raise CommandError(failure)
