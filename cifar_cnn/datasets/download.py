"""Downloads that end: TFDS's own have no timeout and cannot be interrupted."""

import contextlib
import logging
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import requests

_CONNECT_SECONDS = 20
_SILENCE_SECONDS = 60
_RETRIES = 2
_REPORT_SECONDS = 30


@contextlib.contextmanager
def bounded_downloads(say: Callable[[str], None], *, report: bool) -> Iterator[None]:
    """Gives every HTTP request made inside a timeout, few retries, and an end when left.

    TFDS makes its requests deep inside, in threads that Python waits for at exit, hence the patch
    of the transport that all of them share.

    Args:
        say: receives the progress of downloads in lines, where there is no bar.
        report: whether to do so.
    """
    send = requests.adapters.HTTPAdapter.send
    left = threading.Event()
    responses: list[requests.Response] = []

    def bounded_send(self: Any, request: Any, **options: Any) -> requests.Response:
        options["timeout"] = (_CONNECT_SECONDS, _SILENCE_SECONDS)
        self.max_retries = self.max_retries.new(total=_RETRIES)
        response = send(self, request, **options)
        responses.append(response)
        blocks = response.iter_content

        def watched_blocks(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            done, reported = 0, time.monotonic()
            total = int(response.headers.get("Content-Length", 0))
            for block in blocks(*args, **kwargs):
                if left.is_set():
                    raise requests.ConnectionError("interrupted")
                done += len(block)
                if report and time.monotonic() - reported > _REPORT_SECONDS:
                    reported = time.monotonic()
                    of = f" of {total / 1e6:.0f}" if total else ""
                    host = urllib.parse.urlsplit(response.url).hostname
                    say(f"downloaded {done / 1e6:.0f}{of} MB from {host}")
                yield block

        response.iter_content = watched_blocks
        return response

    # It warns of every retry; what comes of them is told in one line in the end. Not set back,
    # because threads may go on for a moment.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    requests.adapters.HTTPAdapter.send = bounded_send
    try:
        yield
    finally:
        left.set()
        for response in responses:
            # Wakes a thread that waits for data. It may have none, or (urllib3 before 2.3) no such
            # method: then the thread ends with its timeout.
            with contextlib.suppress(Exception):
                response.raw.shutdown()
        requests.adapters.HTTPAdapter.send = send
