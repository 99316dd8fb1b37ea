"""Dockerfiles without a builder: each instruction is executed here.

Imports nothing: `copying` also runs in a process that has the standard library alone.
"""
