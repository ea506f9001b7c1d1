"""An agent that asks the analyst, and makes sure that it is the analyst who answers.

agentshield run --as planner -- python planner.py
"""

import asyncio

from agentshield import Shield


async def main() -> None:
    """Call once. The peer's SPIFFE ID is checked before the first byte of the request."""
    async with Shield.from_env() as me:
        analyst = f"{me.spiffe_id.trust_domain.id_string}/agents/analyst"
        async with me.client(expect=analyst) as http:
            answer = await http.get("https://localhost:8443/hello")
            print(answer.status_code, answer.text)


asyncio.run(main())
