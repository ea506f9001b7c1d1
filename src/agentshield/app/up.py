"""`agentshield up`: authority, token service, node agent, audit log and admin API in one process, over the real wire.

The node agent attests by a join token of its own and speaks to the authority over mTLS on loopback, as one on another
machine would: nothing is short-cut, so what works here works there.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from agentshield.app.admin.api import admin_server
from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.waiting import PushedEnforcement
from agentshield.app.policy_files import first_rules
from agentshield.app.state_dir import StateDir
from agentshield.app.supervisor import Supervisor
from agentshield.app.token_service import token_service
from agentshield.audit.log import AuditLog
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.sql_log import SqlAuditStore
from agentshield.authority.errors import NodeNotFoundError, PolicyNotFoundError
from agentshield.authority.key_store import FileKeyStore
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.sql_store import sql_store
from agentshield.clock import system_clock
from agentshield.database.engine import Database, open_database
from agentshield.database.migrate import migrate
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.node.authority_link import AuthorityLink
from agentshield.node.service import NodeService
from agentshield.node.settings import NodeSettings
from agentshield.policy.bundle import RULES_FILE, PolicyBundle

LOOPBACK: Final = "127.0.0.1"
_BY: Final = "agentshield-up"
_LOCAL_NODE: Final = "local-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpRequest:
    """What `up` is to run, checked by the command line. `port` 0 lets the system choose."""

    state: StateDir
    trust_domain: TrustDomain
    port: int = 0
    database_url: str | None = field(default=None, repr=False)  # may hold a password
    is_ephemeral: bool = False
    token_port: int = 0  # of the token service; 0: as the last time, or any
    mtls_port: int | None = None  # of the token service for tls_client_auth; None: that is not offered
    drafts: frozenset[str] = frozenset()  # unfinished standards that the token service is to speak, by name and number

    @property
    def issuer(self) -> str:
        """The `iss` of every JWT-SVID: the trust domain itself, as nothing here has an https address."""
        return self.trust_domain.id_string


def run_up(request: UpRequest, *, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Run until a signal asks to stop; `on_ready` is called once with what `status` gives.

    Raises:
        AlreadyRunningError: another `up` holds the state directory.
        AgentShieldError: something did not start; what had started is stopped.
    """
    request.state.prepare(request.trust_domain.name)
    try:
        with request.state.exclusively(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(request, on_ready))
    finally:
        if request.is_ephemeral:
            request.state.purge()


async def _run(request: UpRequest, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Start in the order in which each needs the one before (1 to 7); leaving the block stops in reverse."""
    state = request.state
    async with Supervisor() as supervisor:
        database = await supervisor.start("database", _database(request))  # (1)
        events = SqlAuditStore(database)
        audit = await supervisor.start("audit log", _audit_log(request, events))  # (2) before anything can happen
        settings = AuthoritySettings(trust_domain=request.trust_domain, jwt_issuer=request.issuer)
        store, keys = sql_store(database), FileKeyStore(state.keys / "authority")
        authority = await supervisor.start("authority", AuthorityService(settings, store, keys, audit))  # (3)
        await _first_policy(authority, state)
        server = NodeServer(authority, host=LOOPBACK, port=request.port)
        await supervisor.start("authority port", server)  # (4)
        tokens = token_service(
            authority,
            database,
            audit,
            state,
            port=request.token_port,
            mtls_port=request.mtls_port,
            drafts=request.drafts,
        )
        running = await supervisor.start("token service", tokens)  # (5) before agents, who are told where it is
        node = await _node_settings(request, authority, port=server.port)
        await supervisor.start("node agent", _node_agent(node, supervisor))  # (6)
        await _remember_local_node(authority, state)
        context = AdminContext(
            authority=authority,
            store=store,
            audit=audit,
            events=events,
            supervisor=supervisor,
            state=state,
            authority_address=f"{LOOPBACK}:{server.port}",
            issuer=request.issuer,
            enforcement=PushedEnforcement(authority, server.push),
            clock=system_clock,
            tokens=running,
        )
        await supervisor.start("admin API", admin_server(context))  # (7) last: who is answered, may use it all
        facts = _facts(request, server.port, running.settings.issuer)
        state.write_facts(facts)
        on_ready(facts)
        await supervisor.wait()


def _facts(request: UpRequest, port: int, token_issuer: str) -> dict[str, Any]:
    return {
        "trust_domain": request.trust_domain.name,
        "workload_api": request.state.workload_api,
        "issuer": request.issuer,
        "state_dir": str(request.state.path),
        "authority": f"{LOOPBACK}:{port}",
        "token_service": token_issuer,
        "pid": os.getpid(),
    }


@asynccontextmanager
async def _database(request: UpRequest) -> AsyncIterator[Database]:
    url = request.database_url or f"sqlite:///{request.state.database}"
    database = await asyncio.to_thread(open_database, url)
    try:
        await asyncio.to_thread(migrate, database)
        yield database
    finally:
        await asyncio.to_thread(database.close)


@asynccontextmanager
async def _audit_log(request: UpRequest, events: SqlAuditStore) -> AsyncIterator[AuditLog]:
    state = request.state
    signer = await ChildSigner.start(state.keys / "checkpoint", origin=f"{request.trust_domain}/audit")
    async with await AuditLog.open(events, signer=signer, tiles=state.audit) as log:
        (state.audit / "checkpoint.pub").write_text(f"{log.key}\n")
        yield log


async def _first_policy(authority: AuthorityService, state: StateDir) -> None:
    """Begin with the files of the policy directory; in a new one, with rules that allow nobody anything."""
    try:
        await authority.active_policy()
    except PolicyNotFoundError:
        rules = state.policy / RULES_FILE
        if not rules.exists():
            rules.write_text(first_rules(authority.settings.trust_domain.name))
        await authority.activate_policy(PolicyBundle.from_directory(state.policy), by=_BY)


async def _node_settings(request: UpRequest, authority: AuthorityService, *, port: int) -> NodeSettings:
    """Admit the node agent anew at each start: its last SVID may have ended while we were down."""
    await _forget_local_node(authority, request.state)
    token = await authority.create_join_token(by=_BY)
    return NodeSettings(
        trust_domain=request.trust_domain,
        socket_path=request.state.workload_socket,
        data_dir=request.state.node,
        authority_host=LOOPBACK,
        authority_port=port,
        join_token=token.value,
        trust_bundle=authority.bundle(),
    )


async def _forget_local_node(authority: AuthorityService, state: StateDir) -> None:
    remembered = state.path / _LOCAL_NODE
    if remembered.exists():
        with suppress(NodeNotFoundError):
            await authority.evict_node(SpiffeId.parse(remembered.read_text().strip()), by=_BY)
        remembered.unlink()
    shutil.rmtree(state.node)
    state.node.mkdir(mode=0o700)


async def _remember_local_node(authority: AuthorityService, state: StateDir) -> None:
    """The newest node is the one that was just admitted; nobody else could have been, as the port is a moment old."""
    newest = max(await authority.list_nodes(), key=lambda node: node.attested_at)
    (state.path / _LOCAL_NODE).write_text(str(newest.spiffe_id))


@asynccontextmanager
async def _node_agent(settings: NodeSettings, supervisor: Supervisor) -> AsyncIterator[NodeService]:
    """Run the node agent; it is ready when it serves and has its entries."""
    node = NodeService(settings, AuthorityLink(settings))
    running = asyncio.create_task(node.run(), name="node-agent")
    ready = asyncio.create_task(node.ready.wait())
    try:
        await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        # Minded, not kept: whoever bans this node agent must still find an authority to lift the ban.
        supervisor.mind("workload identities", _follow(running))
        yield node
    finally:
        ready.cancel()
        running.cancel()
        await asyncio.wait([running])


async def _follow(task: "asyncio.Task[None]") -> None:
    await asyncio.shield(task)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it carries half as much again."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
