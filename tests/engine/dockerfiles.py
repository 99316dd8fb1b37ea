"""Dockerfiles for the contract suite: what each instruction does, as every engine has to do it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_imagebuild.engines.entries import FILE_TIME, FileEntry

BASE = "python:3.13-slim-trixie"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A Dockerfile, its context, and whether the classic builder knows what is in it."""

    text: str
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    classic: bool = True
    same_as_classic: bool = True
    """False where the classic builder is known to do something else than BuildKit."""

    def context(self) -> tuple[FileEntry, ...]:
        folders = {
            "/".join(parts[:count]) + "/"
            for parts in (path.strip("/").split("/") for path in self.files)
            for count in range(1, len(parts))
        }
        entries = [FileEntry(path=f"/{path}", mode=0o755, data=b"") for path in folders]
        for path, content in self.files.items():
            if path.endswith("/"):
                entries.append(FileEntry(path=f"/{path}", mode=0o755, data=b""))
                continue
            data = content.encode() if isinstance(content, str) else content
            entries.append(FileEntry(path=f"/{path}", mode=self.modes.get(path, 0o644), data=data))
        return tuple(sorted({entry.path: entry for entry in entries}.values(), key=lambda entry: entry.path))


def archive(compression: Literal["gz", "bz2", "xz"] = "gz") -> bytes:
    """Return an archive that is the same in every process: gzip else tells when it was made."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, mode, owner in (("top", 0o750, 7), ("top/inner", 0o755, 0)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.uid, folder.gid, folder.mtime = (
                tarfile.DIRTYPE,
                mode,
                owner,
                owner,
                FILE_TIME,
            )
            tar.addfile(folder)
        member = tarfile.TarInfo("top/inner/file")
        member.size, member.mode, member.uid, member.gid, member.mtime = 3, 0o640, 12, 34, FILE_TIME
        tar.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("top/link")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "inner/file", FILE_TIME
        tar.addfile(link)
    match compression:
        case "gz":
            return gzip.compress(file.getvalue(), mtime=0)
        case "bz2":
            return bz2.compress(file.getvalue())
        case "xz":
            return lzma.compress(file.getvalue())


TREE = {
    "app/main.py": "print('hi')\n",
    "app/sub/data.txt": "data\n",
    "app/run.sh": "#!/bin/sh\necho ran\n",
    "other.txt": "o\n",
}
MODES = {"app/run.sh": 0o755}

CASES: Mapping[str, Case] = {
    "copy a file to a name": Case(text=f"FROM {BASE}\nCOPY other.txt /t/new/name.txt\n", files=TREE),
    "copy a file to a folder": Case(text=f"FROM {BASE}\nCOPY other.txt /t/folder/\n", files=TREE),
    "copy a file to a folder that is there": Case(
        text=f"FROM {BASE}\nRUN mkdir -p /t/x\nCOPY other.txt /t/x\n", files=TREE
    ),
    "copy the content of a folder": Case(
        text=f"FROM {BASE}\nCOPY app /t/app\nCOPY app/ /t/again/\n", files=TREE, modes=MODES
    ),
    "copy several sources": Case(text=f"FROM {BASE}\nCOPY app other.txt app/run.sh /t/\n", files=TREE, modes=MODES),
    "copy by a pattern": Case(text=f"FROM {BASE}\nCOPY app/*.[ps][yh] oth?r.txt /t/\n", files=TREE, modes=MODES),
    "copy what a pattern names, folders too": Case(text=f"FROM {BASE}\nCOPY a* /t/\n", files=TREE),
    "copy in JSON form": Case(
        text=f'FROM {BASE}\nCOPY ["with space.txt", "/t/to space/"]\n', files={"with space.txt": "x"}
    ),
    "copy everything": Case(text=f"FROM {BASE}\nWORKDIR /t\nCOPY . .\n", files=TREE, modes=MODES),
    "copy everything with an ignore file in it": Case(
        text=f"FROM {BASE}\nCOPY . /t/\n", files={".dockerignore": "a.txt\n", "a.txt": "a"}, same_as_classic=False
    ),
    "copy from the root of the context": Case(text=f"FROM {BASE}\nCOPY /app/main.py /t/\n", files=TREE),
    "copy an empty folder": Case(
        text=f"FROM {BASE}\nCOPY empty /t/empty\nCOPY full /t/full\n", files={"empty/": "", "full/in/": ""}
    ),
    "copy over a file": Case(text=f"FROM {BASE}\nRUN mkdir /t && echo old > /t/f\nCOPY other.txt /t/f\n", files=TREE),
    "copy into a folder through a link": Case(
        text=f"FROM {BASE}\nRUN mkdir -p /t/real && ln -s real /t/link && ln -s /t/real /t/absolute\n"
        "COPY other.txt /t/link/\nCOPY app /t/absolute\n",
        files=TREE,
    ),
    "copy over folders that are there": Case(
        text=f"FROM {BASE}\nRUN mkdir -p /t/sub && chmod 700 /t /t/sub && chown 5:6 /t/sub && touch /t/sub/kept\nCOPY app /t/\n",
        files=TREE,
    ),
    "copy with owners by number": Case(
        text=f"FROM {BASE}\nCOPY --chown=12:34 app /t/a/b/\nCOPY --chown=56 other.txt /t/c/\n",
        files=TREE,
        same_as_classic=False,
    ),
    "copy with owners by name": Case(
        text=f"FROM {BASE}\nCOPY --chown=games:mail app /t/\nCOPY --chown=games other.txt /u/t/\n", files=TREE
    ),
    "copy with a mode": Case(
        text=f"FROM {BASE}\nRUN mkdir /t\nCOPY --chmod=640 other.txt /t/\nCOPY --chmod=755 app /t/\n",
        files=TREE,
        classic=False,
    ),
    "copy from a stage": Case(
        text=f"FROM {BASE} AS build\nRUN mkdir -p /out/d && echo 1 > /out/f && chmod 600 /out/f && chown 7:8 /out/f /out/d && ln -s f /out/l "
        f"&& ln /out/f /out/d/hard\nFROM {BASE}\nCOPY --from=build /out /t/\nCOPY --from=0 /out/f /out/l /t2/\n",
        same_as_classic=False,
    ),
    "copy from an image": Case(
        text=f"FROM {BASE}\nCOPY --from=debian:trixie /etc/debian_version /etc/os-release /t/\n"
    ),
    "copy what a later stage removed": Case(
        text=f"FROM {BASE} AS a\nRUN mkdir -p /t/gone /t/again && touch /t/gone/x /t/kept /t/again/old\nFROM a AS b\n"
        "RUN rm -r /t/gone && rm -r /t/again && mkdir /t/again && touch /t/again/new\n"
        f"FROM {BASE}\nCOPY --from=b /t /t\n",
    ),
    "a stage on a stage": Case(
        text=f"FROM {BASE} AS a\nENV X=1\nWORKDIR /t\nRUN echo a > a\nFROM a AS b\nRUN echo $X > b && rm a && echo c > c\nFROM b\nRUN cat b c > d\n"
    ),
    "only the target is made": Case(
        text=f"FROM {BASE} AS one\nRUN mkdir /t && touch /t/one\nFROM {BASE} AS two\nRUN exit 3\n", target="one"
    ),
    "a stage that nothing needs is not made": Case(text=f"FROM {BASE} AS one\nRUN exit 3\nFROM {BASE}\nRUN mkdir /t\n"),
    "from scratch": Case(text="FROM scratch\nCOPY app /t/\nENV A=1\n", files=TREE, same_as_classic=False),
    "add unpacks archives": Case(
        text=f"FROM {BASE}\nADD a.tar.gz /t/gz\nADD a.tar.bz2 a.tar.xz /t/more/\nADD plain.txt /t/\nCOPY a.tar.gz /t/\n",
        files={"a.tar.gz": archive(), "a.tar.bz2": archive("bz2"), "a.tar.xz": archive("xz"), "plain.txt": "p"},
    ),
    "add keeps what is no archive": Case(
        text=f"FROM {BASE}\nADD a.gz /t/\n", files={"a.gz": b"\x1f\x8bnot an archive"}
    ),
    "here-documents": Case(
        text=f"FROM {BASE}\nENV V=val\nRUN <<EOF\nmkdir /t\necho $V > /t/run\nEOF\nRUN <<EOF cat > /t/cat\nfirst $V\nEOF\n"
        "COPY <<EOF <<'RAW' /t/\nexpanded $V \"quoted\" \\$V\nEOF\nraw $V\nRAW\n"
        "RUN <<-EOF\n\tcat <<X > /t/tabs\n\tin\n\tX\nEOF\n"
        "RUN <<EOF\n#!/usr/local/bin/python3\nopen('/t/python', 'w').write('py')\nEOF\nCOPY --chown=1:2 <<F /t/name.txt\nx\nF\n",
        classic=False,
    ),
    "variables": Case(
        text="ARG TAG=3.13-slim-trixie\nARG ONLY=outer\nFROM python:${TAG}\nARG ONLY\nARG A=default\nARG B\nARG C=${A}-c\nENV E=$A F=\"two words\" G='lit $A' H=a\\ b\n"
        'ENV OLD form value\nENV E2=$E E=new E3=$E\nRUN mkdir /t; echo "$ONLY|$A|$B|$C|$E|$F|$G|$H|$OLD|$E2|$E3" > /t/vars\n'
        "WORKDIR /t/${MISSING:-fallback}/${A:+set}\nLABEL l=${A} m='$A' \"n o\"=p\nENV A=env\nRUN echo $A > a\n"
        "COPY $ONLY.txt ${X:-/t/}x\nEXPOSE ${PORT:-80} 90/udp\nUSER ${WHO:-games}\nSTOPSIGNAL ${SIG:-SIGINT}\nVOLUME $A\n",
        files={"outer.txt": "o"},
        build_args={"B": "given"},
    ),
    "users": Case(
        text=f"FROM {BASE}\nRUN mkdir /t && chmod 777 /t\nUSER games\nWORKDIR /t/made/deep\nRUN id > /t/id && touch /t/mine && echo $HOME >> /t/id && pwd >> /t/id\n"
        "USER 1234\nRUN id -u > /t/id2 && id -g >> /t/id2 && echo $HOME >> /t/id2\nUSER 12:34\nRUN id -u > /t/id3 && id -g >> /t/id3\n"
        "USER root\nRUN id >> /t/id\nUSER games:mail\nRUN id -g > /t/id4\nCOPY other.txt /t/copied\n",
        files=TREE,
        same_as_classic=False,
    ),
    "shells and forms": Case(
        text=f'FROM {BASE}\nRUN ["mkdir", "/t"]\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN echo $BASH_VERSION | wc -l > /t/b; set -o | grep pipefail >> /t/b\n'
        "RUN echo one && \\\n    # a comment\n\n    echo two > /t/two\nCMD echo $HOME\nENTRYPOINT exec top\n"
    ),
    "configuration": Case(
        text=f'FROM {BASE}\nCMD ["a", "b"]\nENTRYPOINT ["/bin/e", "f"]\nEXPOSE 80 81/udp 8000-8002\nVOLUME ["/v 1", "/v2"]\nVOLUME /v3 /v4\n'
        "STOPSIGNAL SIGTERM\nHEALTHCHECK --interval=1m30s --timeout=3s --start-period=5s --retries=2 CMD test -e /x\n"
        'LABEL a=b "c d"="e f" g="h\\\ni"\nLABEL old style\nONBUILD RUN echo x\nONBUILD COPY a b\nMAINTAINER me\nUSER 12:34\nWORKDIR a\nWORKDIR b/../c\n'
    ),
    "a healthcheck in JSON form": Case(text=f'FROM {BASE}\nHEALTHCHECK CMD ["a", "b"]\n'),
    "no healthcheck": Case(text=f"FROM {BASE}\nHEALTHCHECK NONE\n"),
    "an entrypoint forgets the command below": Case(text=f'FROM {BASE} AS a\nCMD ["x"]\nFROM a\nENTRYPOINT ["/e"]\n'),
    "an entrypoint keeps its own command": Case(text=f'FROM {BASE}\nCMD ["x"]\nENTRYPOINT ["/e"]\n'),
    "mounts": Case(
        text=f"FROM {BASE} AS other\nRUN mkdir -p /o/d && echo from > /o/d/f\nFROM {BASE}\n"
        "RUN --mount=type=bind,target=/ctx --mount=type=bind,source=app,target=/a,rw mkdir /t && cat /ctx/app/main.py > /t/main && echo w > /a/new\n"
        "RUN --mount=type=bind,from=other,source=/o,target=/mnt/o cat /mnt/o/d/f > /t/f\n"
        "RUN --mount=type=cache,target=/var/c echo kept > /var/c/k\nRUN --mount=type=cache,target=/var/c cp /var/c/k /t/k\n"
        "RUN --mount=type=tmpfs,target=/var/tt echo x > /var/tt/x && ls -A /var/tt > /t/ls\nRUN ls -A /ctx /a /mnt /var/c /var/tt > /t/after 2>/dev/null; ls -d /ctx /mnt/o > /t/gone 2>&1; true\n",
        files=TREE,
        classic=False,
    ),
    "secrets": Case(
        text=f"FROM {BASE}\nRUN --mount=type=secret,id=TOKEN mkdir /t && sha256sum < /run/secrets/TOKEN > /t/sum && stat -c '%a %u' /run/secrets/TOKEN >> /t/sum\n"
        "RUN --mount=type=secret,id=TOKEN,target=/t/secret,mode=0444 sha256sum < /t/secret > /t/sum2\n"
        'RUN --mount=type=secret,id=ABSENT ls /run/secrets/ABSENT; printf %s "$TOKEN" | sha256sum > /t/sum3; printf %s "$STEP" > /t/step; test ! -e /t/secret\n',
        secrets={"TOKEN": "a very secret value"},
        environment={"STEP": 'it\'s $here\nand "there"'},
        classic=False,
    ),
    "variables of the step in every form": Case(
        text=f'FROM {BASE}\nRUN mkdir /t\nRUN ["/bin/sh", "-c", "echo $STEP > /t/exec"]\nSHELL ["/bin/bash", "-c"]\nRUN echo $STEP $0 > /t/shell\n'
        'USER games\nRUN test "$STEP" = given\nUSER root\nRUN <<EOF\n#!/bin/sh\necho $STEP > /t/program\nEOF\nRUN <<EOF cat > /t/document\nx $STEP\nEOF\n',
        environment={"STEP": "given"},
        classic=False,
    ),
    "no network": Case(
        text=f"FROM {BASE}\nRUN --network=none mkdir /t && cut -d: -f1 /proc/net/dev > /t/net\n",
        classic=False,
        same_as_classic=False,
    ),
    "escape by a backtick": Case(
        text=f'# escape=`\nFROM {BASE}\nENV A=`$B C=\\d\nRUN mkdir /t && `\n  echo "$A $C" > /t/a\n'
    ),
    "a frontend that is named": Case(text=f"# syntax=docker/dockerfile:1\n# escape=`\nFROM {BASE}\nRUN mkdir `\n /t\n"),
}
