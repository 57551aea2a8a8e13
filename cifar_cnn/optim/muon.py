"""Muon: momentum made orthogonal for convolutions, SGD for everything else."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cifar_cnn.checks import UsageError, check_bool, check_int, check_number
from cifar_cnn.optim.groups import convolution_mask
from cifar_cnn.optim.sgd import check_momentum, sgd

# Of a quintic that is steep at 0 rather than exact at 1: few steps are enough, and leave singular
# values between about 0.7 and 1.2 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
# Rounding may make an eigenvalue of the Gram matrix negative, by 1e-7 of the largest; each step
# takes it 12 times further from 0.
_MAX_STEPS = 5


def muon(
    schedule: optax.Schedule,
    learning_rate: float,
    weight_decay: float,
    *,
    momentum: float,
    nesterov: bool,
    ns_steps: int,
    normalize_kernels: bool,
    sgd_learning_rate: float,
    sgd_momentum: float,
) -> optax.GradientTransformation:
    """Muon for the kernels of convolutions, SGD with Nesterov momentum for the other parameters.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon. A kernel [h, w, c, f] is the matrix [h * w * c, f];
    its update is schedule(step) times the momentum with all singular values brought near 1,
    whatever the shape: no factor for width or fan-in, as in the CIFAR-10 speed record.

    Args:
      schedule, learning_rate: of the convolutions, and its peak.
      weight_decay: times the kernel, added to the gradients of the other kernels, as in 'sgd'. On
        the convolutions it is decoupled, as in 'adamw', and not used where normalize_kernels.
      momentum: of the sum of gradients, in [0, 1); 0 for none.
      nesterov: whether that sum looks a step ahead.
      ns_steps: of the Newton-Schulz iteration, from 1 to 5.
      normalize_kernels: whether a convolution's kernel has Frobenius norm sqrt(f) before each
        update, so that only its direction is learned; for kernels that a normalisation follows.
      sgd_learning_rate: peak of SGD's learning rate, which follows the same schedule.
      sgd_momentum: in [0, 1); 0 for none.

    Raises:
      UsageError: naming the key under `optim.muon`.
    """
    check_momentum("optim.muon", momentum, nesterov)
    check_int("optim.muon.ns_steps", ns_steps, minimum=1, maximum=_MAX_STEPS)
    check_bool("optim.muon.normalize_kernels", normalize_kernels)
    check_number("optim.muon.sgd_learning_rate", sgd_learning_rate, above=0)
    check_number("optim.muon.sgd_momentum", sgd_momentum, minimum=0, below=1)

    def orthogonal(update: jax.Array, kernel: jax.Array) -> jax.Array:
        del kernel
        matrix = update.reshape(-1, update.shape[-1])
        return orthogonalize(matrix, ns_steps).reshape(update.shape)

    convolutions = [optax.trace(momentum, nesterov)] if momentum else []
    convolutions.append(optax.stateless_with_tree_map(orthogonal))
    if not normalize_kernels:
        convolutions.append(optax.add_decayed_weights(weight_decay))
    convolutions.append(optax.scale_by_learning_rate(schedule))
    if normalize_kernels:
        convolutions.append(optax.stateless_with_tree_map(_normalize_first))
    others = sgd(
        lambda step: sgd_learning_rate / learning_rate * schedule(step),
        weight_decay,
        momentum=sgd_momentum,
        nesterov=sgd_momentum > 0,
    )
    return optax.partition(
        {"muon": optax.chain(*convolutions), "sgd": others},
        lambda params: jax.tree.map(
            lambda is_convolution: "muon" if is_convolution else "sgd", convolution_mask(params)
        ),
    )


def orthogonalize(matrix: jax.Array, steps: int) -> jax.Array:
    """Returns U f(S) V^T of a matrix U S V^T, with f(S) near 1 by a Newton-Schulz iteration.

    Every step X <- (a + b X X^T + c (X X^T)^2) X is a polynomial of the first Gram matrix times
    the first X, so the steps are taken on the Gram matrix of the smaller side and X is multiplied
    once, at the end. For 2304x256 and three steps that is half of the arithmetic of
    `optax.contrib.scale_by_muon`, which multiplies X in every step.

    Args:
      matrix: float32 [m, n]; its scale does not matter.
      steps: from 1 to 5. Singular values below about 1 / 3.4^steps of the Frobenius norm stay
        small.

    Returns:
      float32 [m, n]; 0 where the matrix is 0.
    """
    a, b, c = _QUINTIC
    # Rounded to TF32 or bfloat16, as accelerators do by default, the Gram matrix would no longer
    # be positive; see _MAX_STEPS.
    dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    x = matrix / (jnp.linalg.norm(matrix) + 1e-7)
    is_tall = matrix.shape[0] >= matrix.shape[1]
    gram = dot(x.T, x) if is_tall else dot(x, x.T)

    def polynomial(gram: jax.Array) -> jax.Array:
        return a * jnp.eye(len(gram), dtype=gram.dtype) + b * gram + c * dot(gram, gram)

    factor = product = polynomial(gram)
    for _ in range(steps - 1):
        gram = dot(dot(factor, gram), factor)
        factor = polynomial(gram)
        product = dot(factor, product)
    return dot(x, product) if is_tall else dot(product, x)


def needs_convolutions(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer`, whose `init` refuses parameters without a convolution's kernel."""

    def init(params: optax.Params) -> optax.OptState:
        if not any(jax.tree.leaves(convolution_mask(params))):
            raise UsageError(
                "optim.name is 'muon', but the network has no convolution for it: use sgd"
            )
        return optimizer.init(params)

    return optax.GradientTransformationExtraArgs(init, optimizer.update)


def _normalize_first(update: jax.Array, kernel: jax.Array) -> jax.Array:
    """Adds to the update what takes a kernel [h, w, c, f] to Frobenius norm sqrt(f)."""
    norm = jnp.maximum(jnp.linalg.norm(kernel.ravel()), 1e-7)  # A kernel of 0 stays there.
    return update + (kernel.shape[-1] ** 0.5 / norm - 1) * kernel
