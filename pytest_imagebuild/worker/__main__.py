"""The main process of a session container, or of one that a project is put into: `unpack ARCHIVE`.

Runs in the container: imports the standard library only.

Started as `python -m pytest_imagebuild.worker`, or by the path of this file. By path, the folder that
holds the package comes last on `sys.path`: what the image has installed itself wins, but for this package.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if not __package__:
        home = __file__.rsplit("/", 3)[0]
        sys.path[0] = home
    if sys.argv[1:2] == ["unpack"]:
        from pytest_imagebuild.worker.unpack import unpack_archive

        sys.exit(unpack_archive(sys.argv[2]))
    from pytest_imagebuild.worker.supervisor import main

    if not __package__:
        sys.path.append(sys.path.pop(0))
    sys.exit(main())
