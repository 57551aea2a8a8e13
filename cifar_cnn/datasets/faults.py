"""What can go wrong while a data set is prepared, told in one line."""

import contextlib
import re
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import names

# How ArrayRecord tells of a full disk and the like, in a RuntimeError.
_FAILED_CALL = re.compile(r"\b\w+\(\) failed: ([^;]+)")


@contextlib.contextmanager
def faults_in_one_line(resolved: names.Name, root: str) -> Iterator[None]:
    """Turns what the network, the disk and TFDS raise while a set is prepared into UsageError and
    MachineError, with a remedy; a fault of this code keeps its traceback."""
    try:
        yield
    except (UsageError, MachineError):
        raise
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise MachineError(
            f"the download of {resolved} failed ({brief(error)}); check the network and try again"
        ) from error
    except NonMatchingChecksumError as error:
        raise MachineError(
            f"the download of {resolved} does not have the expected checksum; try again"
        ) from error
    except Exception as error:
        if _missing_tensorflow(error):
            raise UsageError(
                f"{resolved} can only be prepared with TensorFlow: prepare it where that is "
                "installed, with download_and_prepare(file_format='array_record'), and copy the "
                "directory; without it: " + ", ".join(names.KNOWN)
            ) from error
        failed = _FAILED_CALL.search(str(error))
        if isinstance(error, OSError) or failed:
            reason = failed[1] if failed else brief(error)
            raise MachineError(f"cannot write {resolved} to {root}: {reason}") from error
        if resolved.dataset in names.KNOWN:
            raise
        raise UsageError(f"TFDS cannot prepare {resolved}: {brief(error)}") from error


def _missing_tensorflow(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ImportError) and "tensorflow" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def brief(error: BaseException) -> str:
    """Returns the reason of an error in a few words: the system's, where it was the system."""
    reason, inner = error, error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        reason = inner if isinstance(inner, TimeoutError | ConnectionError) else reason
        inner = inner.__cause__ or inner.__context__
    text = str(reason).strip().splitlines()
    return text[0][:200] if text else type(reason).__name__
