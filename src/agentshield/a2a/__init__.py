"""A2A on the side that is called: who may ask for what, whose a task is, and what may leave."""
