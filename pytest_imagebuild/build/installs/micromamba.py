"""Conda packages with the image's micromamba.

Facts, from the sources of mamba 2.1.1 and 2.8.1:

- The report of `--dry-run --json` has `actions.LINK` and `actions.UNLINK`, lists of packages with `name`, `version`,
  `subdir`, `url` and, unless they lie in the cache already, `sha256` and `md5` (`MTransaction::log_json`, `to_json` of
  `PackageInfo`).
- A file that begins with `@EXPLICIT` is installed as it stands: one `URL#sha256:…` or `URL#md5` a line, verified before
  it is unpacked (`PackageInfo::from_url`, `PackageFetcher::validate`), linked in the order of the file. What the
  environment has under the same name is not taken away (`create_explicit_transaction_from_urls`).
- A setting is read from `MAMBA_` and its name, the folder of the cache from `CONDA_PKGS_DIRS` (`Configuration`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.steps.conda import MicromambaInstall
from pytest_imagebuild.image.wording import without_channel_logins
from pytest_imagebuild.lockfile import Pin

__all__ = ["CHANNEL_ALIAS", "MicromambaTool"]

CHANNEL_ALIAS = "https://conda.anaconda.org"
"""Where channels are that have no address. A lockfile names it wherever the packages came from in truth."""

# The first line says where names of channels led, because the lockfile must not depend on it.
_RESOLVE = """\
home=$(mktemp -d) || exit
export CONDA_PKGS_DIRS="$home"
plan=$(micromamba install {arguments} --yes --dry-run --json) || {{ code=$?; printf '%s\\n' "$plan" >&2; exit $code; }}
printf '%s\\n' "${{MAMBA_CHANNEL_ALIAS:-}}" "$plan"
"""

# Packages of the same name are taken away first, which a file of addresses does not do. The history of the environment
# then says what was asked for, as if micromamba had found the packages itself. Nothing that stays tells the login of a
# channel, the mirror of this host or the folder of the cache.
_INSTALL = """\
home=$(mktemp -d) || exit
export CONDA_PKGS_DIRS="$home/pkgs"
records={prefix}/conda-meta
cat > "$home/pins" <<'END-OF-PINS'
{lines}
END-OF-PINS
echo @EXPLICIT > "$home/explicit.txt"
alias=${{MAMBA_CHANNEL_ALIAS:-{default}}}
while read -r line; do
  case "$line" in
    {default}/*) line="${{alias%/}}/${{line#{default}/}}" ;;
  esac
  printf '%s\\n' "$line"
done < "$home/pins" >> "$home/explicit.txt" || exit
mkdir -p "$records" && touch "$records/history" && cp "$records/history" "$home/history" || exit
set +f
cat "$records"/*.json 2>/dev/null | sed -n 's/^ *"name": *"\\([^"]*\\)",\\{{0,1\\}}$/\\1/p' > "$home/installed"
set --
for name in {names}; do
  if grep -qxF -e "$name" "$home/installed"; then set -- "$@" "$name"; fi
done
[ $# -eq 0 ] || micromamba remove {target}--yes --force "$@" || exit
{install}before=$(wc -l < "$home/history")
{{
  cat "$home/history"
  tail -n "+$((before + 1))" "$records/history" | sed -e '/^# [a-z]* specs:/d' -e '/^# cmd:/d'
  printf '%s\\n' {asked}
}} > "$home/told" && cat "$home/told" > "$records/history" || exit
bare=$(printf '%s' "${{alias%/}}" | sed -e 's#://[^/@]*@#://#' -e 's#/t/[^/]*##' -e 's/[].[\\*^$#]/\\\\&/g')
find "$records" -type f -newer "$home/pins" | while read -r file; do
  sed -i -e 's#://[^/"@ ]*@#://#g' -e 's#\\(://[^" ]*\\)/t/[^/" ]*/#\\1/#g' -e "s#$bare/#{default}/#g" \\
    -e "s#$home/pkgs/[^\\\"]*/#$MAMBA_ROOT_PREFIX/pkgs/#g" -e "s#$home/pkgs/#$MAMBA_ROOT_PREFIX/pkgs/#g" "$file" || exit
done || exit
if [ -x {prefix}/bin/python ]; then
  {prefix}/bin/python -I - "$records" "$home/pkgs" << 'END-OF-REPAIR' || exit
{repair}END-OF-REPAIR
fi
rm -rf "$home"
"""

# micromamba before 2.3.3 notes no dependencies of what it installs from addresses (mamba pull request 4071), and would
# break these packages when it adds others.
_REPAIR = """\
import json, pathlib, sys
for told in pathlib.Path(sys.argv[2]).glob("**/info/index.json"):
    path = pathlib.Path(sys.argv[1], told.parts[-3] + ".json")
    record, index = json.loads(path.read_text()) if path.exists() else {}, json.loads(told.read_text())
    missing = {key: index[key] for key in ("depends", "constrains") if index.get(key) and record.get(key) == []}
    if missing:
        path.write_text(json.dumps({**record, **missing}, indent=4) + "\\n")
"""


@dataclass(frozen=True, slots=True)
class MicromambaTool:
    """micromamba, which reports what it would install. A pin without an address is a package that is taken away."""

    install: MicromambaInstall

    @property
    def name(self) -> str:
        """The name in the lockfile."""
        return "micromamba"

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for, without passwords."""
        asked = self.install
        spec_file = asked.remote_spec_file()
        return (
            *map(without_channel_logins, asked.packages),
            *([f"-f {spec_file}"] if spec_file else []),
            *(f"-c {without_channel_logins(channel)}" for channel in asked.channels),
        )

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:  # noqa: ARG002 - it keeps no versions
        """Return the script that prints what would be installed."""
        return _RESOLVE.format(arguments=self._arguments())

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from micromamba's report, in the order in which it links packages."""
        alias, _, report = printed.partition("\n")
        try:
            actions = json.loads(report).get("actions", {})
        except ValueError as error:
            raise ImageBuildError(
                f"micromamba_install: micromamba did not say what it would install: {report[:200]!r}."
            ) from error
        linked = actions.get("LINK", ())
        kept = {item["name"] for item in linked}
        gone = (item["name"] for item in actions.get("UNLINK", ()) if item["name"] not in kept)
        return (
            *(Pin(name=name, version="") for name in gone),
            *_pins(linked, without_channel_logins(alias).rstrip("/")),
        )

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`."""
        if not pins:
            return ":"
        lines = [self._line(pin) for pin in pins if pin.url]
        root = self.install.root or self.install.spec_file is not None
        target = "-n base " if root else ""
        install = f'micromamba install {target}--yes --file "$home/explicit.txt" || exit\n' if lines else ""
        return _INSTALL.format(
            lines="\n".join(lines),
            default=CHANNEL_ALIAS,
            prefix='"$MAMBA_ROOT_PREFIX"' if root else '"${CONDA_PREFIX:-$MAMBA_ROOT_PREFIX}"',
            names=shlex.join(pin.name for pin in pins),
            target=target,
            install=install,
            asked=shlex.join(self._history()),
            repair=_REPAIR,
        )

    def _arguments(self) -> str:
        return f"-n base {self.install.arguments()}" if self.install.root else self.install.arguments()

    def _history(self) -> list[str]:
        asked = [*map(without_channel_logins, self.install.packages), *map(without_channel_logins, self.install.specs)]
        command = f"# cmd: micromamba install {without_channel_logins(self._arguments())} --yes"
        return [command, *([f"# update specs: {json.dumps(asked)}"] if asked else [])]

    def _line(self, pin: Pin) -> str:
        url = pin.url
        for channel in self.install.channels:
            public = without_channel_logins(channel).rstrip("/")
            if public != channel.rstrip("/") and url.startswith(f"{public}/"):
                url = f"{channel.rstrip('/')}{url.removeprefix(public)}"
                break
        kind, _, value = (pin.hashes[0] if pin.hashes else "").partition(":")
        if "\n" in url + value:
            raise ImageBuildError(f"the lockfile has an address of {pin.name} that is none: {url!r}. Restore it.")
        return f"{url}#{value if kind == 'md5' else f'{kind}:{value}'}" if value else url


def _pins(linked: Sequence[Mapping[str, Any]], alias: str) -> Iterator[Pin]:
    for item in linked:
        url = without_channel_logins(item["url"])
        if alias and url.startswith(f"{alias}/"):
            url = f"{CHANNEL_ALIAS}{url.removeprefix(alias)}"
        hashes = (f"{kind}:{item[kind]}" for kind in ("sha256", "md5") if item.get(kind))
        yield Pin(
            name=item["name"],
            version=item["version"],
            architecture=item.get("subdir", ""),
            url=url,
            hashes=tuple(hashes)[:1],
        )
