"""What several devices exchange in a step, from the compiled program, and what that will cost."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn import data, experiment, mesh
from cifar_cnn.checks import check_int, check_number
from cifar_cnn.report.summary import summarize
from cifar_cnn.report.table import format_table

_COLLECTIVE = re.compile(
    r" = (?P<shapes>[^=]*?) (?P<kind>all-gather|all-reduce|all-to-all|collective-permute"
    r"|reduce-scatter)(?:-start)?\("
)
_SHAPE = re.compile(r"(?P<kind>[a-z]+)(?P<bits>\d+)\[(?P<sizes>[\d,]*)\]")
# Of a training step to the forward pass: its own, and the gradients by features and by kernels.
_STEP_TO_FORWARD = 3


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What devices exchange in one step.

    Attributes:
      collectives: operations of all devices together in a step.
      reduced_bytes: of all-reduces in a step, as long as the arrays of one device.
      other_bytes: of all other collectives in a step, likewise.
      flops: of one image in a step, multiplications and additions counted apart.
      parameters: of the network.
    """

    collectives: int
    reduced_bytes: int
    other_bytes: int
    flops: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Devices and what joins them.

    Attributes:
      flops: that a device gets done in a second.
      devices_per_host: joined by `host_bandwidth`; more of them by `network_bandwidth`.
      host_bandwidth, network_bandwidth: bytes a second that a device sends while it receives as
        many.
      latency: seconds of one message.
    """

    flops: float
    devices_per_host: int
    host_bandwidth: float
    network_bandwidth: float
    latency: float


def seconds_to_reduce(size: int, devices: int, cluster: Cluster) -> float:
    """Seconds of one all-reduce of `size` bytes.

    Every device sends and receives 2 (n - 1)/n of the array, as in a ring, the best there is
    (Patarasuk and Yuan 2009), over the slowest link on the way; and 2 log2(n) messages follow one
    another, as in a tree.
    """
    one_host = devices <= cluster.devices_per_host
    bandwidth = cluster.host_bandwidth if one_host else cluster.network_bandwidth
    share = 2 * (devices - 1) / devices
    return share * size / bandwidth + 2 * math.ceil(math.log2(devices)) * cluster.latency


def efficiency(exchange: Exchange, images: int, devices: int, cluster: Cluster) -> float:
    """Share of the time in which devices compute, where each has `images` images a step.

    The all-reduce waits for the whole backward pass and the update for the all-reduce, so nothing
    overlaps.
    """
    computing = images * exchange.flops / cluster.flops
    return computing / (computing + seconds_to_reduce(exchange.reduced_bytes, devices, cluster))


def count_exchange(config: Mapping[str, Any], devices: int = 2) -> Exchange:
    """Compiles the training loop of a config for CPU devices and reads what they exchange in it.

    No data is needed. Starts the backend.
    """
    name, shape, classes = experiment.describe_data(config)
    examples = max(50_000, config["train"]["batch_size"])
    facts = data.Facts(
        name=name,
        fingerprint="",
        image_shape=shape,
        class_names=tuple(map(str, range(classes))),
        mean=(0.5,) * shape[-1],
        std=(0.25,) * shape[-1],
        train_examples=examples,
        validation_examples=0,
    )
    run = experiment.build(config, facts, mesh.start("cpu", devices))

    def described(*sizes: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=mesh.replicated(run.mesh))

    part = data.Examples(
        images=described(examples, *shape, dtype=jnp.uint8),
        labels=described(examples, dtype=jnp.int32),
        indices=described(examples, dtype=jnp.int32),
    )
    last = np.int32(run.total_steps)  # Where images have their full size.
    whole = jax.jit(lambda state, part, order: run.train_chunk(state, part, order, last))
    text = whole.lower(run.abstract_state, part, part.indices).compile().as_text()
    found = list(collectives_in_loop(text))
    rows = summarize(run.model, shape)
    sizes = jax.tree.leaves(jax.eval_shape(run.init).params)
    return Exchange(
        collectives=len(found),
        reduced_bytes=sum(size for kind, size in found if kind == "all-reduce"),
        other_bytes=sum(size for kind, size in found if kind != "all-reduce"),
        flops=_STEP_TO_FORWARD * sum(row.flops for row in rows),
        parameters=sum(math.prod(leaf.shape) for leaf in sizes),
    )


def collectives_in_loop(text: str) -> list[tuple[str, int]]:
    """Collectives of a compiled program outside of its first computation: those of its loops.

    Args:
      text: of the program, as XLA prints it.

    Returns:
      ('all-reduce', bytes of its results) of each.
    """
    found, in_entry = [], False
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():  # Comments count long lists.
        if line and not line[0].isspace():
            in_entry = line.startswith("ENTRY")
        match = _COLLECTIVE.search(line)
        if match and not in_entry:
            found.append((match["kind"], sum(map(_bytes, _SHAPE.finditer(match["shapes"])))))
    return found


def _bytes(shape: re.Match[str]) -> int:
    count = math.prod(int(size) for size in shape["sizes"].split(",") if size)
    return count * int(shape["bits"]) // 8


def tell_scaling(
    configs: Mapping[str, Mapping[str, Any]],
    *,
    images: int,
    devices: Sequence[int],
    cluster: Cluster,
) -> None:
    """Prints what each config's devices exchange in a step, and the efficiency that follows.

    Args:
      configs: complete and checked, by name.
      images: of each device in a step.
      devices: numbers of them, from 2 up.
    """
    check_int("--images", images, minimum=1)
    for count in devices:
        check_int("--devices", count, minimum=2)
    check_int("--devices_per_host", cluster.devices_per_host, minimum=1)
    for key in ("flops", "host_bandwidth", "network_bandwidth"):
        check_number(f"--{key}", getattr(cluster, key), above=0)
    check_number("--latency", cluster.latency, minimum=0)
    head = ("config", "parameters", "collectives", "MB reduced", "MB else", "GFLOP an image")
    rows = []
    for name, config in configs.items():
        found = count_exchange(config)
        shares = [f"{efficiency(found, images, count, cluster):.1%}" for count in devices]
        rows.append(
            (
                name,
                f"{found.parameters:,}",
                str(found.collectives),
                f"{found.reduced_bytes / 1e6:,.2f}",
                f"{found.other_bytes / 1e6:,.2f}",
                f"{found.flops / 1e9:.3f}",
                *shares,
            )
        )
    print(format_table((*head, *(f"{count} devices" for count in devices)), rows, left=1))
    print(
        f"Per step; {images} images a device, {cluster.flops / 1e12:g} TFLOP/s a device, "
        f"{cluster.host_bandwidth / 1e9:g} GB/s among {cluster.devices_per_host} devices of a "
        f"host and {cluster.network_bandwidth / 1e9:g} GB/s between hosts, "
        f"{cluster.latency * 1e6:g} us a message, nothing overlapped."
    )
