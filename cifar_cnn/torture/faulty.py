"""A run in which something fails: python -m cifar_cnn.torture.faulty FAULT FLAGS_OF_MAIN

FAULT is nan_loss:STEP, nan_params:STEP, slow_save:SECONDS or jumping_clock:SEED.
"""

# Libraries are imported where they are used: the clock has to be wrong before they see it.
import datetime
import random
import runpy
import sys
import time

_YEAR = 365 * 24 * 3600


def nan_loss(step: str) -> None:
    """The loss of one step is not a number."""
    import jax.numpy as jnp

    def fails(state, new_state, scalars):
        loss = jnp.where(state.step == int(step), jnp.nan, scalars["loss"])
        return new_state, {**scalars, "loss": loss}

    _after_each_step(fails)


def nan_params(step: str) -> None:
    """The update of one step breaks the parameters, after a loss that is still finite."""
    import jax
    import jax.numpy as jnp

    def fails(state, new_state, scalars):
        factor = jnp.where(state.step == int(step), jnp.nan, 1.0)
        params = jax.tree.map(lambda leaf: leaf * factor, new_state.params)
        return new_state.replace(params=params), scalars

    _after_each_step(fails)


def slow_save(seconds: str) -> None:
    """A checkpoint takes its time."""
    import orbax.checkpoint as ocp

    save = ocp.CheckpointManager.save

    def slow(*arguments, **options):
        time.sleep(float(seconds))
        return save(*arguments, **options)

    ocp.CheckpointManager.save = slow


def jumping_clock(seed: str) -> None:
    """The time of day is wrong by up to a year, and by another one at every look."""
    rng, real = random.Random(seed), time.time

    def wrong() -> float:
        return real() + rng.uniform(-_YEAR, _YEAR)

    class Datetime(datetime.datetime):
        """Asks the wrong clock."""

        @classmethod
        def now(cls, tz=None):
            """Now, or so it says."""
            return cls.fromtimestamp(wrong(), tz)

    time.time = wrong
    time.time_ns = lambda: int(wrong() * 1e9)
    datetime.datetime = Datetime


def _after_each_step(fails) -> None:
    from cifar_cnn import steps

    train_step = steps.train_step

    def step(state, *arguments, **options):
        return fails(state, *train_step(state, *arguments, **options))

    steps.train_step = step


FAULTS = {
    "nan_loss": nan_loss,
    "nan_params": nan_params,
    "slow_save": slow_save,
    "jumping_clock": jumping_clock,
}

if __name__ == "__main__":
    name, value = sys.argv.pop(1).split(":")
    FAULTS[name](value)
    runpy.run_module("cifar_cnn.main", run_name="__main__", alter_sys=True)
