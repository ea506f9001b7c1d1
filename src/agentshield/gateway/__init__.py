"""The gateway: a reverse proxy in front of A2A agents that decides about every call before they hear of it."""
