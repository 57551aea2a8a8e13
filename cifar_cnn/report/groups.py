"""Runs side by side: which are one recipe with several seeds, and what sets recipes apart."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from cifar_cnn.data import Facts
from cifar_cnn.report.comparison import format_value
from cifar_cnn.report.results import Curves

_LONGEST_LABEL = 32


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run with everything that is compared.

    Attributes:
      name: the shortest end of its path that no other run has.
      workdir: of the run.
      config: complete, nested.
      recipe: values of the config by dotted key, without the seed and the section `run`.
      facts: of its data.
      step: of the compared checkpoint.
      curves: its loss and accuracy over the epochs.
      seconds: of training, and those of them that compiled too; see `results.read_seconds`.
      evaluation: metrics.json of that checkpoint on the compared split.
    """

    name: str
    workdir: pathlib.Path
    config: dict[str, Any]
    recipe: dict[str, Any]
    facts: Facts
    step: int
    curves: Curves
    seconds: tuple[float, float]
    evaluation: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of the whole run."""
        return self.config["seed"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in seed, and what they are called together."""

    label: str
    runs: tuple[Run, ...]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Puts together the runs whose recipes and data are the same, in the order of the runs.

    Two runs of one recipe and one seed are no two samples of it: the second one opens a new group.
    """
    members: list[list[Run]] = []
    for run in runs:
        for group in members:
            same = group[0].recipe == run.recipe and _same_data(group[0], run)
            if same and run.seed not in [other.seed for other in group]:
                group.append(run)
                break
        else:
            members.append([run])
    labels = _labels(members)
    return [Group(label, tuple(group)) for label, group in zip(labels, members, strict=True)]


def _same_data(first: Run, second: Run) -> bool:
    """Whether two runs were trained on the same images, wherever these were prepared."""
    a, b = (dataclasses.replace(run.facts, fingerprint="") for run in (first, second))
    return a == b


def config_differences(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Keys of the config with other values, and both values ('not there' where a key is new)."""
    keys = dict.fromkeys([*first.recipe, *second.recipe])
    values = {
        k: (first.recipe.get(k, "not there"), second.recipe.get(k, "not there")) for k in keys
    }
    return {key: (a, b) for key, (a, b) in values.items() if a != b}


def _labels(members: Sequence[Sequence[Run]]) -> list[str]:
    """Short names of groups: what sets their configs apart, or else their directories'."""
    firsts = [group[0] for group in members]
    keys = list(dict.fromkeys(k for run in firsts[1:] for k in config_differences(firsts[0], run)))
    short = _short_keys(keys, firsts[0].recipe)
    labels = [
        ", ".join(f"{short[key]}={format_value(run.recipe.get(key, 'none'))}" for key in keys)
        for run in firsts
    ]
    if _distinct(labels) and max(map(len, labels)) <= _LONGEST_LABEL:
        return labels
    # runs/dropout-0 and runs/dropout-1 are together 'dropout'.
    stems = [{run.name.removesuffix(f"-{run.seed}") for run in group} for group in members]
    labels = [min(names) if len(names) == 1 else "" for names in stems]
    if _distinct(labels):
        return labels
    return [
        run.name + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        for run, group in zip(firsts, members, strict=True)
    ]


def _short_keys(keys: Sequence[str], known: dict[str, Any]) -> dict[str, str]:
    """'train.epochs' as it is; 'dense_dropout' for model.plain.dense_dropout if that is clear."""
    ends = [key.rsplit(".", 1)[-1] for key in known]
    short = {}
    for key in keys:
        *_, section, end = ["", *key.split(".")]
        whole = key.count(".") < 2
        short[key] = key if whole else end if ends.count(end) == 1 else f"{section}.{end}"
    return short


def _distinct(labels: Sequence[str]) -> bool:
    return all(labels) and len(set(labels)) == len(labels)
