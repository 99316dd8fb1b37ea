"""Marked items: grouped into sessions, run by workers, and reported as if they had run here."""
