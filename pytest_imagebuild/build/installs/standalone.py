"""A standalone CPython, as uv installs it, in an image that has none or another one."""

from __future__ import annotations

from pytest_imagebuild.build.installs.uv import UV

__all__ = ["standalone_script"]

# uv writes the place of the installation into what builds of extensions read, and a marker that keeps pip from it.
_SCRIPT = """\
home=$(mktemp -d) || exit
UV_PYTHON_DOWNLOADS=manual {uv} python install --no-bin --no-registry --install-dir "$home" cpython-{version} || exit
for found in "$home"/cpython-*; do
  [ -L "$found" ] || break
done
rm -f "$found"/BUILD "$found"/lib/python3*/EXTERNALLY-MANAGED || exit
grep -rlIF "$found" "$found" | while read -r file; do
  sed -i "s|$found|/usr/local|g" "$file" || exit
done || exit
mkdir -p /usr/local && cp -a "$found"/. /usr/local/ && rm -rf "$home"
"""


def standalone_script(version: str) -> str:
    """Return the script that puts a Python of a full version into `/usr/local`; uv verifies the download."""
    return _SCRIPT.format(uv=UV, version=version)
