"""The worker that runs this project's own programs: python -m cifar_cnn.benchmark.ours

They are `train_chunk` and `evaluate` of `experiment.build`, called as `train.py` calls them.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn import data as data_lib
from cifar_cnn import experiment
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.benchmark.serving import serve, timed
from cifar_cnn.checks import MachineError


def prepare(request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Builds the run of a config; see `serving.serve` and `measuring.benchmark`."""
    jax.config.update("jax_enable_compilation_cache", request["compile_cache"])
    config, data = request["config"], request["data"]
    mesh = experiment.start_devices(config)
    arrays = data_lib.Arrays(
        np.load(data["images"], mmap_mode="r"), np.load(data["labels"]), tuple(data["class_names"])
    )
    count = len(arrays.labels)
    facts = data_lib.Facts(
        name=data["name"],
        fingerprint="",
        image_shape=tuple(arrays.images.shape[1:]),
        class_names=arrays.class_names,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        train_examples=count,
        validation_examples=0,
    )
    train_part = data_lib.to_device(arrays, np.arange(count), mesh_lib.replicated(mesh))
    eval_rows = jnp.arange(request["eval_images"], dtype=jnp.int32)
    eval_part = train_part.replace(indices=jax.device_put(eval_rows, mesh_lib.replicated(mesh)))
    jax.block_until_ready((train_part, eval_part))
    run = experiment.build(config, facts, mesh)

    state, order, step, pace = None, None, 0, 0.0

    def steps(left: float) -> int:
        """One call of the chunk, of as many steps as fit into `left` seconds."""
        nonlocal state, order, step, pace
        within = step % run.steps_per_epoch
        longest = min(run.log_every_steps, run.steps_per_epoch - within)
        length = min(longest, max(1, round(left / pace))) if pace else 1
        start = time.perf_counter()
        if not within:
            order = run.epoch_order(train_part, step // run.steps_per_epoch)
        state, records = run.train_chunk(state, train_part, order, jnp.int32(step + length))
        jax.device_get(records)
        if int(state.step) != step + length:
            raise MachineError(f"the loss of step {int(state.step) - 1} is not finite")
        pace = (time.perf_counter() - start) / length
        step += length
        return min(count, (within + length) * run.batch_size) - within * run.batch_size

    def passes(left: float) -> int:
        del left
        jax.block_until_ready(run.evaluate(state.eval_variables, eval_part))
        return request["eval_images"]

    start = time.perf_counter()
    state = run.init(train_part)
    steps(0.0)
    first = time.perf_counter() - start
    steps(0.0)  # Its pace is that of a step without compiling.
    passes(0.0)
    return {
        "device": mesh_lib.describe(mesh),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "first_step_seconds": first,
        "notes": [],
    }, {
        "train": lambda seconds: timed(steps, seconds),
        "evaluate": lambda seconds: timed(passes, seconds),
        "device_memory": lambda: _device_memory(mesh.devices.flat[0]),
    }


def _device_memory(device: jax.Device) -> int | None:
    """Peak bytes of one device, where the backend counts them."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


if __name__ == "__main__":
    serve(prepare)
