"""Clients of AgentShield's own services."""
