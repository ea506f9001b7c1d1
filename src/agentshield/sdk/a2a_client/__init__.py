"""The calling side of A2A: a card that is believed, credentials that go where it says and nowhere else, and tasks."""
