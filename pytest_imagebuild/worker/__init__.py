"""What runs inside a container.

This package imports the standard library and pytest, nothing else: no other part of pytest_imagebuild
may be imported from here, because nothing else is sure to work where this runs. `supervisor` is the
main process of the container and imports the standard library only; `worker` is its child, and pytest.
"""
