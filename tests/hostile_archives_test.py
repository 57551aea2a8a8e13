"""Archives made to harm: pickles that call, exhaust or crash, and tar files with tricks in them.

Pickles that are not known, to the byte, are not opened at all. Should one of them be published some
day with an md5 that we then know, it still could call nothing.
"""

import io
import os
import pickle
import random
import resource
import struct
import tarfile

import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.datasets import archive, unpickle
from tests import cifar_archives
from tests.cifar_archives import flavour, python2_pickle, synthetic_files, write_tar

small_archives = cifar_archives.small_archives  # For every test here.
publish = cifar_archives.publish
PUBLISHED = archive.FLAVOURS

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(tR"
DTYPE = b"cnumpy\ndtype\n(U\x02u1tR"


def as_dict(value, key=b"U\x01k"):
    return b"\x80\x02}" + key + value + b"s."


def state(shape, dtype=DTYPE, data=b"U\x00"):
    return as_dict(ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb")


# What they do to a reader that opens them: nothing, as long as they are refused by their names.
CALLS = {
    "posix.system": b"cposix\nsystem\n(U\x04exitR.",
    "builtins.eval": b"cbuiltins\neval\n(U\x011tR.",
    "copyreg._reconstructor": b"ccopyreg\n_reconstructor\n.",
    "numpy.load": b"cnumpy\nload\n.",
    "numpy.core.multiarray.fromfile": as_dict(b"cnumpy.core.multiarray\nfromfile\n(U\x01/tR"),
    "__main__.X": b"(i__main__\nX\n.",
    "os.path.join": b"\x80\x04\x8c\x02os\x8c\x09path.join\x93.",
}
# Damaged, or a use of the few names in another way than CIFAR's.
MISUSES = {
    "negative shape": state(b"(J\xff\xff\xff\xffJ\xff\xff\xff\xfft", data=b"U\x01a"),
    "objects": state(b"(K\x01t", dtype=b"cnumpy\ndtype\n(U\x02|OtR", data=b"U\x01a"),
    "attribute of a function": b"\x80\x02}c_codecs\nencode\nN}U\x0b__defaults__Ns\x86b0.",
    "attribute of a class": b"\x80\x02}cnumpy\nndarray\nN}U\x05shapeNs\x86b0.",
    "attribute of a type": b"\x80\x02}cnumpy\ndtype\nN}U\x04kindNs\x86b0.",
    "attribute of _reconstruct": b"\x80\x02}" + ARRAY[:-3] + b"N}U\x08__name__U\x01xs\x86b0.",
    "state of a class": as_dict(b"cnumpy\nndarray\n}b"),
    "call of a value": as_dict(b"U\x01a(tR"),
    "codec": as_dict(b"c_codecs\nencode\n(X\x01\x00\x00\x00aU\x03zipt R".replace(b" ", b"")),
    "another instruction": b"\x80\x02}\x8b\x04\x00\x00\x00\x01\x02\x03\x04.",
    "persistent": as_dict(b"U\x01aQ"),
    "extension": as_dict(b"\x82\x01"),
    # Half of a pair: characters that no encoding has.
    "surrogate in a key": as_dict(b"K\x01", key=b"X\x03\0\0\0\xed\xa0\x80"),
    "number as key": as_dict(b"K\x01", key=b"K\x01"),
    "product of long sides": state(b"(K\x00" + b"\x8a\xff" + b"\x7f" * 255 + b"t", data=b"U\x00"),
    "list as key": as_dict(b"K\x01", key=b"]"),
    "holds itself": b"\x80\x02]q\x00h\x00a.",
    "empty stack": b"\x80\x02s.",
    "no mark": b"\x80\x02t.",
    "long text": b"}I1\nL" + b"9" * 5000 + b"L\ns.",
    "cut": python2_pickle({b"data": np.zeros((3, 4), np.uint8)})[:-3],
    "nothing": b"",
}
# For hours, gigabytes or crashes of a reader that opens them.
EXHAUSTING = {
    # A memo of 2^31 places, a tuple too deep to be hashed, a shape of 4 GB of text.
    "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "deep key": as_dict(b"K\x01", key=b")" + b"\x85" * 300_000),
    "deep value": as_dict(b")" + b"\x85" * 100_000),
    "too many": as_dict(b"]" + b"Na" * 500_001),
    "shape": state(b"(J" + struct.pack("<i", 10**9) + b"U\x04aaaat"),
    "protocol 5": pickle.dumps({"a": bytearray(9)}, protocol=5),
    # Numbers whose hashes are all 0, for which a dict takes hours.
    "equal hashes": b"\x80\x02}("
    + b"".join(b"\x8a\x0b" + ((2**61 - 1) * i).to_bytes(11, "little") + b"N" for i in range(20_000))
    + b"u.",
    "equal hashes in the memo": b"\x80\x02}"
    + b"".join(b"p%d\n" % ((2**61 - 1) * i) for i in range(20_000))
    + b".",
    "product of many sides": state(b"(\x8a\xff" + b"\x7f" * 255 + b"q\1" + b"h\1" * 100_000 + b"t"),
    "a text encoded often": as_dict(
        b"](X\x00\x00\x10\x00"
        + b"a" * (1 << 20)
        + b"q\1"
        + b"c_codecs\nencode\n(h\1X\x06\x00\x00\x00latin1tR" * 4000
        + b"e"
    ),
}
ATTACKS = CALLS | MISUSES | EXHAUSTING


@pytest.mark.parametrize("name", ATTACKS)
def test_pickles_that_attack_are_refused_unopened(name, publish, tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "loads", lambda data: pytest.fail("opened"))
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout)
    monkeypatch.setattr(archive, "FLAVOURS", PUBLISHED)  # Whose files are large.
    publish(members)
    # The last that is read: nothing before it is opened either.
    members[f"{layout.folder}/test_batch"] = ATTACKS[name]
    with pytest.raises(UsageError, match="test_batch is not the published file"):
        archive.read(write_tar(tmp_path / "a.tar", members, mode="w"))


def test_what_is_opened_calls_nothing():
    for name, data in CALLS.items():
        with pytest.raises(unpickle.MalformedError, match=f"names {name}, which no CIFAR file"):
            unpickle.loads(data)
    for name, data in MISUSES.items():
        with pytest.raises(unpickle.MalformedError):
            pytest.fail(f"{name}: {unpickle.loads(data)}")


def test_random_changes_of_a_pickle_are_refused(publish, tmp_path):
    rng = random.Random(0)
    members = publish(synthetic_files(flavour("cifar-10-python")))
    assert archive.read(write_tar(tmp_path / "a.tar", members, mode="w"), [].append)
    for _ in range(200):
        name = rng.choice(list(members))
        content = bytearray(members[name])
        for _ in range(rng.choice((1, 1, 2, 5))):
            content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        write_tar(tmp_path / "a.tar", members | {name: bytes(content)}, mode="w")
        with pytest.raises(UsageError, match="is not the published file"):
            archive.read(tmp_path / "a.tar")


def tampered(rng, whole):
    """A tar file with headers that lie; most have right checksums all the same."""
    content = bytearray(whole)
    heads = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.choice(heads)
        kind = rng.choice(("type", "size", "pax", "byte", "name"))
        if kind == "type":
            content[at + 156] = rng.choice(b"gxLKSDVMNA01234567\0")
        elif kind == "size":
            sizes = (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"-0000000001\0")
            content[at + 124 : at + 136] = rng.choice(sizes)
        elif kind == "pax":
            content[at + 156] = ord("x")
            records = (
                b"25 GNU.sparse.map=a,b,c,d\n", b"11 path=\xff\xff\xff\n", b"99999999 size=1\n",
                b"-1 size=-5\n", b"0 =\n", b"20 size=-99999999\n", b"18 path=/etc/motd\n",
            )  # fmt: skip
            content[at + 512 : at + 542] = rng.choice(records).ljust(30, b"\n")
        elif kind == "name":
            names = (
                b"../../evil",
                b"/evil",
                b"a\x1b[31m\nb",
                b"\xff\xfe",
                b"cifar-10-batches-bin/.",
            )
            content[at : at + 100] = rng.choice(names).ljust(100, b"\0")
        else:
            content[rng.randrange(at, min(at + 600, len(content)))] = rng.randrange(256)
        if rng.random() < 0.9:
            head = content[at : at + 512]
            total = 256 + sum(head[:148]) + sum(head[156:])
            content[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)


def test_tampered_tar_files_are_read_or_refused_and_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    members = synthetic_files(flavour("cifar-10-binary"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), {"comment": "x" * 40}
            tar.addfile(info, io.BytesIO(data))
    path = tmp_path / "a.tar"
    messages, read = [], 0
    for _ in range(300):
        path.write_bytes(tampered(rng, buffer.getvalue()))
        try:
            archive.read(path, [].append)
            read += 1
        except UsageError as error:
            messages.append(str(error))
    assert min(read, len(messages)) > 10
    assert any("points out of the archive" in message for message in messages)
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 << 20


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, b"Z"])
def test_members_of_odd_types_are_refused_or_read_as_files(kind, tmp_path):
    path = write_tar(tmp_path / "a.tar", synthetic_files(flavour("cifar-10-binary")), mode="w")
    with tarfile.open(path, "a") as tar:
        odd = tarfile.TarInfo("cifar-10-batches-bin/readme.html")
        odd.type = kind
        tar.addfile(odd)
    try:
        assert archive.read(path, [].append).name == "cifar10"
    except UsageError as error:
        assert "is a link or device" in str(error)  # noqa: PT017
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_member_given_twice_is_refused(tmp_path):
    members = synthetic_files(flavour("cifar-10-binary"))
    path = write_tar(tmp_path / "a.tar", members, mode="w")
    with tarfile.open(path, "a") as tar:
        name = next(iter(members))
        tar.addfile(tarfile.TarInfo(f"./{name}"))
    with pytest.raises(UsageError, match="occurs twice"):
        archive.read(path)
