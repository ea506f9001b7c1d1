"""X509-SVIDs a second and core through the node port: TLS, HTTP/2, gRPC, CSR check, registry, signing, self-check.

The limit is what nobody can do without: verifying the CSR's signature and making the certificate's, both P-256, by bare
`cryptography` in the same run. The server's CPU time counts, not the clock's; a client of another process asks. The
audit log is a list here: `audit_append` measures the real one.
"""

import asyncio
import base64
import json
import statistics
import sys
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.audit.log import Receipt
from agentshield.authority.grpc_rate_limit import NodeRates, Rate
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.model import RegistrationEntry, all_nodes_id
from agentshield.authority.selectors import Selector
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key, private_key_from_pkcs8, private_key_to_pkcs8
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.clients.authority import AuthorityClient, authority_context
from agentshield.sdk.clients.values import CsrForEntry
from bench.timing import microseconds

HOME = TrustDomain("example.test")
UNLIMITED = Rate(per_second=1e9, burst=10**9)
BATCHES = {1: 200, 10: 50, 100: 10}  # SVIDs a call: calls
TURNS = 5
ECDSA = ec.ECDSA(hashes.SHA256())


class ListedEvents:
    """An audit log in a list."""

    async def record(self, *events):
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)


def run():
    """Rows for single requests and for batches."""
    return asyncio.run(rows())


async def rows():
    settings = AuthoritySettings(trust_domain=HOME)
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), ListedEvents()) as authority:
        rates = NodeRates(sign_x509=UNLIMITED, sign_jwt=UNLIMITED)
        async with NodeServer(authority, port=0, rates=rates) as server:
            order = await order_for(authority, server)
            return [each for size in BATCHES for each in await rows_for(order, size)]


async def rows_for(order, size):
    """The median of several turns, each beside a measurement of the limit: a busy machine slows both."""
    turns = []
    for _ in range(TURNS):
        before = limit()
        spent = await cpu_per_svid({**order, "size": size, "calls": BATCHES[size]})
        turns.append(((before + limit()) / 2 / spent, 1e6 / spent))
    share, rate = (statistics.median(each) for each in zip(*turns, strict=True))
    return [
        row(f"share of bare verify + sign, {size} a call", share, "", ">= 0.25"),
        row(f"SVIDs a second and core, {size} a call", rate, "/s", None),
    ]


def row(name, value, unit, goal):
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "goal": goal if name.endswith(" 100 a call") else None,
        "bound_by": "verifying what was just signed; per call, Python's HTTP/2",
    }


def limit():
    """Microseconds for one verification and one signature."""
    return limit_of(verifications=1)


def limit_of(*, verifications):
    """Microseconds for one signature and so many verifications."""
    key, message = ec.generate_private_key(ec.SECP256R1()), b"x" * 400
    signature, public = key.sign(message, ECDSA), key.public_key()
    times = microseconds(
        {"sign": lambda: key.sign(message, ECDSA), "verify": lambda: public.verify(signature, message, ECDSA)}, rounds=3
    )
    return times["sign"] + verifications * times["verify"]


async def order_for(authority, server):
    """Register a workload and attest a node; return what the asking process needs."""
    entry = await authority.create_entry(
        RegistrationEntry(
            spiffe_id=SpiffeId.of(HOME, "/agents/planner"),
            parent_id=all_nodes_id(HOME),
            selectors=(Selector("unix", "uid:1000"),),
        )
    )
    token, key = await authority.create_join_token(), generate_private_key()
    node = await authority.attest_node("join_token", token.value.encode(), make_csr(key))
    return {
        "port": server.port,
        "entry": entry.entry_id,
        "chain": text(b"".join(each.public_bytes(Encoding.DER) for each in node.svid.chain)),
        "key": text(private_key_to_pkcs8(key)),
        "bundle": text(authority.bundle().to_json()),
    }


async def cpu_per_svid(order):
    """Let another process ask, and return our own CPU time for each SVID in microseconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.svid_over_the_wire", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    process.stdin.write(json.dumps(order).encode() + b"\n")
    await process.stdout.readline()  # it is connected and warm
    begin = time.process_time()
    process.stdin.write(b"go\n")
    answer = await process.stdout.readline()
    spent = time.process_time() - begin
    process.stdin.close()
    await process.wait()
    return spent / int(answer) * 1e6


async def ask(order):
    """The other process: connect, warm up, wait for the word, ask, tell how many SVIDs came."""
    context = authority_context(HOME)
    svid = X509Svid.parse(raw(order["chain"]), raw(order["key"]))
    context.update(svid, BundleSet.of(TrustBundle.from_json(HOME, raw(order["bundle"]))))
    csr = make_csr(private_key_from_pkcs8(raw(order["key"])))
    batch = [CsrForEntry(entry_id=order["entry"], csr=csr)] * order["size"]
    async with AuthorityClient("127.0.0.1", order["port"], trust_domain=HOME, context=context) as client:
        await client.batch_new_x509_svid(batch)
        print("ready", flush=True)
        sys.stdin.readline()
        count = 0
        for _ in range(order["calls"]):
            answers = await client.batch_new_x509_svid(batch)
            count += sum(not isinstance(each, Exception) for each in answers)
        print(count, flush=True)


def text(data):
    return base64.b64encode(data).decode()


def raw(encoded):
    return base64.b64decode(encoded)


if __name__ == "__main__":
    asyncio.run(ask(json.loads(sys.stdin.readline())))
