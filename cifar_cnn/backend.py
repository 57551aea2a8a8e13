"""What XLA is told before it starts, and a check that what it compiles computes right.

A fault of XLA's CPU compiler that gives wrong numbers without a word is avoided by a flag, in the
versions of jaxlib that have it. What no release of this project was tested with is checked when it
starts.
"""

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

# The versions of jaxlib in requirements.lock, with which all tests pass.
TESTED = ("0.10.2", "0.12.0.1")
# Bit-exact resume needs deterministic sums on a GPU; and a CPU device that waits for another must
# survive a machine that is busy or was asleep (XLA's own limit is 40 seconds).
_FLAGS = {
    "xla_gpu_deterministic_ops": "true",
    "xla_cpu_collective_call_terminate_timeout_seconds": "1200",
    "xla_cpu_collective_timeout_seconds": "1200",  # The same between processes; JAX 0.9 has it.
}


class Fault(NamedTuple):
    """A fault of jaxlib on a CPU: the versions from `first` to `last` (None: not yet mended) have
    it, and `flag` avoids it."""

    first: str
    last: str | None
    flag: tuple[str, str]


_NO_REDUCTIONS_BY_YNNPACK = ("xla_cpu_experimental_ynn_fusion_type", "-reduce")
FAULTS = (
    # jax issue 39103: a product under vmap and then a sum, such as
    # `vmap(lambda row: ((eye(3) @ row) ** 2).sum())(x)` of 32,769 rows, loses 2e-3 of the result.
    Fault("0.10.2", "0.10.2", _NO_REDUCTIONS_BY_YNNPACK),
    # Two bfloat16 convolutions with ReLU and a reduction become one program of YNNPACK, which reads
    # memory that nobody has written: NaN or any number in
    # `relu(conv(relu(conv(x)))).mean((1, 2))` of 8 x 8 pixels and 64 filters of 1 x 1.
    Fault("0.11.2", None, _NO_REDUCTIONS_BY_YNNPACK),
)


def set_flags() -> None:
    """Adds the flags to XLA_FLAGS, which XLA reads when its backend starts; the user's own stay."""
    flags = dict(_FLAGS)
    flags.update(fault.flag for fault in FAULTS if has(fault, jaxlib.__version__))
    old = os.environ.get("XLA_FLAGS", "")
    added = [f"--{name}={value}" for name, value in flags.items() if name not in old]
    os.environ["XLA_FLAGS"] = " ".join([old, *added]).strip()


def has(fault: Fault, version: str) -> bool:
    """Whether a version of jaxlib has a fault."""
    known = fault.last is None or _numbers(version) <= _numbers(fault.last)
    return known and _numbers(fault.first) <= _numbers(version)


def complaint() -> str:
    """What to tell of a jaxlib that is not in `TESTED` and computes wrong numbers on a CPU, as a
    small compiled program shows; '' for any other one."""
    if jaxlib.__version__ in TESTED or jax.default_backend() != "cpu":
        return ""
    what = wrong_number()
    if not what:
        return ""
    return (
        f"jaxlib {jaxlib.__version__}, with which this project was never tested, computes wrong "
        f"numbers on this CPU: {what}; make the environment anew with scripts/setup.sh, or install "
        f"jaxlib {TESTED[-1]}"
    )


def wrong_number() -> str:
    """What a small compiled program gets wrong; '' where it is right.

    The program holds the smallest example of each of `FAULTS`.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 32)).astype(np.float32)
    kernels = [
        (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for shape in ((32, 64), (64, 64))
    ]
    rows = np.linspace(0, 1, 3 * 32769, dtype=np.float32).reshape(-1, 3)

    # LLVM's share is optimised less, which compiles in half the time.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compiled(x: jax.Array, kernels: list[jax.Array], rows: jax.Array) -> list[jax.Array]:
        x = x.reshape(1, 8, 8, 32).astype(jnp.bfloat16)
        for kernel in kernels:
            kernel = kernel.astype(jnp.bfloat16)[None, None]
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x)
        squares = jax.vmap(lambda row: ((jnp.eye(3) @ row) ** 2).sum())(rows)
        return [x.mean((0, 1, 2)).astype(jnp.float32), squares]

    got = [np.asarray(result) for result in compiled(x, kernels, rows)]
    mean = np.maximum(np.maximum(x @ kernels[0], 0) @ kernels[1], 0).mean(0)
    wanted = [mean, (rows**2).sum(1)]
    names = ("means of two bfloat16 convolutions", "float32 sums of squares")
    # Some roundings to 8 bits one after another; some to 24 bits.
    for name, found, right, bound in zip(names, got, wanted, (2**-5, 2**-20), strict=True):
        error = np.abs(found - right).max() / np.abs(right).max()
        if not error <= bound:
            return f"{name} are wrong by {error:.2g} of the largest, expected at most {bound:.2g}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """'0.12.0.1' as (0, 12, 0, 1); what follows the numbers, as in '0.13.0.dev1', is left out."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
