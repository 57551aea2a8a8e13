"""Speed of training and evaluation, ours beside other libraries', each in a process of its own.

`planning` turns flags into cells (a network, a batch size) and engines; `measuring` asks the
engines' processes in turn; `asking` and `serving` are the two ends of that conversation; `layers`
describes a network so that a peer can build the same one; `ours` is the process that runs this
project's own programs. Nothing is imported here: a peer's process loads `serving` without JAX.
"""
