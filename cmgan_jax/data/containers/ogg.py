"""Ogg: streams of pages, one after another (chained) or interleaved (grouped)."""

from dataclasses import dataclass, field

from cmgan_jax.data.containers.parts import CONVERT, COPY_AGAIN, ContainerError, Part, Reader, Span

MAGIC = b"OggS"
"""Magic bytes of every page."""
_HEAD = 27
_FIRST, _LAST = 2, 4
_FLAC = b"\x7fFLAC"
_AUDIO = (b"\x01vorbis", b"OpusHead", _FLAC, b"Speex   ", b"PCM     ")


@dataclass
class _Stream:
    """One logical stream of a link, which is a section of a chained file.

    Attributes:
        first: the beginning of its first packet, which identifies the codec.
        spans: the stream's pages; adjacent ones are joined.
        payloads: contents of the pages, for FLAC only.
        page: number of its last page.
        ended: whether that page is marked as the last.
        granules: granule positions of the first audio page, the last but one, and the last.
    """

    first: bytes
    spans: list[Span] = field(default_factory=list)
    payloads: list[Span] = field(default_factory=list)
    page: int = -1
    ended: bool = False
    granules: tuple[int, ...] = ()


def parse(file: Reader, start: int, stop: int) -> Part | None:
    """Parse the link that begins at `start`: its pages up to the next link.

    Raises:
        ContainerError: its end or pages are missing, or it holds several streams of audio.
    """
    streams: dict[int, _Stream] = {}
    at, beginning = start, True
    while at < stop and (head := file.at(at, _HEAD))[:4] == MAGIC:
        serial = int.from_bytes(head[14:18], "little")
        segments = file.at(at + _HEAD, head[26]) if len(head) == _HEAD else b""
        end = at + _HEAD + len(segments) + sum(segments)
        if len(head) < _HEAD or len(segments) < head[26] or end > stop:
            raise ContainerError(f"cut short: it ends within a page; {COPY_AGAIN}")
        first, page = head[5] & _FIRST, int.from_bytes(head[18:22], "little")
        if first and not beginning:
            break
        beginning = bool(first)
        if first:
            streams[serial] = _Stream(file.at(at + _HEAD + len(segments), sum(segments)))
        elif serial not in streams:
            raise ContainerError(f"damaged: the page at byte {at} is of a stream that never began; {CONVERT}")
        stream = streams[serial]
        if stream.page >= 0 and page != (stream.page + 1) % 2**32:
            raise ContainerError(f"damaged: pages are missing before byte {at}; {COPY_AGAIN}")
        stream.page, stream.ended = page, bool(head[5] & _LAST)
        granule = int.from_bytes(head[6:14], "little")
        if 0 < granule < 2**63:
            stream.granules = (*stream.granules[:1], *stream.granules[-1:], granule)
        if stream.spans and stream.spans[-1].stop == at:
            stream.spans[-1] = Span(stream.spans[-1].start, end)
        else:
            stream.spans.append(Span(at, end))
        if stream.first.startswith(_FLAC):
            stream.payloads.append(Span(at + _HEAD + len(segments), end))
        at = end
    audio = [stream for stream in streams.values() if stream.first.startswith(_AUDIO)]
    if len(audio) > 1:
        raise ContainerError(
            f"holds {len(audio)} streams of audio side by side: choose one, e.g. ffmpeg -i IN -map 0:a:0 OUT.wav"
        )
    if not audio:
        return None
    if not audio[0].ended:
        raise ContainerError(f"cut short: the page that ends its stream is missing; {COPY_AGAIN}")
    if audio[0].first.startswith(_FLAC) and audio[0].first[9:13] == b"fLaC" and len(audio[0].first) == 51:
        return Part(_native_flac(audio[0]), at)
    # A seek within the last page is unreliable in libvorbis, as that page is truncated at the end.
    first, before, *_ = audio[0].granules if len(audio[0].granules) == 3 else (0, 0)
    return Part(
        tuple(audio[0].spans), at, sure=before - first, as_it_is=len(streams) == 1 and start == 0 and at == file.size
    )


def _native_flac(stream: _Stream) -> tuple[bytes | Span, ...]:
    """Unwrap FLAC packets from Ogg, which libsndfile does not read; the packets are the content of a FLAC file."""
    head = stream.first[9:]
    total = stream.granules[-1] % 2**36 if stream.granules else 0
    # In the stream info, 21 bytes after its marker: four bits of another number, then 36 bits of the total.
    head = head[:21] + (head[21] << 32 & 0xF0_0000_0000 | total).to_bytes(5, "big") + head[26:]
    return head, *stream.payloads[1:]
