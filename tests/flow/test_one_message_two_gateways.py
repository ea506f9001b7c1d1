"""Two processes on one database get the same messages at the same time, and one is killed: none is done twice."""

import asyncio
import signal
import sys
from collections import Counter

import pytest

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate

MESSAGES = 60

GATEWAY = """
import asyncio, os, sys
from agentshield.a2a.idempotency import FirstAnswer, Idempotency, MessageKey
from agentshield.a2a.sql_idempotency import SqlAttemptStore
from agentshield.clock import system_clock
from agentshield.database.engine import open_database
from agentshield.errors import AgentShieldError

url, done, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
once = Idempotency(SqlAttemptStore(open_database(url)), clock=system_clock).once


async def send(number):
    async def execute():
        line = os.open(done, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(line, f"m{number}\\n".encode())
        os.close(line)
        await asyncio.sleep(0.02)
        return FirstAnswer(task_id=f"t{number}")

    key = MessageKey(agent="spiffe://example.test/b", owner_key="a" * 64, message_id=f"m{number}")
    try:
        answer, is_first = await once(key, "d" * 64, execute)
        print(number, answer.task_id, is_first, flush=True)
    except AgentShieldError as error:
        print(number, error.code, False, flush=True)


async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(send(number) for number in range(count)))


asyncio.run(main())
os._exit(0)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request, tmp_path):
    is_file = request.param == "sqlite"
    found = f"sqlite:///{tmp_path}/a.db" if is_file else request.getfixturevalue("postgresql_url")
    database = open_database(found)
    migrate(database)
    database.close()
    return found


async def gateways(url, done):
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            GATEWAY,
            url,
            str(done),
            str(MESSAGES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for each in started:
        assert await each.stdout.readline() == b"ready\n"
    for each in started:
        each.stdin.write(b"go\n")
        await each.stdin.drain()
    return started


def answers(output):
    return [line.split() for line in output.decode().splitlines()]


async def test_the_same_messages_at_two_gateways_are_executed_once_each(url, tmp_path):
    """A load balancer sends the second try to the other replica, and at the same moment."""
    done = tmp_path / "done"
    outputs = [(await each.communicate())[0] for each in await gateways(url, done)]
    executed = Counter(done.read_text().split())
    assert executed == {f"m{number}": 1 for number in range(MESSAGES)}
    told = [line for output in outputs for line in answers(output)]
    assert len(told) == 2 * MESSAGES
    assert Counter(number for number, _, is_first in told if is_first == "True") == {
        str(number): 1 for number in range(MESSAGES)
    }
    assert all(answer in (f"t{number}", "a2a_message_in_flight") for number, answer, _ in told)


async def test_a_gateway_that_is_killed_leaves_nothing_that_is_done_twice(url, tmp_path):
    """Whatever it had begun stays begun; the other does the rest, and says what it cannot know."""
    done = tmp_path / "done"
    killed, other = await gateways(url, done)
    await killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    output, _ = await other.communicate()
    await killed.wait()
    executed = Counter(done.read_text().split())
    assert max(executed.values()) == 1
    told = answers(output)
    assert len(told) == MESSAGES
    unknown = {"a2a_message_in_flight", "a2a_first_attempt_lost"}
    assert all(answer == f"t{number}" or answer in unknown for number, answer, _ in told)
