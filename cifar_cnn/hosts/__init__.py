"""The processes of a job, and how they keep together.

A job on many hosts is the same command in every process. A process that runs alone may call every
function here, which then does nothing. Process 0 prints and writes; all of them compute, and all of
them take part in saving.
"""

from cifar_cnn.hosts.agreement import (
    all_know,
    check_agree,
    first_then_others,
    from_first,
    highest,
    is_loss,
)
from cifar_cnn.hosts.cluster import VARIABLES, Hosts, set_flags
from cifar_cnn.hosts.process import (
    HEARTBEAT_SECONDS,
    connect,
    find,
    is_first,
    label,
    meet,
    quiet_others,
)

__all__ = [
    "HEARTBEAT_SECONDS",
    "VARIABLES",
    "Hosts",
    "all_know",
    "check_agree",
    "connect",
    "find",
    "first_then_others",
    "from_first",
    "highest",
    "is_first",
    "is_loss",
    "label",
    "meet",
    "quiet_others",
    "set_flags",
]
