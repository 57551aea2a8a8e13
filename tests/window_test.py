"""Windows of records, and the number of steps a call makes."""

import json

import numpy as np
import pytest

from cifar_cnn.window import CALL_SECONDS, Pace, Window


def records(count, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(count, np.float32) for name in ("loss", "correct", "count")}


@pytest.mark.parametrize("cut", [0, 1, 4, 9, 10])
def test_a_window_saved_anywhere_ends_with_the_same_bits(cut):
    whole = records(10)
    unbroken = Window(30, {})
    unbroken.add(whole, 10)
    first = Window(30, {})
    first.add({name: values[:cut] for name, values in whole.items()}, cut)
    # As a checkpoint's note holds them.
    second = Window(30 + cut, json.loads(json.dumps(first.records)))
    assert (second.first, second.steps) == (30, cut)
    second.add({name: np.r_[values[cut:], np.nan] for name, values in whole.items()}, 10 - cut)
    assert second.close() == unbroken.close()
    assert (second.first, second.steps, second.records) == (40, 0, {})


def test_means_weigh_steps_by_their_examples():
    window = Window(0, {})
    window.add({"loss": [1.0, 4.0], "correct": [2.0, 1.0], "count": [4.0, 1.0]}, 2)
    assert window.close() == {"loss": 8 / 5, "accuracy": 3 / 5}


def test_the_first_loss_that_is_not_finite_is_found_with_its_step():
    window = Window(22, {"loss": [1.0, 2.0], "correct": [0.0, 0.0], "count": [1.0, 1.0]})
    window.add({"loss": [3.0], "correct": [0.0], "count": [1.0]}, 1)
    assert window.bad_step() is None
    window.add({"loss": [np.inf, np.nan], "correct": [0.0] * 2, "count": [1.0] * 2}, 2)
    assert window.bad_step() == (23, np.inf)


@pytest.mark.parametrize("seconds_per_step", [1e-5, 0.01, 0.3, 7.0])
def test_calls_come_to_last_their_time(seconds_per_step):
    pace = Pace()
    for _ in range(10):
        pace.update(pace.steps, pace.steps * seconds_per_step)
    assert abs(pace.steps - max(1, CALL_SECONDS / seconds_per_step)) <= 1
    pace.restart()
    assert pace.steps == 1
    # One call that was quick by chance does not make the next one last for minutes.
    pace.update(1, 1e-9)
    assert pace.steps == 10
