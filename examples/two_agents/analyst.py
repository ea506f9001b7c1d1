"""An agent that answers whom its policy allows, and nobody else.

agentshield run --as analyst -- uvicorn analyst:app
"""

from typing import Annotated

from agentshield.fastapi import Caller, caller, protect
from fastapi import Depends, FastAPI

app = protect(FastAPI(title="analyst"))


@app.get("/hello")
async def hello(who: Annotated[Caller, Depends(caller("hello"))]) -> dict[str, str]:
    """Greet the caller by the name that its certificate proves."""
    print(f"hello called by {who.spiffe_id}", flush=True)
    return {"answer": "hello", "caller": str(who.spiffe_id)}
