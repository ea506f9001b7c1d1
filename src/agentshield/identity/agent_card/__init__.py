"""A2A agent cards: what an agent says of itself, and what of that somebody has signed (A2A 1.0, 4.4 and 8)."""
