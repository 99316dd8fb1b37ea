"""Fixtures of our own tests."""

from __future__ import annotations

pytest_plugins = ["pytester"]
