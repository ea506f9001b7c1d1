"""The explain service, `agentshield.node.v1.Explain`."""

import json

from grpclib.const import Handler
from grpclib.server import Stream

from agentshield.node.explain import Explainer
from agentshield.node.grpc_status import answered
from agentshield.node.socket_server import caller_of
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import node_pb2 as messages
from agentshield.sdk.wire.guard import request_of


class ExplainApi:
    """Answers with the report as JSON: it is read by people, and grows."""

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer

    def __mapping__(self) -> dict[str, Handler]:
        """See grpclib."""
        return dict([methods.EXPLAIN_PROCESS.handled_by(answered(self.explain_process))])

    async def explain_process(self, stream: Stream[messages.ExplainRequest, messages.ExplainResponse]) -> None:
        """Explain a process of the caller's user; root may ask about any."""
        request = await request_of(stream)
        report = await self._explainer.explain(caller_of(stream), request.pid)
        await stream.send_message(messages.ExplainResponse(report_json=json.dumps(report).encode()))
