"""Reads a tar from a stream: ustar, PAX and GNU headers, strictly and with bounds. Standard library only.

`tarfile` is not used for what strangers wrote: it ends without a word at a damaged header, holds extended headers of
any size in memory, and has had endless loops. Names stay bytes, as the kernel has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Entry", "Tar", "TarError"]

_BLOCK = 512
_MOST_HEADER = 1024 * 1024
_MOST_PIECES = 100_000
_EMPTY = bytes(_BLOCK)
_REGULAR, _HARDLINK, _SYMLINK, _FOLDER, _FIFO = b"0", b"1", b"2", b"5", b"6"
_DEVICES = (b"3", b"4")
_NUMBER = re.compile(rb"[ \0]*([0-7]*)[ \0]*")


class TarError(Exception):
    """A tar is damaged, or of a form that is not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One member. `kind` is its type flag: `0` file, `1` hard link, `2` symlink, `3` `4` device, `5` folder, `6` fifo.

    `size` is that of the content in the file system; `mtime` is in nanoseconds.
    """

    name: bytes
    kind: bytes
    link: bytes
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    attributes: Mapping[bytes, bytes]
    is_sparse: bool = False

    @property
    def is_file(self) -> bool:
        """Say whether it has content."""
        return self.kind == _REGULAR

    @property
    def is_folder(self) -> bool:
        """Say whether it is a folder."""
        return self.kind == _FOLDER

    @property
    def is_hardlink(self) -> bool:
        """Say whether it is another name of an earlier entry."""
        return self.kind == _HARDLINK

    @property
    def is_symlink(self) -> bool:
        """Say whether it is a symbolic link."""
        return self.kind == _SYMLINK

    @property
    def is_fifo(self) -> bool:
        """Say whether it is a named pipe."""
        return self.kind == _FIFO

    @property
    def is_device(self) -> bool:
        """Say whether it is a device node."""
        return self.kind in _DEVICES


class Tar:
    """Iterates over entries. `read(n)` of the source returns 1 to n bytes, b"" at its end.

    The content of an entry is to be taken, with `content`, before the next entry; what is left of it is skipped.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = 0
        self._padding = 0
        self._pieces: tuple[tuple[int, int], ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        extended: dict[bytes, bytes] = {}
        extended_size = 0
        while (block := self._next_block()) is not None:
            kind, size = block[156:157], _number(block[124:136])
            if kind in b"xgLK":
                extended_size += size
                self._extend(extended, kind, size, extended_size)
                continue
            yield self._entry(block, kind, size, extended)
            extended, extended_size = {}, 0
        if extended:
            raise TarError("it ends after an extended header")

    def content(self) -> Iterator[tuple[int, bytes]]:
        """Yield the parts of the content, each with the offset at which it stands."""
        for offset, length in self._pieces:
            done = 0
            while done < length:
                part = self._some(min(length - done, self._left, 1 << 20))
                self._left -= len(part)
                yield offset + done, part
                done += len(part)

    def _next_block(self) -> bytes | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        self._pieces = ()
        block = self._read(_BLOCK)
        if not block:
            return None
        block += self._exactly(_BLOCK - len(block))
        if block == _EMPTY:
            return None
        stored = _number(block[148:156])
        # The checksum is that of the block with spaces in its own place.
        if sum(block) - sum(block[148:156]) + 256 != stored:
            raise TarError("a header has a wrong checksum")
        return block

    def _extend(self, extended: dict[bytes, bytes], kind: bytes, size: int, size_of_all: int) -> None:
        if size < 0 or size_of_all > _MOST_HEADER:
            raise TarError(f"the extended headers of an entry have {size_of_all} bytes; {_MOST_HEADER} are the most")
        data = self._exactly(size)
        self._skip(-size % _BLOCK)
        match kind:
            case b"x":
                extended.update(_pax(data))
            case b"L":
                extended[b"path"] = data.partition(b"\0")[0]
            case b"K":
                extended[b"linkpath"] = data.partition(b"\0")[0]

    def _entry(self, block: bytes, kind: bytes, size: int, extended: dict[bytes, bytes]) -> Entry:
        name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or _name(block)
        if kind in (b"\0", b"7", b"S"):
            is_old_folder = kind == b"\0" and name.endswith(b"/")
            kind, gnu_sparse = (_FOLDER if is_old_folder else _REGULAR), kind == b"S"
        else:
            gnu_sparse = False
        if kind not in (_REGULAR, _HARDLINK, _SYMLINK, *_DEVICES, _FOLDER, _FIFO):
            raise TarError(f"{name!r} is of the type {kind!r}, which is not known")
        if b"size" in extended:
            size = _decimal(extended[b"size"])
        if size < 0:
            raise TarError(f"{name!r} has a negative size")
        # Other kinds may note a size, but no content follows.
        self._left = size if kind == _REGULAR else 0
        self._padding = -self._left % _BLOCK
        real = self._set_pieces(block, self._left, extended, gnu_sparse=gnu_sparse)
        return Entry(
            name=name,
            kind=kind,
            link=extended.get(b"linkpath") or block[157:257].partition(b"\0")[0],
            size=real,
            mode=_number(block[100:108]),
            uid=_decimal(extended[b"uid"]) if b"uid" in extended else _number(block[108:116]),
            gid=_decimal(extended[b"gid"]) if b"gid" in extended else _number(block[116:124]),
            mtime=_nanoseconds(extended[b"mtime"]) if b"mtime" in extended else _number(block[136:148]) * 10**9,
            attributes={key[13:]: value for key, value in extended.items() if key.startswith(b"SCHILY.xattr.")},
            is_sparse=gnu_sparse or b"GNU.sparse.realsize" in extended or b"GNU.sparse.size" in extended,
        )

    def _set_pieces(self, block: bytes, stored: int, extended: Mapping[bytes, bytes], *, gnu_sparse: bool) -> int:
        """Note where the parts of the content stand; return the size of the whole."""
        if gnu_sparse:
            numbers, real = self._gnu_map(block), _number(block[483:495])
        elif b"GNU.sparse.major" in extended:
            if (extended[b"GNU.sparse.major"], extended.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise TarError("a sparse file is of a form that is not known")
            real = _decimal(extended.get(b"GNU.sparse.realsize", b""))
            numbers = self._map_before_content()
        elif b"GNU.sparse.map" in extended:
            real = _decimal(extended.get(b"GNU.sparse.size", b""))
            numbers = [_decimal(part) for part in extended[b"GNU.sparse.map"].split(b",")]
        elif b"GNU.sparse.size" in extended:
            raise TarError("a sparse file is of a form that is not known")
        else:
            self._pieces = ((0, stored),)
            return stored
        self._pieces = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        at = 0
        for offset, length in self._pieces:
            if offset < at:
                raise TarError("the parts of a sparse file overlap")
            at = offset + length
        if at > real or sum(length for _, length in self._pieces) != self._left:
            raise TarError("the parts of a sparse file do not make up its size")
        return real

    def _gnu_map(self, block: bytes) -> list[int]:
        numbers = _map_entries(block[386:482], 4)
        more = block[482]
        while more:
            block = self._exactly(_BLOCK)
            numbers += _map_entries(block[:504], 21)
            more = block[504]
            if len(numbers) > _MOST_PIECES:
                raise TarError("a sparse file has too many parts")
        return numbers

    def _map_before_content(self) -> list[int]:
        lines: list[bytes] = []
        rest, wanted = b"", 1
        while len(lines) < wanted:
            if self._left < _BLOCK:
                raise TarError("the map of a sparse file is cut off")
            *found, rest = (rest + self._exactly(_BLOCK)).split(b"\n")
            self._left -= _BLOCK
            lines += found
            if len(rest) > _BLOCK or (lines and (wanted := 1 + 2 * _decimal(lines[0])) > _MOST_PIECES):
                raise TarError("a sparse file has too many parts")
        return [_decimal(line) for line in lines[1:wanted]]

    def _some(self, size: int) -> bytes:
        part = self._read(size)
        if not part:
            raise TarError("it ends in the middle of an entry")
        return part

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._some(min(size, 1 << 20)))


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    # GNU's own format uses the place of the prefix for other things.
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes) -> int:
    """Read an octal number, or GNU's binary one."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        # Two's complement, of which the topmost bit only marks the form.
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    match = _NUMBER.fullmatch(field)
    if match is None:
        raise TarError(f"a header has {field!r} in the place of a number")
    return int(match[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError(f"an extended header has {text[:30]!r} in the place of a number")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    match = re.fullmatch(rb"(-?)([0-9]{1,15})(?:\.([0-9]*))?", text)
    if match is None:
        raise TarError(f"an extended header has {text[:30]!r} in the place of a time")
    value = int(match[2]) * 10**9 + int((match[3] or b"").ljust(9, b"0")[:9])
    return -value if match[1] else value


def _map_entries(data: bytes, count: int) -> list[int]:
    numbers: list[int] = []
    for at in range(0, count * 24, 24):
        if data[at] == 0:
            break
        numbers += (_number(data[at : at + 12]), _number(data[at + 12 : at + 24]))
    return numbers


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of records such as `30 mtime=1350244992.023960108` and a newline."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 20].partition(b" ")
        end = at + (_decimal(digits) if space else 0)
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if not equals or not key or not value.endswith(b"\n") or end > len(data):
            raise TarError("an extended header is damaged")
        yield key, value[:-1]
        at = end
