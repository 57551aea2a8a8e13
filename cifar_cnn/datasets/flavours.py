"""How the four published CIFAR archives are laid out."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How one published archive is laid out.

    Attributes:
        name: of the TFDS data set.
        archive: file name under which it is published.
        md5: of the published file.
        folder: of every member.
        files: split -> its files, in order.
        records: split -> number of images in each of its files.
        labels: TFDS feature -> number of classes, in the order of the bytes of a record.
        names: TFDS feature -> where its class names are: a text file, or a key of `meta`.
        meta: the pickle with the class names; "" marks the binary flavour.
        keys: TFDS feature -> key of the labels in a pickle.
    """

    name: str
    archive: str
    md5: str
    folder: str
    files: dict[str, tuple[str, ...]]
    records: dict[str, int]
    labels: dict[str, int]
    names: dict[str, str]
    meta: str = ""
    keys: dict[str, str] = dataclasses.field(default_factory=dict)


FLAVOURS = (
    Flavour(
        name="cifar10",
        archive="cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        files={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        records={"train": 10_000, "test": 10_000},
        labels={"label": 10},
        names={"label": "label_names"},
        meta="batches.meta",
        keys={"label": "labels"},
    ),
    Flavour(
        name="cifar10",
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        files={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        records={"train": 10_000, "test": 10_000},
        labels={"label": 10},
        names={"label": "batches.meta.txt"},
    ),
    Flavour(
        name="cifar100",
        archive="cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        files={"train": ("train",), "test": ("test",)},
        records={"train": 50_000, "test": 10_000},
        labels={"coarse_label": 20, "label": 100},
        names={"coarse_label": "coarse_label_names", "label": "fine_label_names"},
        meta="meta",
        keys={"coarse_label": "coarse_labels", "label": "fine_labels"},
    ),
    Flavour(
        name="cifar100",
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        records={"train": 50_000, "test": 10_000},
        labels={"coarse_label": 20, "label": 100},
        names={"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
)
