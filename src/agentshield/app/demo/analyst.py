"""The demo's agent that is called. A stock FastAPI app; `protect` denies what no rule allows."""

from typing import Annotated

from fastapi import Depends, FastAPI

from agentshield.fastapi import Caller, caller, protect

app = protect(FastAPI(title="analyst"))


@app.get("/portfolio")
async def portfolio(who: Annotated[Caller, Depends(caller("read-portfolio"))]) -> dict[str, str]:
    """Show the portfolio to those who may see it."""
    return {"portfolio": "42 shares of ACME", "shown_to": str(who.spiffe_id)}


@app.post("/orders")
async def order(who: Annotated[Caller, Depends(caller("place-order"))]) -> dict[str, str]:
    """Place an order, for those who may."""
    return {"order": "placed", "by": str(who.spiffe_id)}
