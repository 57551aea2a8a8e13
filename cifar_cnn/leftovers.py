"""What Orbax leaves unfinished after a failure, and would tell in pages of tracebacks."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def kept_quiet() -> Iterator[None]:
    """Keeps Orbax's tracebacks off the screen in the block, and late ones after it.

    Reads and writes that it leaves unfinished after the first failure raise when they are
    collected, where Python can only print: hundreds of lines about what is already told in one.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda *_: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = _without_late_calls(hook)


def _without_late_calls(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook that does not tell what TensorStore's threads say to a loop of Orbax's that has ended.

    What they have not given up when a save fails calls back later, even at the end of the process.
    """
    if getattr(hook, "leaves_out_late_calls", False):
        return hook

    def tell(found: Any) -> None:
        error = found.exc_value
        if not (isinstance(error, RuntimeError) and "loop is closed" in str(error)):
            hook(found)

    tell.leaves_out_late_calls = True
    return tell
