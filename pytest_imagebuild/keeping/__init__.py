"""Containers that wait for the next run: a process of its own keeps them, and hands each over to one run."""
