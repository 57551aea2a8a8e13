"""What devices exchange in a step, and the arithmetic of its cost."""

import pytest

from cifar_cnn import scaling
from tests.conftest import make_config

CLUSTER = scaling.Cluster(
    flops=1e12, devices_per_host=8, host_bandwidth=100e9, network_bandwidth=10e9, latency=1e-6
)


def test_a_step_exchanges_its_gradients_once():
    found = scaling.count_exchange(make_config({"data.name": "cifar10"}))
    # Conv 3x3 of 8, conv 3x3 of 16, dense 32, dense 10, each with biases.
    assert found.parameters == 27 * 8 + 8 + 72 * 16 + 16 + 1024 * 32 + 32 + 32 * 10 + 10
    # Beside the gradients three sums, of loss, hits and examples, in one all-reduce.
    assert found.collectives == 1
    assert found.reduced_bytes == 4 * (found.parameters + 3)
    assert found.other_bytes == 0
    forward = 2 * (32 * 32 * 27 * 8 + 16 * 16 * 72 * 16 + 1024 * 32 + 32 * 10)
    assert found.flops == 3 * forward


def test_collectives_are_read_with_their_bytes_from_loops_alone():
    text = """
HloModule jit_f
%body (p: (f32[4])) -> f32[4] {
  %a = (f32[2,3]{1,0}, /*index=5*/bf16[10]{0}) all-reduce(%x, %y), replica_groups={}
  %b = u8[7]{0} all-gather-start(%z), dimensions={0}
  %c = f32[2]{0} add(%all-reduce.1, %d)
}
ENTRY %main (p: f32[4]) -> f32[4] {
  %e = f32[100]{0} all-reduce(%x)
}
"""
    assert scaling.collectives_in_loop(text) == [("all-reduce", 44), ("all-gather", 7)]


def test_the_cost_of_an_all_reduce_follows_the_formula():
    # 2 * 7/8 * 800 bytes at 100 GB/s, and 2 * 3 messages.
    assert scaling.seconds_to_reduce(800, 8, CLUSTER) == pytest.approx(14e-9 + 6e-6)
    # 2 * 15/16 over the network.
    assert scaling.seconds_to_reduce(800, 16, CLUSTER) == pytest.approx(150e-9 + 8e-6)
    exchange = scaling.Exchange(1, 800, 0, flops=10**6, parameters=200)
    assert scaling.efficiency(exchange, 1, 8, CLUSTER) == pytest.approx(1e-6 / (7e-6 + 14e-9))
