"""Fault injection: a real run is broken in every way that is known, and has to end as if nothing
had been.

`running` makes the data and starts the runs; `kills`, `stops`, `damage`, `places`, `locks`,
`numbers` and `processes` break them, each a function that returns trials; `faulty` is the process
whose library calls fail; `harness` does all of it, and prints what was lost.
"""
