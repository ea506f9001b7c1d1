"""The OAuth 2.0 authorization server for agents: an identity traded for a short, narrow, bound token."""
