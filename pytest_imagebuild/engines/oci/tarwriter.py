"""Headers of a tar: ustar, and PAX records for what a ustar header cannot hold. The same entry gives the same bytes.

Standard library only. Names are bytes, as the kernel has them. A number that is too large or negative is written in
GNU's binary form, which every reader of container images knows, so that a header without records is always one block.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_imagebuild.engines.oci.tarstream import Entry

__all__ = ["BLOCK", "END", "file_header", "header", "padding", "plain_file"]

BLOCK = 512
END = bytes(2 * BLOCK)
"""What a tar ends with."""

_MOST_NAME = 100
_NANOSECONDS = 10**9


def header(entry: Entry, device: tuple[int, int] = (0, 0)) -> bytes:
    """Return all that stands in front of the content of an entry. Times are in whole seconds, as Docker has them."""
    records: dict[bytes, bytes] = {}
    if _needs_record(entry.name):
        records[b"path"] = entry.name
    if _needs_record(entry.link):
        records[b"linkpath"] = entry.link
    records.update((b"SCHILY.xattr." + name, value) for name, value in sorted(entry.attributes.items()))
    block = _block(entry, device)
    if not records:
        return block
    content = b"".join(_record(key, value) for key, value in records.items())
    extended = _block(plain_file(b"PaxHeaders/" + entry.name[-60:], len(content), kind=b"x"), (0, 0))
    return extended + content + padding(len(content)) + block


def file_header(name: str, size: int) -> bytes:
    """Return the header of a plain file without owner or time. It is one block, whatever the size is."""
    return _block(plain_file(name.encode("ascii"), size), (0, 0))


def padding(size: int) -> bytes:
    """Return what fills the last block of a content."""
    return bytes(-size % BLOCK)


def plain_file(name: bytes, size: int, *, kind: bytes = b"0") -> Entry:
    """Return a file without owner or time."""
    attributes: Mapping[bytes, bytes] = {}
    return Entry(name=name, kind=kind, link=b"", size=size, mode=0o644, uid=0, gid=0, mtime=0, attributes=attributes)


def _needs_record(name: bytes) -> bool:
    return len(name) > _MOST_NAME or not name.isascii()


def _block(entry: Entry, device: tuple[int, int]) -> bytes:
    size = entry.size if entry.kind in (b"0", b"x") else 0
    fields = (
        _text(entry.name),
        _number(entry.mode, 8),
        _number(entry.uid, 8),
        _number(entry.gid, 8),
        _number(size, 12),
        _number(entry.mtime // _NANOSECONDS, 12),
        b" " * 8,
        entry.kind,
        _text(entry.link),
        b"ustar\x0000",
        bytes(64),
        _number(device[0], 8),
        _number(device[1], 8),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    # The checksum is that of the block with spaces in its own place.
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _text(text: bytes) -> bytes:
    # Where a record holds the whole, what stands here is for people.
    return text[:_MOST_NAME].ljust(_MOST_NAME, b"\0")


def _number(value: int, width: int) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    binary = bytearray(value.to_bytes(width, "big", signed=True))
    binary[0] |= 0x80
    return bytes(binary)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    # The length counts its own digits.
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
