"""Base images from a registry or from an archive file, and their layers unpacked in the form of overlayfs.

This module imports the standard library only: `unpack` runs as a process of its own.
"""

from pytest_imagebuild.engines.oci.unreachable import RegistryUnreachable

__all__ = ["RegistryUnreachable"]
