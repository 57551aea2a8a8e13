"""Downloads a CIFAR archive from the first of its sources that is quick and right.

CIFAR's own server takes up to an hour. The md5 of the published file tells a copy of it from
anything else.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator

import requests
import urllib3

from cifar_cnn.checks import MachineError, printable
from cifar_cnn.datasets.faults import brief
from cifar_cnn.datasets.flavours import Flavour

_CONNECT_SECONDS = 20
# A source is given up when it sends less over so long, unless it is the last one: that may be slow,
# but not silent.
_SLOW_BYTES_PER_SECOND = 200_000
_SLOW_SECONDS = 10
_SILENCE_SECONDS = 60
_REDIRECTS = 5
_LARGEST_BYTES = 200_000_000  # The published ones have 170.
_BLOCK_BYTES = 1 << 18
# Between two reports on a terminal, and elsewhere.
_REPORT_SECONDS = (0.5, 30)


class _SourceError(Exception):
    """Says why a source did not give the file."""


def fetch(
    flavour: Flavour, workshop: pathlib.Path, kept: pathlib.Path, say: Callable[[str], None]
) -> pathlib.Path:
    """Returns the path of a published archive: of an earlier download, or made now.

    Args:
        flavour: which one; its sources are tried in turn.
        workshop: temporary folder for what is under way.
        kept: folder where the whole file stays, so that it is downloaded once.
        say: receives a line about each source, and lines of progress where there is no terminal.

    Raises:
        MachineError: no source gave the file; it names each of them and why.
        OSError: the disk failed.
    """
    target, partial = kept / flavour.archive, workshop / flavour.archive
    if target.is_file():
        with open(target, "rb") as file:
            if hashlib.file_digest(file, _md5).hexdigest() == flavour.md5:
                say(f"using {target}, which was downloaded before")
                return target
        say(f"{target} is not the published file (md5 {flavour.md5}): downloading it again")
    failures = []
    for url in flavour.sources:
        host = urllib.parse.urlsplit(url).hostname
        say(f"downloading {flavour.archive}, about 170 MB, from {host}")
        last = url == flavour.sources[-1]
        try:
            megabytes, seconds = _download(url, partial, flavour.md5, say, patient=last)
        except _SourceError as error:
            failures.append(printable(f"{host}: {error}"))
            say(f"gave up {failures[-1]}" + ("" if last else "; trying the next source"))
            continue
        kept.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        say(f"downloaded {megabytes:.1f} MB from {host} in {seconds:.0f} s; the md5 is right")
        return target
    raise MachineError(
        f"no source gives {flavour.archive} ({'; '.join(failures)}); check the network and try "
        "again, or give an archive that is on disk with --archive=PATH"
    )


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


@dataclasses.dataclass
class _Meter:
    """Measures a rate again and again, each time over `seconds` or a little more."""

    seconds: float
    start: float = dataclasses.field(default_factory=time.monotonic)
    count: int = 0

    def rate(self, count: int) -> float | None:
        """Counts bytes; returns bytes/s whenever it is time, else None."""
        self.count += count
        elapsed = time.monotonic() - self.start
        if elapsed < self.seconds:
            return None
        rate = self.count / max(elapsed, 1e-9)
        self.start, self.count = self.start + elapsed, 0
        return rate


def _download(
    url: str, path: pathlib.Path, md5: str, say: Callable[[str], None], *, patient: bool
) -> tuple[float, float]:
    """Writes the file at `url` to `path`, and shows how it goes.

    Args:
        url: of the file.
        path: is overwritten.
        md5: that the file has to have.
        say: receives progress where there is no terminal.
        patient: whether a slow source is borne with.

    Returns:
        MB and seconds.

    Raises:
        _SourceError: it is not there, stays away, is slow, ends early or is another file.
    """
    host = urllib.parse.urlsplit(url).hostname
    digest, done, start = _md5(), 0, time.monotonic()
    pace = _Meter(_SLOW_SECONDS)
    silence = _SILENCE_SECONDS if patient else _SLOW_SECONDS
    with (
        open(path, "wb") as file,
        _shown(say) as show,
        contextlib.closing(_blocks(url, silence)) as blocks,
    ):
        for block, total in blocks:
            file.write(block)
            digest.update(block)
            done += len(block)
            show(host, len(block), done, total)
            rate = pace.rate(len(block))
            if not patient and rate is not None and rate < _SLOW_BYTES_PER_SECOND:
                raise _SourceError(f"slow ({_speed(rate)}, {_share(done, total)})")
            if done > _LARGEST_BYTES:
                raise _SourceError(f"it sends more than {_LARGEST_BYTES / 1e6:.0f} MB")
    if digest.hexdigest() != md5:
        raise _SourceError(
            f"not the published file ({done:,} bytes, md5 {digest.hexdigest()}, expected {md5})"
        )
    return done / 1e6, time.monotonic() - start


def _blocks(url: str, silence: float) -> Iterator[tuple[bytes, int | None]]:
    """Yields bytes as soon as they come, each time with the size of the whole file or None.

    Raises:
        _SourceError: whatever the network or the server does.
    """
    done, total = 0, None
    try:
        with requests.Session() as session:
            session.max_redirects = _REDIRECTS
            # The archive as it is: servers may compress it again, clients unpack it.
            session.headers["Accept-Encoding"] = "identity"
            timeout = (min(_CONNECT_SECONDS, silence), silence)
            with session.get(url, stream=True, timeout=timeout) as response:
                if response.status_code != requests.codes.ok:
                    raise _SourceError(f"HTTP {response.status_code}")
                total = int(response.headers.get("Content-Length", 0)) or None
                # Of requests' own readers each waits until a block is full, however long it takes.
                while block := response.raw.read1(_BLOCK_BYTES, decode_content=False):
                    done += len(block)
                    yield block, total
    except urllib3.exceptions.ProtocolError as error:
        raise _SourceError(f"the connection broke off ({_share(done, total)})") from error
    # Of a redirect to what is no address, too.
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        so_far = f" ({_share(done, total)})" if done else ""
        raise _SourceError(f"{brief(error)}{so_far}") from error


@contextlib.contextmanager
def _shown(say: Callable[[str], None]) -> Iterator[Callable[[str, int, int, int | None], None]]:
    """Yields what shows size, rate, seconds left and host now and then: on a terminal in one line
    that is gone at the end, elsewhere in lines for `say`."""
    terminal = sys.stderr.isatty()
    meter = _Meter(_REPORT_SECONDS[not terminal])

    def show(host: str, count: int, done: int, total: int | None) -> None:
        rate = meter.rate(count)
        if rate is None:
            return
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        # The host last: in a narrow terminal it is what may be cut off.
        line = f"{_share(done, total)}, {_speed(rate)}{left}, from {host}"
        if terminal:
            print(f"\r{line:<79.79}", end="", file=sys.stderr, flush=True)
        else:
            say(line)

    try:
        yield show
    finally:
        if terminal:
            print(f"\r{'':<79}\r", end="", file=sys.stderr, flush=True)


def _share(done: int, total: int | None) -> str:
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"


def _speed(rate: float) -> str:
    return f"{rate / 1e6:.2f} MB/s"
