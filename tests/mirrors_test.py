"""Sources of CIFAR's archive that are slow, cut off, wrong, missing, silent or lead astray."""

import contextlib
import dataclasses
import hashlib
import http.server
import os
import re
import signal
import socket
import threading
import time

import pytest

from cifar_cnn.datasets import archive, mirrors
from tests import cifar_archives
from tests.cifar_archives import examples, flavour, one_error, run, same, synthetic_files, write_tar

small_archives = cifar_archives.small_archives  # For every test here.
publish = cifar_archives.publish


class Server(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says; `content` is the right file."""

    content: bytes
    asked: list[str]
    started: threading.Event
    closing: threading.Event

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.asked.append(kind)
        with contextlib.suppress(OSError):  # Of a client that has given up.
            getattr(self, kind)()

    def head(self, code=200, size=True, **headers):
        self.send_response(code)
        if size:
            headers["Content-Length"] = str(len(self.content) if size is True else size)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def right(self):
        self.head()
        self.wfile.write(self.content)

    def unsized(self):
        self.head(size=False)
        self.wfile.write(self.content)

    def labelled(self):
        """As servers do that take the file's own compression for theirs."""
        self.head(Content_Encoding="gzip")
        self.wfile.write(self.content)

    def wrong(self):
        self.head()
        self.wfile.write(self.content[:-1] + b"x")

    def cut(self):
        self.head()
        self.wfile.write(self.content[:-1000])

    def page(self):
        self.head(size=6, Content_Type="text/html")
        self.wfile.write(b"log in")

    def slow(self):
        """A byte at a time."""
        self.head()
        for at in range(len(self.content)):
            self.wfile.write(self.content[at : at + 1])
            if self.closing.wait(0.02):
                return

    def silent(self):
        self.head()
        self.wfile.write(self.content[:20_000])
        self.started.set()
        self.closing.wait()

    def mute(self):
        self.closing.wait()

    def endless(self):
        self.head(size=False)
        for _ in range(100):
            self.wfile.write(bytes(1 << 16))

    def redirect(self):
        self.head(302, size=0, Location="/right/")

    def loop(self):
        self.head(302, size=0, Location="/loop/")

    def astray(self):
        self.head(302, size=0, Location="file:///etc/passwd")

    def error(self):
        self.head(503, size=0)

    def garbled(self):
        self.wfile.write(b"garbled\r\n\r\n")

    def unmeasured(self):
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()

    def missing(self):
        self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(publish, tmp_path, monkeypatch):
    """A function that makes servers of these kinds the sources of cifar10, in this order."""
    layout = flavour("cifar-10-python")
    path = write_tar(tmp_path / "published.tar.gz", publish(synthetic_files(layout)))
    Server.content, Server.asked = path.read_bytes(), []
    Server.started, Server.closing = threading.Event(), threading.Event()
    md5 = hashlib.md5(Server.content).hexdigest()
    # Seconds of the real ones, shrunk.
    monkeypatch.setattr(mirrors, "_SLOW_SECONDS", 0.2)
    monkeypatch.setattr(mirrors, "_SILENCE_SECONDS", 0.4)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def sources(*kinds: str) -> None:
            urls = tuple(
                kind if ":" in kind else f"http://127.0.0.1:{server.server_port}/{kind}/"
                for kind in kinds
            )
            changed = tuple(
                dataclasses.replace(f, md5=md5, sources=urls) if f.name == "cifar10" else f
                for f in archive.FLAVOURS
            )
            monkeypatch.setattr(archive, "FLAVOURS", changed)

        yield sources
        Server.closing.set()
        server.shutdown()
        thread.join()


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


KEPT = "downloads/cifar-10-python.tar.gz"
# What a source does that is not the last one: what is said of it.
FAULTS = {
    "slow": r"slow \(0\.00 MB/s, 0\.0 of 0\.2 MB\)",
    "silent": r"timed out \(0\.0 of 0\.2 MB\)",
    "mute": "timed out",
    "cut": r"broke off \(0\.2 of 0\.2 MB\)",
    "wrong": r"not the published file \([\d,]+ bytes, md5 \w+, expected \w+\)",
    "page": r"not the published file \(6 bytes",
    "endless": "sends more than 1 MB",
    "missing": "HTTP 404",
    "error": "HTTP 503",
    "loop": "Exceeded 5 redirects",
    "astray": "No connection adapters were found",
    "garbled": "garbled",
    "unmeasured": "broke off|many",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_source_that_fails_is_left_for_the_next(kind, serve, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mirrors, "_LARGEST_BYTES", 1_000_000)
    serve(kind, "right")
    data = tmp_path / "data"
    assert run("--name=cifar10", f"--data_dir={data}") == 0
    captured = capsys.readouterr()
    assert re.search(
        rf"gave up 127\.0\.0\.1: .*({FAULTS[kind]}).*; trying the next source\n", captured.out
    )
    assert captured.err == ""
    assert Server.asked[-1] == "right"
    assert (data / KEPT).read_bytes() == Server.content
    assert {name.split("/")[0] for name in files(data)} == {"cifar10", "downloads"}


@pytest.mark.parametrize("kind", ["right", "unsized", "labelled", "redirect"])
def test_the_first_right_source_is_the_last_one_asked(kind, serve, tmp_path, capsys):
    serve(kind, "mute")
    data, disk = tmp_path / "data", tmp_path / "disk"
    assert run("--name=cifar10", f"--data_dir={data}") == 0
    assert set(Server.asked) <= {kind, "right"}
    assert (data / KEPT).read_bytes() == Server.content
    # The same set as from the archive on disk.
    assert run(f"--archive={tmp_path / 'published.tar.gz'}", f"--data_dir={disk}") == 0
    web, local = examples(data, "cifar10"), examples(disk, "cifar10")
    assert all(same(web[split], local[split]) for split in ("train", "test"))


def test_a_refused_connection_is_left_for_the_next(serve, tmp_path, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
        serve(f"http://127.0.0.1:{unused.getsockname()[1]}/", "right")
        assert run("--name=cifar10", f"--data_dir={tmp_path / 'data'}") == 0
    assert "gave up 127.0.0.1: Connection refused" in capsys.readouterr().out


def test_the_last_source_may_be_slow(serve, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mirrors, "_SLOW_SECONDS", 1e-9)
    monkeypatch.setattr(mirrors, "_SLOW_BYTES_PER_SECOND", 1e12)
    monkeypatch.setattr(mirrors, "_SILENCE_SECONDS", 5)
    serve("right", "unsized")
    assert run("--name=cifar10", f"--data_dir={tmp_path / 'data'}") == 0
    assert Server.asked[-1] == "unsized"
    assert capsys.readouterr().out.count("gave up 127.0.0.1: ") == 1


def test_progress_shows_source_rate_and_seconds_left(serve, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mirrors, "_REPORT_SECONDS", (0, 0))
    serve("right")
    expected = r"0\.\d of 0\.2 MB, \d+\.\d\d MB/s, \d+ s left, from 127\.0\.0\.1"
    assert run("--name=cifar10", f"--data_dir={tmp_path / 'log'}") == 0
    captured = capsys.readouterr()
    assert re.search(rf"^{expected}$", captured.out, re.MULTILINE)
    assert captured.err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with contextlib.redirect_stdout(None):
        mirrors.fetch(flavour("cifar-10-python"), tmp_path, tmp_path / "kept", [].append)
    # One line that is written over, and gone at the end.
    shown = capsys.readouterr().err
    assert re.search(rf"\r{expected} *\r", shown)
    assert "\n" not in shown
    assert shown.endswith(f"\r{'':<79}\r")
    assert max(map(len, shown.split("\r"))) < 80


def test_all_sources_failing_are_named_in_one_line(serve, tmp_path, capsys):
    kinds = ("slow", "missing", "wrong", "silent")  # The last one is silent for longer.
    serve(*kinds)
    data = tmp_path / "data"
    assert run("--name=cifar10", f"--data_dir={data}") == 1
    message = one_error(capsys)
    for kind in kinds:
        assert re.search(rf"127\.0\.0\.1: {FAULTS[kind]}[;)]", message), (kind, message)
    assert "--archive=PATH" in message
    assert Server.asked == list(kinds)
    assert not data.exists()


def test_an_archive_that_was_downloaded_is_used_again(serve, tmp_path, capsys):
    serve("right")
    data = tmp_path / "data"
    (data / "downloads").mkdir(parents=True)
    (data / KEPT).write_bytes(Server.content)
    assert run("--name=cifar10", f"--data_dir={data}") == 0
    assert Server.asked == []
    assert f"using {data / KEPT}" in capsys.readouterr().out
    # Not if it is damaged, whatever made it so.
    (data / "cifar10").rename(tmp_path / "away")
    (data / KEPT).write_bytes(Server.content[:-1])
    assert run("--name=cifar10", f"--data_dir={data}") == 0
    assert Server.asked == ["right"]
    assert "is not the published file" in capsys.readouterr().out
    assert (data / KEPT).read_bytes() == Server.content


def test_a_full_disk_is_not_the_fault_of_a_source(serve, tmp_path, capsys, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    serve("right", "unsized")
    monkeypatch.setattr(mirrors, "open", full_disk, raising=False)
    data = tmp_path / "data"
    assert run("--name=cifar10", f"--data_dir={data}") == 1
    assert "No space left on device" in one_error(capsys)
    assert not data.exists()


def test_an_interrupted_download_ends_at_once_and_leaves_nothing(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "_SILENCE_SECONDS", 60)
    serve("silent")
    sent = []

    def interrupt():
        if Server.started.wait(10):
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run("--name=cifar10", f"--data_dir={tmp_path / 'data'}") == 130
    assert time.monotonic() - sent[0] < 5
    thread.join()
    assert not (tmp_path / "data").exists()


def test_every_source_is_of_the_archive_and_the_original_is_the_last():
    with_sources = [f for f in archive.FLAVOURS if f.sources]
    assert {f.name for f in with_sources} == {f.name for f in archive.FLAVOURS}
    for layout in with_sources:
        assert all(
            url.startswith("https://") and url.endswith(f"/{layout.archive}")
            for url in layout.sources
        )
        assert layout.sources[-1].startswith("https://www.cs.toronto.edu/")
        assert len(set(layout.sources)) > 1
