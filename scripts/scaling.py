"""Predicts how training scales: python scripts/scaling.py --config=configs/resnet18.py

Compiles the training loop of each config, counts what the devices exchange in a step, and computes
the share of time in which they compute, for stated speeds. Needs no data and trains nothing.
"""

import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--config", action="append", required=True, metavar="FILE", help="may be repeated"
    )
    parser.add_argument(
        "--images", type=int, default=128, help="of a device in a step (default: %(default)s)"
    )
    parser.add_argument(
        "--devices",
        type=int,
        nargs="+",
        default=[8, 16, 64, 256, 1024],
        help="numbers of them (default: 8 16 64 256 1024)",
    )
    # By default those of an H100 in a node of eight with InfiniBand NDR.
    parser.add_argument(
        "--flops", type=float, default=1e14, help="done by a device in a second (default: 1e14)"
    )
    parser.add_argument("--devices_per_host", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument(
        "--host_bandwidth", type=float, default=450e9, help="bytes/s each way (default: 450e9)"
    )
    parser.add_argument(
        "--network_bandwidth", type=float, default=50e9, help="bytes/s each way (default: 50e9)"
    )
    parser.add_argument("--latency", type=float, default=10e-6, help="seconds (default: 10e-6)")
    flags, keys = parser.parse_known_args()
    from cifar_cnn.flags import read_config

    configs = dict(read_config([f"--config={path}", *keys]) for path in flags.config)
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.scaling import Cluster, tell_scaling

    cluster = Cluster(
        flops=flags.flops,
        devices_per_host=flags.devices_per_host,
        host_bandwidth=flags.host_bandwidth,
        network_bandwidth=flags.network_bandwidth,
        latency=flags.latency,
    )
    tell_scaling(configs, images=flags.images, devices=flags.devices, cluster=cluster)


if __name__ == "__main__":
    sys.exit(cli.run(main))
