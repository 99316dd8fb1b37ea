"""A running container with a worker in it: the wire as the controller sees it, and the session that speaks it."""
