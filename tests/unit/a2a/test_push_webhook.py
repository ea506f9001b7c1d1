"""Webhooks: delivered with the owner's credentials and our signature, tried again, bounded, and told to nobody else."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from webhook_receiver import leading_to, webhook_receiver

from agentshield.a2a.owners import MemoryOwnerStore, OwnedTask
from agentshield.a2a.push_config import (
    MAX_PER_TASK,
    MemoryPushConfigStore,
    PushConfig,
    PushConfigs,
    TooManyPushConfigsError,
)
from agentshield.a2a.push_egress import PushAnswer, PushEgress, PushPolicy, PushUndeliverableError
from agentshield.a2a.push_signature import WebhookMemory, WebhookSigner, verify_webhook
from agentshield.a2a.push_webhook import (
    MAX_ATTEMPTS,
    MAX_EVENT_BYTES,
    MAX_WAITING,
    EventTooLargeError,
    Outcome,
    PushQueueFullError,
    WebhookSender,
)
from agentshield.identity.jwk import KeySet, thumbprint
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.a2a.errors import InvalidParamsError, TaskNotFoundError
from agentshield.sdk.egress import ForbiddenAddressError

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AGENT, MINE, THEIRS = "spiffe://example.test/agents/b", "a" * 64, "b" * 64
KEY = generate_private_key()
SIGNER = WebhookSigner(issuer="https://gateway.example.test", kid=thumbprint(KEY.public_key()), key=KEY)
EVENT = {"statusUpdate": {"taskId": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}}
SECRETS = {"token": "s3cret-token", "authentication": {"scheme": "Bearer", "credentials": "s3cret-credential"}}


class Answers:
    """A receiver that answers what it is told to; the last for ever."""

    def __init__(self, *answers) -> None:
        self.answers, self.posted = list(answers), []

    async def post(self, url, body, *, headers):
        self.posted.append((url, body, headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, PushAnswer) else PushAnswer(status=answer)


class World:
    def __init__(self, *answers) -> None:
        self.egress, self.store, self.slept, self.outcomes = Answers(*answers), MemoryPushConfigStore(), [], []
        self.sender = self.sending(self.egress)

    def sending(self, egress):
        async def sleep(seconds):
            self.slept.append(seconds)
            await asyncio.sleep(0)

        def told(place, event_id, outcome):
            self.outcomes.append(outcome)

        return WebhookSender(egress, self.store, SIGNER, clock=lambda: AT, told=told, sleep=sleep)

    async def register(self, task_id="t1", owner_key=MINE, **members):
        written = {"url": "https://hooks.example.test/told", **SECRETS, **members}
        config = PushConfig.of(written, agent=AGENT, owner_key=owner_key, task_id=task_id)
        await self.store.keep(config)
        return config


@pytest.fixture
async def configs():
    owners = MemoryOwnerStore()
    for owner, task in ((MINE, "t1"), (THEIRS, "t2")):
        await owners.keep_task(
            OwnedTask(agent=AGENT, task_id=task, owner_key=owner, context_id="c", skills=(), created_at=AT)
        )
    egress = PushEgress(PushPolicy(), resolve=leading_to(("8.8.8.8",))[0])
    return PushConfigs(agent=AGENT, owners=owners, store=MemoryPushConfigStore(), egress=egress)


async def test_an_event_arrives_over_tls_with_credentials_and_a_signature_that_verifies():
    """The whole way, to a real receiver."""
    async with webhook_receiver() as receiver:
        policy = PushPolicy(ports=frozenset({receiver.port}), networks=(ip_network("127.0.0.0/8"),))
        world = World(200)
        sender = world.sending(
            PushEgress(policy, resolve=leading_to(("127.0.0.1",))[0], ca_pem=receiver.ca_pem),
        )
        await world.register(url=receiver.url)
        (event_id,) = await sender.send(AGENT, MINE, "t1", EVENT)
        await sender.drained()
    ((headers, body),) = receiver.posted
    assert world.outcomes == [Outcome.DELIVERED]
    assert headers["authorization"] == "Bearer s3cret-credential"
    assert headers["x-a2a-notification-token"] == "s3cret-token"
    assert headers["content-type"] == "application/a2a+json"
    found = verify_webhook(
        headers["x-a2a-webhook-signature"],
        body,
        url=receiver.url,
        issuer=SIGNER.issuer,
        keys=KeySet.of(KEY.public_key()),
        memory=WebhookMemory(),
        at=AT,
    )
    assert (found.event_id, found.event) == (event_id, EVENT)


async def test_a_receiver_that_is_away_is_tried_again_with_the_same_event():
    """At least once; and the receiver must be able to tell that it is once."""
    world = World(503, PushUndeliverableError("away"), PushAnswer(status=429, retry_after=30.0), 204)
    await world.register()
    await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.sender.drained()
    assert world.outcomes == [Outcome.DELIVERED]
    assert len({body for _, body, _ in world.egress.posted}) == 1
    assert len(world.egress.posted) == 4
    assert 0.8 <= world.slept[0] <= 1.2
    assert 1.6 <= world.slept[1] <= 2.4
    assert world.slept[2] == 30.0


async def test_a_receiver_that_stays_away_is_given_up():
    """An endless try is an endless queue."""
    world = World(PushAnswer(status=503, retry_after=99_999.0))
    await world.register()
    await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.sender.drained()
    assert (world.outcomes, len(world.egress.posted)) == ([Outcome.GIVEN_UP], MAX_ATTEMPTS)
    assert max(world.slept) <= 120.0


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (400, Outcome.REJECTED),
        (401, Outcome.REJECTED),
        (410, Outcome.REJECTED),
        (307, Outcome.REJECTED),
        (ForbiddenAddressError("inside"), Outcome.REFUSED),
    ],
)
async def test_what_trying_again_does_not_change_is_not_tried_again(answer, outcome):
    """A redirect is an answer, and no way."""
    world = World(answer)
    await world.register()
    await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.sender.drained()
    assert (world.outcomes, len(world.egress.posted), world.slept) == ([outcome], 1, [])


async def test_events_keep_their_order_although_the_first_is_tried_again():
    """`completed` before `working` is a task that never ends."""
    world = World(503, 204)
    await world.register()
    for number in range(3):
        await world.sender.send(AGENT, MINE, "t1", {"task": {"id": "t1", "n": number}})
    await world.sender.drained()
    assert [json.loads(body)["task"]["n"] for _, body, _ in world.egress.posted] == [0, 0, 1, 2]


async def test_a_configuration_that_is_dropped_ends_its_deliveries():
    """The owner took the credential back."""
    world = World(503)
    config = await world.register()
    await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.store.drop(config.place)
    await world.sender.drained()
    assert (world.outcomes, world.egress.posted) == ([Outcome.WITHDRAWN], [])


async def test_another_s_task_of_the_same_id_is_told_nothing():
    """Ids of tasks are one agent's; owners are apart."""
    world = World(204)
    await world.register(owner_key=THEIRS)
    assert await world.sender.send(AGENT, MINE, "t1", EVENT) == ()
    assert await world.sender.send("spiffe://example.test/other", THEIRS, "t1", EVENT) == ()


async def test_one_owner_s_queue_is_bounded_and_another_s_is_not_full_with_it():
    """A dead receiver must not fill our memory, nor take anybody else's turn."""
    world = World(204)
    await world.register()
    await world.register(owner_key=THEIRS)
    for _ in range(MAX_WAITING):
        await world.sender.send(AGENT, MINE, "t1", EVENT)
    with pytest.raises(PushQueueFullError):
        await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.sender.send(AGENT, THEIRS, "t1", EVENT)
    await world.sender.drained()
    assert len(world.outcomes) == MAX_WAITING + 1
    await world.sender.send(AGENT, MINE, "t1", EVENT)
    await world.sender.aclose()
    assert world.sender._waiting == {}


async def test_an_event_too_large_is_refused():
    """It would be tried six times."""
    world = World(204)
    await world.register()
    with pytest.raises(EventTooLargeError):
        await world.sender.send(AGENT, MINE, "t1", {"message": {"x": "x" * MAX_EVENT_BYTES}})


async def test_secrets_go_in_and_do_not_come_out(configs):
    """The SDKs echo them to whoever may read the task."""
    written = {"taskId": "t1", "id": "p1", "url": "https://hooks.example.test/told", **SECRETS}
    shown = [
        await configs.create(MINE, written),
        await configs.get(MINE, "t1", "p1"),
        *await configs.list(MINE, "t1"),
        repr(configs.store._configs),
    ]
    assert "s3cret" not in str(shown)
    assert shown[1] == {
        "id": "p1",
        "taskId": "t1",
        "url": "https://hooks.example.test/told",
        "authentication": {"scheme": "Bearer"},
    }


async def test_foreign_and_missing_are_one_answer(configs):
    """Whether a task is there is its owner's to know."""
    url = {"url": "https://hooks.example.test/told"}
    await configs.create(THEIRS, {"taskId": "t2", "id": "p", **url})
    answers = set()
    for task in ("t2", "nowhere"):
        for attempt in (
            configs.create(MINE, {"taskId": task, **url}),
            configs.get(MINE, task, "p"),
            configs.list(MINE, task),
            configs.delete(MINE, task, "p"),
        ):
            with pytest.raises(TaskNotFoundError) as caught:
                await attempt
            answers.add(str(caught.value))
    assert len(answers) == 1
    assert len(await configs.list(THEIRS, "t2")) == 1


async def test_where_it_may_not_go_is_said_when_it_is_registered(configs):
    """The owner sees the mistake; nobody posts first."""
    with pytest.raises(ForbiddenAddressError):
        await configs.create(MINE, {"taskId": "t1", "url": "https://169.254.169.254/latest"})
    assert await configs.list(MINE, "t1") == ()


async def test_a_task_has_so_many_and_no_more(configs):
    """Each event is sent to each of them."""
    for number in range(MAX_PER_TASK):
        await configs.create(MINE, {"taskId": "t1", "id": f"p{number}", "url": "https://hooks.example.test/"})
    await configs.create(MINE, {"taskId": "t1", "id": "p0", "url": "https://hooks.example.test/changed"})
    with pytest.raises(TooManyPushConfigsError):
        await configs.create(MINE, {"taskId": "t1", "id": "more", "url": "https://hooks.example.test/"})
    await configs.delete(MINE, "t1", "p0")
    await configs.delete(MINE, "t1", "p0")
    await configs.create(MINE, {"taskId": "t1", "url": "https://hooks.example.test/"})
    assert await configs.store.drop_owner(MINE) == MAX_PER_TASK


@pytest.mark.parametrize(
    "members",
    [
        {"token": "a\r\nX-Evil: 1"},
        {"token": 7},
        {"token": "x" * 1025},
        {"id": "a b"},
        {"authentication": {"scheme": "Bea rer", "credentials": "x"}},
        {"authentication": {"scheme": "Bearer", "credentials": "x\r\nHost: evil"}},
        {"authentication": {"credentials": "x"}},
        {"authentication": "Bearer x"},
        {"url": "https://hooks.example.test/\n"},
    ],
)
def test_what_would_not_fit_on_a_header_line_is_refused(members):
    """A caller must not write our headers."""
    with pytest.raises(InvalidParamsError):
        PushConfig.of({"url": "https://hooks.example.test/", **members}, agent=AGENT, owner_key=MINE, task_id="t1")
