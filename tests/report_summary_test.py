"""Layer tables of small models whose counts are worked out by hand."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.report.summary import LayerRow, format_summary, summarize, totals


class Pool(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.max_pool(x, (2, 2), (2, 2))


class Flatten(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.reshape(len(x), -1)


class Lesson(nn.Module):
    @nn.compact
    def __call__(self, images, *, train, mask=None):
        x = Pool(name="pool1")(nn.relu(nn.Conv(64, (3, 3), padding="VALID", name="conv1")(images)))
        x = Pool(name="pool2")(nn.relu(nn.Conv(64, (3, 3), padding="VALID", name="conv2")(x)))
        x = nn.Dropout(0.5, deterministic=not train, name="dropout")(Flatten(name="flatten")(x))
        return nn.Dense(10, name="logits")(nn.relu(nn.Dense(128, name="dense")(x)))


def test_plain_network_exactly():
    rows = summarize(Lesson(), (28, 28, 1))
    conv1, conv2 = 9 * 1 * 64 + 64, 9 * 64 * 64 + 64
    dense, logits = 1600 * 128 + 128, 128 * 10 + 10
    flops = [2 * 26 * 26 * 9 * 64, 0, 2 * 11 * 11 * 9 * 64 * 64, 0, 0, 0, 2 * 1600 * 128, 2 * 1280]
    plain = dataclasses.fields(LayerRow)[:8]
    assert [tuple(getattr(row, field.name) for field in plain) for row in rows] == [
        (name, kind, shape, parameters, 0, 4 * parameters, count, False)
        for name, kind, shape, parameters, count in zip(
            ("conv1", "pool1", "conv2", "pool2", "flatten", "dropout", "dense", "logits"),
            ("Conv", "Pool", "Conv", "Pool", "Flatten", "Dropout", "Dense", "Dense"),
            [(26, 26, 64), (13, 13, 64), (11, 11, 64), (5, 5, 64), *[(1600,)] * 2, (128,), (10,)],
            (conv1, 0, conv2, 0, 0, 0, dense, logits),
            flops,
            strict=True,
        )
    ]
    assert totals(rows) == {
        "parameters": 243_786,
        "trainable": 243_786,
        "non_trainable": 0,
        "size_bytes": 4 * 243_786,
        "flops": sum(flops),
    }


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.features, (3, 3), strides=2, feature_group_count=2, use_bias=False)(x)
        return nn.BatchNorm(use_running_average=not train)(x)


class Nested(nn.Module):
    @nn.compact
    def __call__(self, images, *, train, mask=None):
        x = Block(6, name="block")(images, train)
        x = x * self.param("scale", nn.initializers.ones, (1, 1, 1, 6))
        return nn.Dense(3)(x.mean(axis=(1, 2)))


def test_groups_strides_batch_statistics_and_a_parameter_of_the_model_itself():
    rows = {row.name: row for row in summarize(Nested(), (9, 8, 4))}
    assert list(rows) == ["block/Conv_0", "block/BatchNorm_0", "Dense_0", "Nested"]
    conv = rows["block/Conv_0"]
    assert conv.output_shape == (5, 4, 6)
    assert conv.trainable == 9 * (4 // 2) * 6
    assert conv.flops == 2 * (5 * 4) * 9 * (4 // 2) * 6
    norm = rows["block/BatchNorm_0"]
    assert (norm.trainable, norm.non_trainable, norm.flops) == (12, 12, 0)
    assert (rows["Nested"].trainable, rows["Nested"].flops) == (6, 0)
    assert totals(list(rows.values()))["parameters"] == 108 + 24 + 21 + 6


class Twice(nn.Module):
    def setup(self):
        self.conv = nn.Conv(2, (3, 3))

    def helper(self, x):
        return self.conv(x)

    def __call__(self, images, *, train, mask=None):
        return self.helper(self.conv(images)).mean(axis=(1, 2))


def test_shared_layer_counts_parameters_once_and_flops_twice():
    rows = summarize(Twice(), (4, 4, 2))
    assert [(row.name, row.trainable, row.shared) for row in rows] == [
        ("conv", 9 * 4 + 2, False),
        ("conv", 0, True),
    ]
    assert [row.flops for row in rows] == [2 * 16 * 9 * 4] * 2
    assert "shared" in format_summary(rows, "twice")


class ScanBody(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(8)(x), None


class Lifted(nn.Module):
    @nn.compact
    def __call__(self, images, *, train, mask=None):
        x = nn.remat(nn.Conv)(8, (1, 1), name="conv")(images).mean(axis=(1, 2))
        body = nn.scan(ScanBody, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return body(name="stack")(x, None)[0]


def test_lifted_transforms_count_each_layer_once():
    rows = summarize(Lifted(), (5, 5, 3))
    assert [(row.name, row.kind, row.trainable, row.flops) for row in rows] == [
        ("conv", "Conv", 3 * 8 + 8, 2 * 25 * 24),
        ("stack/Dense_0", "Dense", 3 * (64 + 8), 2 * 3 * 64),
    ]


class Odd(nn.Module):
    @nn.compact
    def __call__(self, images, *, train, mask=None):
        x = nn.ConvTranspose(4, (3, 3), strides=(2, 2), padding="VALID")(images)
        x = nn.ConvLocal(2, (3, 3), padding="VALID")(x)
        return nn.DenseGeneral((5, 2), axis=(1, 2, 3))(x)


def test_kernels_applied_elsewhere_than_at_output_positions():
    up, local, dense = summarize(Odd(), (3, 3, 2))
    assert up.output_shape == (7, 7, 4)
    assert up.flops == 2 * 9 * (9 * 2 * 4)  # Each of 9 input pixels meets the whole kernel.
    assert local.flops == 2 * 25 * (9 * 4 * 2)
    assert local.trainable == 25 * (9 * 4 * 2) + 25 * 2
    assert dense.flops == 2 * (5 * 5 * 2) * 10


def test_a_subclass_that_calls_its_parent_is_one_layer():
    class MyConv(nn.Conv):
        def __call__(self, x):
            return super().__call__(x) + 1

    class Model(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return MyConv(4, (3, 3))(images)

    (row,) = summarize(Model(), (4, 4, 1))
    assert (row.kind, row.trainable, row.flops) == ("MyConv", 40, 2 * 16 * 36)


def test_rows_cover_every_variable_and_half_precision_weighs_half():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, images, *, train, mask=None):
            x = nn.Conv(4, (3, 3), param_dtype=jnp.bfloat16)(images)
            x = nn.Sequential([nn.relu, nn.Dense(3), nn.LayerNorm()])(x)
            return nn.MultiHeadDotProductAttention(1)(x.reshape(len(x), -1, 3)).mean(axis=1)

    rows = summarize(Model(), (4, 4, 1))
    init = functools.partial(Model().init, train=False)
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 4, 4, 1))))
    assert totals(rows)["parameters"] == sum(leaf.size for leaf in leaves)
    assert totals(rows)["size_bytes"] == sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def test_nothing_is_run_or_allocated():
    class Huge(nn.Module):
        @nn.compact
        def __call__(self, images, *, train, mask=None):
            return nn.Dense(10**7)(images.reshape(1, -1))

    (row,) = summarize(Huge(), (1024, 1024, 3))  # 126 TB of weights
    assert row.trainable == 1024 * 1024 * 3 * 10**7 + 10**7
    assert "TiB" in format_summary([row], "huge")


def test_text_is_aligned_and_totals_are_told():
    text = format_summary(summarize(Lesson(), (28, 28, 1)), "plain on 28x28x1")
    lines = text.splitlines()
    assert lines[0] == "plain on 28x28x1"
    table = [line for line in lines[2:12] if not line.startswith("-")]
    assert len({len(line) for line in table}) == 1
    assert len(table) == 9
    assert "Parameters:     243,786 (952.29 KiB)" in text
    assert "Non-trainable:  0" in text
    assert "2 x multiply-adds" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 0), (28, 2.5, 1)])
def test_bad_image_shape_is_refused(shape):
    with pytest.raises(UsageError, match="image_shape"):
        summarize(Lesson(), shape)
