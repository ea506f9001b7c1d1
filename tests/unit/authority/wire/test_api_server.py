"""The port itself: TLS, HTTP/2, and what a hostile client cannot do to it."""

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from datetime import timedelta

import h2.config
import h2.connection
import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agentshield.authority.authorities import AuthorityState
from agentshield.authority.server import NodeServer, ServerLimits
from agentshield.errors import ConfigurationError
from agentshield.sdk.peer import peer_of
from agentshield.sdk.wire import methods, spire_pb2
from agentshield.sdk.wire.guard import ConnectionLimits
from agentshield.sdk.wire.methods import Method

SOON = 5.0
GET_BUNDLE = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", methods.GET_BUNDLE.path),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


@pytest.fixture
def serving(authority, clock):
    """Serve with limits of the test's own."""

    @asynccontextmanager
    async def serve(*, each=None, **limits):
        chosen = ServerLimits(each=ConnectionLimits(**(each or {})), **limits)
        async with NodeServer(authority, port=0, limits=chosen, clock=clock) as server:
            yield server

    return serve


@asynccontextmanager
async def raw_http2(port, context):
    """A connection on which a test speaks HTTP/2 frame by frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    try:
        yield reader, writer, connection
    finally:
        writer.transport.abort()


async def closed(reader):
    """Whether the other side hangs up before long."""
    try:
        async with asyncio.timeout(SOON):
            while await reader.read(65536):
                pass
    except ConnectionError:
        return True
    return True


async def test_server_shows_the_authoritys_own_svid(server, context_for):
    """Agents expect spiffe://<td>/spire/server, and check nothing else."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context_for())
    assert str(peer_of(writer).spiffe_id) == "spiffe://example.test/spire/server"
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.transport.abort()


async def test_client_without_alpn_is_hung_up_on(server, context_for):
    """HTTP/2 over TLS is agreed on by ALPN; another protocol on this port is somebody's attack (RFC 9113, 3.2)."""
    context = context_for()
    context.set_alpn_protocols(["http/1.1"])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    assert await closed(reader)
    writer.transport.abort()


async def test_tls_1_2_is_the_floor(server):
    """Older versions have known breaks; the standard library's own floor must not be what protects us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
    writer.transport.abort()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


async def test_announced_gigabyte_is_refused_before_it_comes(server, context_for):
    """Memory must not be promised to whoever asks, least of all to the anonymous."""
    async with raw_http2(server.port, context_for()) as (reader, writer, connection):
        connection.send_headers(1, GET_BUNDLE)
        connection.send_data(1, b"\0" + struct.pack(">I", 1 << 30))
        writer.write(connection.data_to_send())
        seen = await trailers(reader, connection)
    assert seen[b"grpc-status"] == str(Status.RESOURCE_EXHAUSTED.value).encode()


async def test_garbage_body_is_the_clients_mistake(server, context_for, caplog):
    """Bytes that are no message get INVALID_ARGUMENT, and no traceback fills the log."""
    async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
        garbage = spire_pb2.Selector(type="x")  # field 1 is a message there
        method = Method(path=methods.GET_BUNDLE.path, request=spire_pb2.Selector, reply=spire_pb2.Bundle)
        with pytest.raises(GRPCError) as caught:
            await method.call(channel, garbage, timeout=SOON)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert not [record for record in caplog.records if record.exc_info]


async def test_cut_off_message_is_the_clients_mistake(server, context_for):
    """A message that ends before its announced end is refused, not waited for."""
    async with raw_http2(server.port, context_for()) as (reader, writer, connection):
        connection.send_headers(1, GET_BUNDLE)
        connection.send_data(1, b"\0" + struct.pack(">I", 100) + b"x", end_stream=True)
        writer.write(connection.data_to_send())
        seen = await trailers(reader, connection)
    assert seen[b"grpc-status"] == str(Status.INVALID_ARGUMENT.value).encode()


async def test_rapid_reset_is_cut_off(serving, context_for):
    """CVE-2023-44487: streams that are opened only to be reset cost the server, and no limit on open ones helps."""
    async with serving(each={"reset_burst": 50}) as server:
        async with raw_http2(server.port, context_for()) as (reader, writer, connection):
            for number in range(400):
                connection.send_headers(1 + 2 * number, GET_BUNDLE)
                connection.reset_stream(1 + 2 * number)
                writer.write(connection.data_to_send())
            assert await closed(reader)
        async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:  # others are served as before
            await methods.GET_BUNDLE.call(channel, spire_pb2.GetBundleRequest(), timeout=SOON)


async def test_noise_is_hung_up_on(server, context_for):
    """Bytes that are no HTTP/2 end the connection, and only that one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context_for())
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await closed(reader)
    writer.transport.abort()
    async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
        await methods.GET_BUNDLE.call(channel, spire_pb2.GetBundleRequest(), timeout=SOON)


async def test_silent_client_is_dropped(serving):
    """A client that never shakes hands (slow loris) must give its place back."""
    async with serving(handshake=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await closed(reader)
        writer.transport.abort()
        await until(lambda: server.connection_count == 0)


async def test_connections_of_one_address_are_bounded(serving):
    """One machine must not take every place; and a place that is given back can be taken again."""
    async with serving(connections_per_address=2) as server:
        taken = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await closed(reader)
        for _, each in [*taken, (reader, writer)]:
            each.transport.abort()
        await until(lambda: server.connection_count == 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: server.connection_count == 1)
        writer.transport.abort()


async def test_connections_are_bounded(serving):
    """All addresses together have a bound too."""
    async with serving(connections=1) as server:
        _, first = await asyncio.open_connection("127.0.0.1", server.port)
        reader, second = await asyncio.open_connection("127.0.0.1", server.port)
        assert await closed(reader)
        first.transport.abort()
        second.transport.abort()


async def test_old_connection_ends_when_no_call_is_open(serving, context_for):
    """After their age connections are made anew, so that nodes find new addresses, but never in the midst of a call."""
    async with serving(each={"age": 0.2}) as server:
        async with raw_http2(server.port, context_for()) as (reader, _, _):
            assert await closed(reader)
        async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
            async with methods.ATTEST_AGENT.open(channel) as stream:
                await stream.send_request()
                await asyncio.sleep(0.6)
                assert server.connection_count == 1  # a call is open
                await stream.cancel()
            await until(lambda: server.connection_count == 0)


async def test_connection_made_anew_serves_as_before(serving, context_for):
    """A client whose connection was retired just connects again."""
    async with serving(each={"age": 0.1}) as server, Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
        for _ in range(3):
            await methods.GET_BUNDLE.call(channel, spire_pb2.GetBundleRequest(), timeout=SOON)
            await until(lambda: server.connection_count == 0)


async def test_unknown_method_is_unimplemented(server, context_for):
    """Calls of SPIRE that are for its administrators are not served on this port at all."""
    async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
        path = "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
        method = Method(path=path, request=spire_pb2.Status, reply=spire_pb2.Status)
        with pytest.raises(GRPCError) as caught:
            await method.call(channel, spire_pb2.Status(), timeout=SOON)
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_tainted_authority_signs_our_own_svid_no_more(authority, server):
    """Whoever took the old signing key must not be able to be the authority: our own SVID moves to the next at once."""
    before = server._context.svid
    (active,) = [
        each
        for each in authority.authorities()
        if each.kind.value.startswith("x509") and each.state is AuthorityState.ACTIVE
    ]
    await authority.taint_authority(active.authority_id)
    await until(lambda: server._context.svid.leaf.serial_number != before.leaf.serial_number)
    assert not [each for each in authority.authorities() if each.tainted and each.state is AuthorityState.ACTIVE]


async def test_own_svid_is_renewed_at_half_life(server, clock):
    """An authority that lets its own SVID end locks every node out."""
    before = server._context.svid
    clock.move(timedelta(minutes=31))
    await server._keeper.renew()
    assert server._context.svid.leaf.serial_number != before.leaf.serial_number


async def test_port_in_use_is_the_operators_to_fix(server, authority):
    """The message names the address; a traceback would not say what to do."""
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{server.port}"):
        await NodeServer(authority, port=server.port).start()


async def test_close_leaves_nothing_behind(authority, context_for, clock):
    """After close, no task and no socket is left, also where a client is silent in its handshake."""
    tasks = asyncio.all_tasks()
    server = NodeServer(authority, port=0, clock=clock)
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)):
        await served_then_closed(server, context_for)
    await until(lambda: asyncio.all_tasks() <= tasks)
    assert server.connection_count == 0


async def served_then_closed(server, context_for):
    async with Channel("127.0.0.1", server.port, ssl=context_for()) as channel:
        await methods.GET_BUNDLE.call(channel, spire_pb2.GetBundleRequest(), timeout=SOON)
        async with asyncio.timeout(SOON):
            await server.close()


async def trailers(reader, connection):
    async with asyncio.timeout(SOON):
        while True:
            for event in connection.receive_data(await reader.read(65536)):
                headers = dict(getattr(event, "headers", None) or ())
                if b"grpc-status" in headers:
                    return headers


async def until(condition):
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)
