"""Safe reading of untrusted files: only regular files are read, and reading and unpacking are limited in size."""

import errno
import os
import stat
import zipfile
import zlib
from io import BufferedReader
from pathlib import Path

_PIECE = 1 << 12
"""Bytes of a compressed file that are unpacked at a time; few, because zlib copies the rest after each member."""


class TooLargeError(OSError):
    """A file is larger than a limit, or unpacks to more."""

    def __init__(self, path: Path, most: int):
        super().__init__(errno.EFBIG, f"larger than {most >> 20} MiB, which no such file is", str(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; devices and pipes, which may block or never end, are rejected without waiting.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(opened, "rb")


def read_limited(path: Path, most: int) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        most: maximum size in bytes.

    Raises:
        OSError: as in `open_regular`, or the file is larger than `most`.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise TooLargeError(path, most)
    return content


def gunzip(path: Path, content: bytes, most: int) -> bytes:
    """Unpack a gzip file with one or several members; content before a truncation or trailing bytes is kept.

    Args:
        path: path of the file, for errors.
        content: content of the file.
        most: maximum unpacked size in bytes.

    Raises:
        TooLargeError: the content unpacks to more.
        zlib.error: the first member is damaged, or nothing precedes the truncation.
    """
    found, whole = bytearray(), 0
    member = zlib.decompressobj(wbits=31)
    try:
        for start in range(0, len(content), _PIECE):
            piece = content[start : start + _PIECE]
            while piece:
                if member.eof:
                    whole, member = len(found), zlib.decompressobj(wbits=31)
                found += member.decompress(piece, most + 1 - len(found))
                if len(found) > most:
                    raise TooLargeError(path, most)
                piece = member.unused_data
    except zlib.error:
        if not whole:
            raise
        del found[whole:]
    if not found and not member.eof:
        raise zlib.error("it ends before its first line")
    return bytes(found)


def refuse_inflating(archive: zipfile.ZipFile, size: int) -> None:
    """Check that a zip file stores all members uncompressed, and cannot unpack to more than its own size.

    Raises:
        zipfile.BadZipFile: a member is compressed, or all together claim more bytes than the file has.
    """
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise zipfile.BadZipFile("a member is compressed")
    if sum(member.file_size for member in members) > size:
        raise zipfile.BadZipFile("its members claim more bytes than the file has")
