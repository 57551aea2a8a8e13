"""The worker that trains the same network with `model.fit` of Keras on TensorFlow.

It is started by scripts/benchmark.py and does what lessons do: images are normalised once, into
float32 arrays in memory, and `fit` and `evaluate` go through them.
"""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cifar_cnn.benchmark.serving import left_out, serve


def make_network(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> keras.Model:
    """The network that `cifar_cnn.benchmark.layers` describes, for images of `shape` (H, W, C)."""
    image = keras.Input(shape)
    return keras.Model(image, _apply(layers, image))


def _apply(layers: list[dict[str, Any]], x: Any) -> Any:
    for layer in layers:
        if layer["kind"] == "residual":
            x = keras.layers.Add()([x, _apply(layer["layers"], x)])
        else:
            x = _layer(layer)(x)
    return x


def _layer(layer: dict[str, Any]) -> keras.Layer:
    match layer["kind"]:
        case "conv":
            return keras.layers.Conv2D(
                layer["features"],
                layer["kernel"],
                strides=layer["stride"],
                padding=layer["padding"].lower(),
                groups=layer["groups"],
                use_bias=layer["bias"],
            )
        case "batch_norm":
            options = {key: layer[key] for key in ("scale", "momentum", "epsilon")}
            return keras.layers.BatchNormalization(**options)
        case "activation":
            return keras.layers.Activation(layer["function"])
        case "pool":
            kinds = {"max": keras.layers.MaxPooling2D, "avg": keras.layers.AveragePooling2D}
            return kinds[layer["function"]](layer["size"], layer["stride"])
        case "global_max":
            return keras.layers.GlobalMaxPooling2D()
        case "dropout":
            return keras.layers.Dropout(layer["rate"])
        case "flatten":
            return keras.layers.Flatten()
        case "dense":
            return keras.layers.Dense(layer["features"], use_bias=layer["bias"])
        case "scale":
            return keras.layers.Rescaling(layer["factor"])


def make_optimizer(config: dict[str, Any], notes: list[str]) -> keras.optimizers.Optimizer:
    """The optimizer of a config, at its highest rate throughout."""
    section = config["optim"]
    if section["name"] in ("adam", "adamw"):
        kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[section["name"]]
        own = section[section["name"]]
        return kind(section["learning_rate"], beta_1=own["b1"], beta_2=own["b2"])
    if section["name"] == "sgd":
        return keras.optimizers.SGD(section["learning_rate"], **section["sgd"])
    notes.append(f"SGD stands in for {section['name']}")
    return keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)


class Stopwatch(keras.callbacks.Callback):
    """Seconds between the beginning and the end of the epoch or of the evaluation.

    So the copy of the arrays that each call of `fit` begins with does not count; over a long
    training it would not.
    """

    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Of training."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Of training."""
        self.seconds = time.perf_counter() - self.start

    def on_test_begin(self, logs: Any = None) -> None:
        """Of evaluation."""
        self.start = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        """Of evaluation."""
        self.seconds = time.perf_counter() - self.start


def prepare(request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Builds and compiles the network; see `serving.serve` and `measuring.benchmark`."""
    config, data, layers = request["config"], request["data"], request["layers"]
    tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(request["threads"])
    if config["run"]["platform"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    gpu = bool(tf.config.get_visible_devices("GPU"))
    images, labels = np.load(data["images"]), np.load(data["labels"])
    # In place, because a data set in float32 is large already.
    images = images.astype(np.float32)
    images /= 255
    images -= np.asarray(data["mean"], np.float32)
    images /= np.asarray(data["std"], np.float32)
    notes = left_out(config, ())
    if any(layer.get("frozen") for layer in layers):
        notes.append("frozen parameters are trained, too")
    if config["model"]["dtype"] == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    batch_size, watch = config["train"]["batch_size"], Stopwatch()
    whole_batches = len(labels) // batch_size
    options = {"batch_size": batch_size, "verbose": 0, "callbacks": [watch]}
    pace = 0.0

    def steps(number: int) -> None:
        nonlocal pace
        rows = slice(0, number * batch_size)
        network.fit(images[rows], labels[rows], **options)
        pace = watch.seconds / number

    def train(seconds: float) -> dict[str, Any]:
        """Pieces of an epoch of whole batches, each as long as `seconds` last."""
        done, elapsed = 0, 0.0
        while elapsed < seconds:
            number = min(whole_batches, max(1, round((seconds - elapsed) / pace)))
            steps(number)
            done, elapsed = done + number * batch_size, elapsed + watch.seconds
        return {"images": done, "seconds": elapsed}

    def evaluate(seconds: float) -> dict[str, Any]:
        done, elapsed = 0, 0.0
        rows = slice(0, request["eval_images"])
        while elapsed < seconds:
            network.evaluate(images[rows], labels[rows], **options)
            done, elapsed = done + request["eval_images"], elapsed + watch.seconds
        return {"images": done, "seconds": elapsed}

    start = time.perf_counter()
    network = make_network(layers, images.shape[1:])
    network.compile(
        make_optimizer(config, notes),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    steps(1)
    first = time.perf_counter() - start
    steps(min(4, whole_batches))
    evaluate(1e-9)
    return {
        "device": "gpu" if gpu else f"cpu, {request['threads']} threads",
        "parameters": sum(int(np.prod(w.shape)) for w in network.trainable_weights),
        "first_step_seconds": first,
        "notes": notes,
    }, {
        "train": train,
        "evaluate": evaluate,
        "device_memory": lambda: (
            tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpu else None
        ),
    }


if __name__ == "__main__":
    serve(prepare)
