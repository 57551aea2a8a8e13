"""Downloads from a local server: the sets made of them, failures, and interruptions."""

import contextlib
import gzip
import http.server
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cifar_cnn.checks import MachineError
from cifar_cnn.datasets import mnist
from tests.cifar_archives import examples, one_error, run
from tests.conftest import ROOT


@contextlib.contextmanager
def serve(files: dict[str, bytes], *, stall: bool = False):
    """A web server, also as a proxy, of files by name; or one that sends a little and waits."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            if stall:
                self.send_response(200)
                self.send_header("Content-Length", str(1 << 20))
                self.end_headers()
                self.wfile.write(bytes(20_000))
                asked.set()
                with contextlib.suppress(OSError):
                    done.wait()
            elif name in files:
                self.send_response(200)
                self.send_header("Content-Length", str(len(files[name])))
                self.end_headers()
                self.wfile.write(files[name])
                asked.set()
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    asked, done = threading.Event(), threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            done.set()
            server.shutdown()
            thread.join()


def idx_files(count: dict[str, int]) -> tuple[dict[str, bytes], dict[str, tuple]]:
    rng = np.random.default_rng(3)
    files, arrays = {}, {}
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images = rng.integers(0, 256, (count[split], 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count[split], dtype=np.uint8)
        arrays[split] = images, labels
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{data.ndim}I", 0, 8, data.ndim, *data.shape)
            files[f"{prefix}-{kind}-ubyte.gz"] = gzip.compress(header + data.tobytes())
    return files, arrays


@pytest.fixture
def small_mnist(monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TRAIN_EXAMPLES", 30)
    monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TEST_EXAMPLES", 20)
    return idx_files({"train": 30, "test": 20})


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_download_of_mnist_and_its_relatives(name, small_mnist, tmp_path, monkeypatch):
    files, arrays = small_mnist
    classes = {"mnist": mnist.MNIST, "fashion_mnist": mnist.FashionMNIST, "kmnist": mnist.KMNIST}
    with serve(files) as (url, _):
        monkeypatch.setattr(classes[name], "URL", url)
        assert run(f"--name={name}", f"--data_dir={tmp_path}") == 0
    for split, (images, labels) in arrays.items():
        prepared = examples(tmp_path, name)[split]
        got = {(e["image"].tobytes(), int(e["label"])) for e in prepared}
        want = {(i.tobytes(), int(n)) for i, n in zip(images, labels, strict=True)}
        assert got == want
        assert prepared[0]["image"].shape == (28, 28, 1)
    # What was downloaded is kept where TFDS finds it: the set can be made again offline.
    (tmp_path / name).rename(tmp_path / "away")
    assert run(f"--name={name}", f"--data_dir={tmp_path}") == 0


def test_emnist_files_are_read_inside_their_zip(tmp_path):
    files, arrays = idx_files({"train": 3, "test": 2})
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as zipped:
        zipped.writestr("gzip/emnist-images.gz", files["train-images-idx3-ubyte.gz"])
    path = tmp_path / "gzip.zip" / "gzip" / "emnist-images.gz"
    np.testing.assert_array_equal(mnist.read_idx(path, (3, 28, 28)), arrays["train"][0])
    with pytest.raises(MachineError, match="does not hold bytes of shape"):
        mnist.read_idx(path, (4, 28, 28))
    with pytest.raises(MachineError, match="is damaged"):
        mnist.read_idx(path.with_name("other.gz"), (3, 28, 28))


def test_wrong_checksum_leaves_nothing(small_mnist, tmp_path, capsys, monkeypatch):
    files, _ = small_mnist
    data = tmp_path / "data"
    with serve(files) as (url, _):
        monkeypatch.setattr(mnist.MNIST, "URL", url)
        expected = {url + name: UrlInfo(10, "0" * 64, name) for name in files}
        monkeypatch.setattr(mnist.MNIST, "url_infos", expected)
        assert run("--name=mnist", f"--data_dir={data}") == 1
        assert "does not have the expected checksum" in one_error(capsys)
    assert not data.exists()


def test_missing_file_on_the_server_is_one_line(small_mnist, tmp_path, capsys, monkeypatch):
    files, _ = small_mnist
    data = tmp_path / "data"
    with serve(files) as (url, _):
        monkeypatch.setattr(mnist.MNIST, "URL", url)
        del files["t10k-labels-idx1-ubyte.gz"]
        assert run("--name=mnist", f"--data_dir={data}") == 1
        assert "HTTP code: 404" in one_error(capsys)
    assert not (data / "mnist").exists()


def test_no_network_is_one_line_soon(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        variables = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        start = time.monotonic()
        process = subprocess.run(
            [sys.executable, "scripts/prepare_data.py", "--name=cifar10"],
            cwd=ROOT,
            env=os.environ
            | dict.fromkeys(variables, proxy)
            | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path / "data"), "NO_PROXY": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "--archive=PATH" in process.stderr
    assert "170 MB" in process.stdout
    assert time.monotonic() - start < 30
    assert not (tmp_path / "data").exists()


def test_no_network_is_one_line_for_a_set_that_tfds_downloads(tmp_path, capsys, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, proxy)
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        assert run("--name=mnist", f"--data_dir={tmp_path / 'data'}") == 1
    message = one_error(capsys)
    assert "the download of mnist failed (Connection refused)" in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_download_ends_at_once_and_leaves_nothing(sent, code, tmp_path):
    with serve({}, stall=True) as (url, asked):
        process = subprocess.Popen(
            [sys.executable, "scripts/prepare_data.py", "--name=fashion_mnist"],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "http_proxy": url, "NO_PROXY": "", "no_proxy": ""}
            | {"TFDS_DATA_DIR": str(tmp_path / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(30)
        time.sleep(0.3)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert not (tmp_path / "data").exists()
