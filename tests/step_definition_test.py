"""Training steps and an evaluation against their definitions, written out in numpy."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_cnn import mesh as mesh_lib
from cifar_cnn import steps
from cifar_cnn.augment import Visit, make_augment, make_views, mixup, shrink
from cifar_cnn.data import Examples
from cifar_cnn.rng import stream
from cifar_cnn.state import init_state
from tests.families import noise

CLASSES, RATE, MOMENTUM, DECAY = 3, 0.5, 0.75, 0.625
MEAN, STD = np.float32([0.5, 0.25]), np.float32([0.25, 0.125])


class Net(nn.Module):
    """Features, less their mean in the batch (or the running one), after dropout; then a matrix."""

    def setup(self):
        self.head = nn.Dense(CLASSES)
        self.dropout = nn.Dropout(0.5)

    @nn.compact
    def features(self, images, train, mask):
        x = images.mean(axis=1).reshape(images.shape[0], -1)
        running = self.variable("batch_stats", "mean", jnp.zeros, x.shape[1:])
        centre = running.value
        if train:
            rows = jnp.ones(len(x), bool) if mask is None else mask
            centre = jnp.where(rows[:, None], x, 0).sum(axis=0) / rows.sum()
            running.value = (running.value + centre) / 2
        return self.dropout(x - centre.reshape(1, -1), deterministic=not train)

    def __call__(self, images, *, train, mask=None):
        return self.head(self.features(images, train, mask))


class Case(NamedTuple):
    """A run: 11 examples a pass."""

    devices: int
    batch_size: int
    micro_batch_size: int
    padded_size: int
    augments: tuple[str, ...] = ()
    image_size: int = 0
    mixup_alpha: float = 0.0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0


CASES = {
    # The second batch of a pass has 4 examples, in the first two of four micro-batches.
    "all": Case(2, 7, 3, 12, ("flip", "crop"), 4, 0.75, 0.25, DECAY),
    # Nothing but the last batch is padded.
    "a short batch": Case(1, 7, 7, 7),
    "nothing": Case(1, 11, 11, 11),
}
SECTIONS = {
    "flip": {"probability": 0.5, "alternate": True},
    "crop": {"padding": 1, "mode": "edge"},
}
RUN = jax.random.key(7)
MODEL = Net()
OPTIMIZER = optax.trace(MOMENTUM), optax.scale(-RATE)


def make_examples():
    rng = np.random.default_rng(0)
    return Examples(
        images=jnp.asarray(rng.integers(0, 256, (20, 6, 5, 2)), jnp.uint8),
        labels=jnp.asarray(rng.integers(0, CLASSES, 20), jnp.int32),
        indices=jnp.asarray(rng.permutation(20)[:11], jnp.int32),
    )


def make_state(case):
    images = jnp.zeros((1, *(2 * [case.image_size] if case.image_size else (6, 5)), 2))
    start = init_state(
        MODEL, optax.chain(*OPTIMIZER), jax.random.key(1), images, ema=case.ema_decay > 0
    )
    # In the middle of a run: no number is at its first value.
    stats = {"mean": noise(*start.batch_stats["mean"].shape)}
    moved = jax.tree.map(lambda leaf: leaf + noise(*leaf.shape), start.opt_state)
    average = start.ema_params and jax.tree.map(lambda leaf: leaf + 0.5, start.ema_params)
    steps_a_pass = -(-11 // case.batch_size)
    return start.replace(
        step=jnp.int32(steps_a_pass), batch_stats=stats, opt_state=moved, ema_params=average
    )


def make_chunk(case):
    mesh = mesh_lib.make_mesh(jax.devices()[: case.devices])
    step = functools.partial(
        steps.train_step,
        model=MODEL,
        optimizer=optax.chain(*OPTIMIZER),
        augment=make_augment(case.augments, **SECTIONS),
        image_size=case.image_size,
        mixup_alpha=case.mixup_alpha,
        mean=jnp.asarray(MEAN),
        std=jnp.asarray(STD),
        label_smoothing=case.label_smoothing,
        ema_decay=case.ema_decay,
        micro_batch_size=case.micro_batch_size,
        mesh=mesh,
        one_by_one=True,
    )
    chunk = functools.partial(
        steps.train_chunk,
        step=step,
        batch_size=case.batch_size,
        padded_size=case.padded_size,
        steps_per_epoch=-(-11 // case.batch_size),
        longest=3,
        mesh=mesh,
    )
    return jax.jit(chunk)


def normalised(images):
    return ((np.asarray(images, np.float64) / 255 - MEAN) / STD).astype(np.float32)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


# Compiled, because one operation at a time takes longer.
@functools.partial(jax.jit, static_argnums=0)
def seen(case, rows, count, step):
    """The images of a step, the partner of each row, and the weight of its own label."""
    epoch = step // -(-11 // case.batch_size)
    images = make_augment(case.augments, **SECTIONS)(
        stream(RUN, "augment", step),
        make_examples().images[rows],
        Visit(rows, epoch, stream(RUN, "visit")),
    )
    if case.image_size:
        images = shrink(images, case.image_size)
    if case.mixup_alpha:
        return mixup(stream(RUN, "mixup", step), images, count, alpha=case.mixup_alpha)
    return images, jnp.arange(len(rows)), jnp.float32(1)


@jax.jit
def features_of(state, images, counts, step, number):
    key = jax.random.fold_in(stream(RUN, "dropout", step), number)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return MODEL.apply(
        variables, images, True, counts, rngs={"dropout": key}, mutable=["batch_stats"],
        method="features",
    )  # fmt: skip


def micro_batches(case, state, rows, step):
    """(features, targets, labels, running mean) of each micro-batch that has examples."""
    count, size = len(rows), case.micro_batch_size
    padded = np.r_[rows, np.full(case.padded_size - count, rows[0])].astype(np.int32)
    images, partner, share = map(np.asarray, seen(case, padded, np.int32(count), np.int32(step)))
    labels = np.asarray(make_examples().labels)[padded]
    exact = np.eye(CLASSES)[labels]
    exact = share * exact + (1 - share) * exact[partner]
    targets = (1 - case.label_smoothing) * exact + case.label_smoothing / CLASSES
    for number in range(-(-count // size)):
        part = slice(number * size, (number + 1) * size)
        counts = np.arange(case.padded_size)[part] < count
        features, new = features_of(state, normalised(images[part]), counts, step, number)
        yield (
            np.asarray(features, np.float64)[counts], targets[part][counts], labels[part][counts],
            np.asarray(new["batch_stats"]["mean"]),
        )  # fmt: skip


def numpy_step(case, state, momentum, rows, step):
    """State, momentum and scalars after a step of SGD with momentum on softmax regression."""
    head = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params["head"])
    grads, loss, correct, running = jax.tree.map(np.zeros_like, head), 0.0, 0, 0.0
    for features, targets, labels, mean in micro_batches(case, state, rows, step):
        log_probs = log_softmax(features @ head["kernel"] + head["bias"])
        loss -= (targets * log_probs).sum() / len(rows)
        error = (np.exp(log_probs) - targets) / len(rows)
        grads["kernel"] += features.T @ error
        grads["bias"] += error.sum(axis=0)
        correct += (log_probs.argmax(axis=1) == labels).sum()
        running += len(features) / len(rows) * mean
    momentum = jax.tree.map(lambda old, grad: MOMENTUM * old + grad, momentum, grads)
    new = jax.tree.map(lambda param, sums: param - RATE * sums, head, momentum)
    average = state.ema_params
    if average is not None:
        average = {"head": jax.tree.map(lambda old, param: DECAY * old + (1 - DECAY) * param,
                                        average["head"], new)}  # fmt: skip
    state = state.replace(params={"head": new}, batch_stats={"mean": running}, ema_params=average)
    return state, momentum, (loss, correct, len(rows))


def close(got, expected):
    """Equal up to the rounding of some sums in float32."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_pass_of_steps_is_the_definition(name):
    case, examples = CASES[name], make_examples()
    order = jnp.asarray(np.random.default_rng(1).permutation(examples.indices))
    chunk, start = make_chunk(case), make_state(case)
    first, last = int(start.step), 2 * int(start.step)
    state, records = chunk(start, examples, order, RUN, jnp.int32(last))
    expected, momentum, scalars = start, start.opt_state[0].trace["head"], []
    for step in range(first, last):
        batch = step - first
        rows = np.asarray(order)[batch * case.batch_size : (batch + 1) * case.batch_size]
        expected, momentum, seen = numpy_step(case, expected, momentum, rows, step)
        scalars.append(seen)
    assert int(state.step) == last
    for place, column in enumerate(("loss", "correct", "count")):
        got = np.asarray(records[column])
        np.testing.assert_allclose(got[: len(scalars)], [s[place] for s in scalars], rtol=1e-4)
        assert np.isnan(got[len(scalars) :]).all()
    close(state.params, expected.params)
    close(state.opt_state[0].trace["head"], momentum)
    close(state.batch_stats, expected.batch_stats)
    assert (state.ema_params is None) == (case.ema_decay == 0)
    if case.ema_decay:
        close(state.ema_params, expected.ema_params)
    # What is not finite ends the loop after its step.
    broken = start.replace(params=jax.tree.map(lambda leaf: leaf * jnp.inf, start.params))
    state, records = chunk(broken, examples, order, RUN, jnp.int32(last))
    assert int(state.step) == first + 1
    assert np.isnan(records["loss"]).all()


@pytest.mark.parametrize(("devices", "one_by_one"), [(2, True), (1, False)])
def test_an_evaluation_is_the_definition(devices, one_by_one):
    examples, state = make_examples(), make_state(CASES["nothing"])
    views = make_views(("flip", "crop"), shift=1)
    evaluate = functools.partial(
        steps.eval_batches,
        model=MODEL,
        views=views,
        mean=jnp.asarray(MEAN),
        std=jnp.asarray(STD),
        padded_size=4,
        micro_batch_size=1,
        mesh=mesh_lib.make_mesh(jax.devices()[:devices]),
        one_by_one=one_by_one,
    )
    empty = steps.Evaluation.begin(batches=4, batch_size=3, num_classes=CLASSES)
    evaluation = jax.jit(evaluate)(state.eval_variables, examples, empty, 0, 4)
    metrics, logits = evaluation.finish(11)
    images, labels = (np.asarray(a)[examples.indices] for a in (examples.images, examples.labels))
    head, mean = jax.tree.map(np.asarray, (state.params["head"], state.batch_stats["mean"]))
    probabilities = 0
    for weight, view in views:
        x = normalised(view(images)).mean(axis=1).reshape(11, -1) - mean
        probabilities += weight * np.exp(log_softmax(x @ head["kernel"] + head["bias"]))
    np.testing.assert_allclose(logits, np.log(probabilities), rtol=1e-4, atol=1e-5)
    result, predicted = metrics.compute(), probabilities.argmax(axis=1)
    assert result["count"] == 11
    exact = -np.log(probabilities[np.arange(11), labels]).mean()
    np.testing.assert_allclose(result["loss"], exact, rtol=1e-5)
    assert result["accuracy"] == pytest.approx((predicted == labels).mean())
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (labels, predicted), 1)
    np.testing.assert_array_equal(metrics.confusion, confusion)


def test_the_first_state_is_drawn_from_its_key_and_its_average_begins_there():
    optimizer = optax.chain(*OPTIMIZER)
    images = jnp.zeros((1, 6, 5, 2))
    state = init_state(MODEL, optimizer, jax.random.key(3), images, ema=True)
    assert int(state.step) == 0
    drawn = MODEL.init(jax.random.key(3), images, train=False)
    jax.tree.map(np.testing.assert_array_equal, state.params, drawn["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, drawn["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, state.params)
    # A donated state must not hold one buffer twice.
    buffers = [id(leaf) for leaf in jax.tree.leaves((state.params, state.ema_params))]
    assert len(set(buffers)) == len(buffers)
    other = init_state(MODEL, optimizer, jax.random.key(4), images, ema=False)
    assert np.any(other.params["head"]["kernel"] != state.params["head"]["kernel"])
    assert other.ema_params is None
    assert other.eval_variables["params"] is other.params
    # The average is what the network is evaluated with.
    moved = state.replace(ema_params=jax.tree.map(lambda leaf: leaf + 1, state.params))
    assert moved.eval_variables == {"params": moved.ema_params, "batch_stats": moved.batch_stats}
