"""Dockerfiles on a Docker engine: by BuildKit where buildx is installed, else by the engine's classic builder."""
