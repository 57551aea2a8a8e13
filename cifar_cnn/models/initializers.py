"""Initial kernels that already do something useful: whitening and the identity."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cifar_cnn.checks import UsageError


def whitening_kernel(images: jax.Array, size: int, epsilon: float = 5e-4) -> jax.Array:
    """Filters whose responses to the patches of `images` are uncorrelated, with variance near 1.

    With the eigenvalues l and eigenvectors v of the covariance of all size x size patches, filter
    i is v_i / sqrt(l_i + epsilon), and a second half of filters is the negative of the first, so
    that an activation which cuts off one sign loses nothing (Page 2019, "How to train your
    ResNet"; Jordan 2024, arXiv:2404.00498, section 3.1). Filters fall in variance, and the largest
    component of each in the first half is positive, so that equal images give an equal kernel.

    Args:
      images: float [N, H, W, C], as the network sees them; a few thousand are plenty. They are
        copied size * size times. Images without contrast give a finite kernel, too.
      size: pixels of a patch, square.
      epsilon: variance below which a direction counts as noise and is amplified less; in the
        square of the images' unit.

    Returns:
      float32 [size, size, C, 2 * size * size * C].

    Raises:
      UsageError: images that are smaller than a patch.
    """
    height, width = (side - size + 1 for side in images.shape[1:3])
    channels = images.shape[3]
    if height < 1 or width < 1:
        raise UsageError(
            f"images are {images.shape[1]} x {images.shape[2]} pixels, expected at least the "
            f"{size} x {size} of a patch to be whitened"
        )
    images = images.astype(jnp.float32)
    taps = [images[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    patches = jnp.concatenate(taps, axis=-1).reshape(-1, size * size * channels)
    patches -= patches.mean(axis=0, keepdims=True)
    # Accelerators multiply float32 in fewer bits unless told otherwise.
    covariance = jnp.matmul(patches.T, patches, precision=lax.Precision.HIGHEST) / len(patches)
    variances, vectors = jnp.linalg.eigh(covariance)
    variances, vectors = jnp.maximum(variances[::-1], 0), vectors[:, ::-1]
    largest = jnp.argmax(jnp.abs(vectors), axis=0, keepdims=True)
    vectors *= jnp.sign(jnp.take_along_axis(vectors, largest, axis=0))
    filters = vectors / jnp.sqrt(variances + epsilon).reshape(1, -1)
    filters = filters.reshape(size, size, channels, -1)
    return jnp.concatenate([filters, -filters], axis=-1)


def dirac(otherwise: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """An initializer of convolutions that pass their input on at the start.

    Of a kernel [h, w, C, F] the first min(C, F) filters are the identity: filter i takes channel i
    at the centre (Zagoruyko & Komodakis 2017, arXiv:1706.00388; Jordan 2024, arXiv:2404.00498,
    section 3.1). With padding 'SAME' and stride 1 the first channels of the output are then the
    input.

    Args:
      otherwise: initializer of the filters beyond these.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        height, width, channels, features = shape
        identity = jnp.eye(channels, features, dtype=dtype)
        centre = jnp.zeros(shape, dtype).at[(height - 1) // 2, (width - 1) // 2].set(identity)
        is_identity = (jnp.arange(features) < channels).reshape(1, 1, 1, -1)
        return jnp.where(is_identity, centre, otherwise(key, shape, dtype))

    return init
