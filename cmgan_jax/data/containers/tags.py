"""Tags before, between and after recordings (ID3, APE and Lyrics3), and padding."""

from cmgan_jax.data.containers.parts import Reader

_ID3V1, _ID3V1_MORE = 128, 227
_APE = b"APETAGEX"
_APE_HAS_HEADER = 2**31


def front(file: Reader) -> int:
    """Return where the ID3 tag at the beginning of a file ends; 0 where it has none."""
    head = file.at(0, 10)
    return min(file.size, _id3_size(head)) if _is_id3(head) else 0


def skip(file: Reader, at: int, stop: int) -> int:
    """Find the next position that holds neither a tag nor zeros."""
    while at < stop:
        head = file.at(at, 32)
        if _is_id3(head):
            at += _id3_size(head)
        elif head[:8] == _APE and len(head) == 32:
            at += 32 + int.from_bytes(head[12:16], "little")
        elif head[:4] == b"TAG+":
            at += _ID3V1_MORE
        elif head[:3] == b"TAG":
            at += _ID3V1
        elif head[:1] == b"\0":
            at = _zeros(file, at, stop)
        else:
            break
    return min(at, stop)


def tail(file: Reader) -> int:
    """Find where the tags at the end of a file begin."""
    stop = file.size
    while True:
        before = stop
        if file.at(max(stop - _ID3V1, 0), 3) == b"TAG" and stop >= _ID3V1:
            stop -= _ID3V1
        if file.at(max(stop - _ID3V1_MORE, 0), 4) == b"TAG+" and stop >= _ID3V1_MORE:
            stop -= _ID3V1_MORE
        if file.at(max(stop - 9, 0), 9) == b"LYRICS200" and stop >= 15 and file.at(stop - 15, 6).isdigit():
            stop = max(0, stop - 15 - int(file.at(stop - 15, 6)))
        footer = file.at(max(stop - 32, 0), 32) if stop >= 32 else b""
        if footer[:8] == _APE:
            has_header = int.from_bytes(footer[20:24], "little") & _APE_HAS_HEADER
            stop = max(0, stop - int.from_bytes(footer[12:16], "little") - 32 * bool(has_header))
        footer = file.at(stop - 10, 10) if stop >= 10 else b""
        if footer[:3] == b"3DI" and max(footer[6:10]) < 0x80:
            stop = max(0, stop - 20 - _syncsafe(footer[6:10]))
        if stop == before:
            return stop


def _is_id3(head: bytes) -> bool:
    return head[:3] == b"ID3" and len(head) >= 10 and max(head[3:5]) < 0xFF and max(head[6:10]) < 0x80


def _id3_size(head: bytes) -> int:
    return 10 + _syncsafe(head[6:10]) + 10 * bool(head[5] & 0x10)


def _syncsafe(digits: bytes) -> int:
    return digits[0] << 21 | digits[1] << 14 | digits[2] << 7 | digits[3]


def _zeros(file: Reader, at: int, stop: int) -> int:
    while at < stop:
        block = file.at(at, 65_536)
        rest = block.lstrip(b"\0")
        at += len(block) - len(rest)
        if rest or not block:
            break
    return at
