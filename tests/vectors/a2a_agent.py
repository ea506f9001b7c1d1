"""A real agent on `a2a-sdk`, as its makers serve it: it authenticates nobody.

What it does is told by the first word of the message: `echo`, `slow` (works until it is canceled), `ask` (wants input),
`say` (answers with a message, not a task), `fail`, `remember` and `recall` (keeps notes by context, as many do).
"""

import asyncio

from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import a2a_pb2
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware

SKILLS = ("echo", "book")


class Agent(AgentExecutor):
    """The work. `headers` is what came with each request."""

    def __init__(self):
        self.notes = {}
        self.running = {}

    async def execute(self, context, event_queue):
        """Do what the message says."""
        text = context.message.parts[0].text
        verb, _, rest = text.partition(" ")
        if verb == "say":
            reply = a2a_pb2.Message(message_id="reply", role=a2a_pb2.ROLE_AGENT, context_id=context.context_id)
            reply.parts.add(text=rest)
            await event_queue.enqueue_event(reply)
            return
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        if context.current_task is None:
            task = a2a_pb2.Task(id=context.task_id, context_id=context.context_id)
            task.status.state = a2a_pb2.TASK_STATE_SUBMITTED
            task.history.append(context.message)
            await event_queue.enqueue_event(task)
        await updater.start_work()
        match verb:
            case "fail":
                raise RuntimeError("the agent breaks")
            case "ask":
                await updater.requires_input(updater.new_agent_message([a2a_pb2.Part(text="which one?")]))
                return
            case "slow":
                self.running[context.task_id] = done = asyncio.Event()
                await done.wait()
                return
            case "remember":
                self.notes.setdefault(context.context_id, []).append(rest)
            case "recall":
                rest = " | ".join(self.notes.get(context.context_id, []))
        await updater.add_artifact([a2a_pb2.Part(text=rest)], name="answer")
        await updater.complete()

    async def cancel(self, context, event_queue):
        """Stop."""
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()
        running = self.running.pop(context.task_id, None)
        if running is not None:
            running.set()


def card_members(url, **more):
    """The card of the agent at `url`, with whatever a test adds."""
    return {
        "name": "analyst",
        "description": "Answers questions",
        "version": "1.0.0",
        "supportedInterfaces": [
            {"url": f"{url}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": f"{url}/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        ],
        "capabilities": {"streaming": True, "pushNotifications": True, "extendedAgentCard": True},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": each, "name": each, "description": f"Does {each}", "tags": ["test"]} for each in SKILLS],
        **more,
    }


def agent_app(url, *, members=None, executor=None, seen=None):
    """The agent as an ASGI application; `seen` collects the headers of every request."""
    card = ParseDict(members or card_members(url), a2a_pb2.AgentCard())
    configs = InMemoryPushNotificationConfigStore()
    handler = DefaultRequestHandler(
        agent_executor=executor or Agent(),
        task_store=InMemoryTaskStore(),
        agent_card=card,
        extended_agent_card=card,
        push_config_store=configs,
    )
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/"),
        *create_rest_routes(handler, path_prefix="/rest"),
    ]
    app = Starlette(routes=routes)

    async def look(request, call_next):
        if seen is not None:
            seen.append((request.method, request.url.path, dict(request.headers)))
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=look)
    return app


__all__ = ["SKILLS", "Agent", "agent_app", "card_members"]
