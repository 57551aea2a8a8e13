"""Intervals against scipy's tests and by hand; curves and disagreements from hand-made files."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from cifar_cnn.checks import UsageError
from cifar_cnn.report import curves, disagreement, intervals
from cifar_cnn.report.comparison import format_value, percent_range
from cifar_cnn.report.predictions import Predictions
from cifar_cnn.report.results import read_curves, read_evaluation, read_seconds

FIRST, SECOND = [0.7054, 0.7088, 0.7240], [0.6511, 0.6651, 0.6672]


def test_seeds_have_mean_deviation_and_students_interval():
    got = intervals.over_seeds(FIRST)
    # By hand: the 97.5 % point of Student's t with 2 degrees of freedom is 4.302653.
    mean = sum(FIRST) / 3
    std = (sum((x - mean) ** 2 for x in FIRST) / 2) ** 0.5
    half = 4.302652729749464 * std / 3**0.5
    assert got["mean"] == pytest.approx(mean)
    assert got["std"] == pytest.approx(std)
    assert (got["n"], got["min"], got["max"]) == (3, 0.7054, 0.7240)
    assert got["interval_95"] == pytest.approx([mean - half, mean + half])


def test_one_seed_has_no_interval():
    got = intervals.over_seeds([0.5])
    assert (got["n"], got["mean"], got["std"], got["interval_95"]) == (1, 0.5, None, None)


def test_differences_over_seeds_are_those_of_the_t_tests():
    got = intervals.welch_difference(FIRST, SECOND)
    variances = [np.var(x, ddof=1) / 3 for x in (FIRST, SECOND)]
    df = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)  # Welch-Satterthwaite.
    half = stats.t.ppf(0.975, df) * sum(variances) ** 0.5
    difference = np.mean(SECOND) - np.mean(FIRST)
    assert got["degrees_of_freedom"] == pytest.approx(df)
    assert got["difference"] == pytest.approx(difference)
    assert got["interval_95"] == pytest.approx([difference - half, difference + half])

    got = intervals.paired_difference(FIRST, SECOND)
    want = stats.ttest_rel(SECOND, FIRST).confidence_interval(0.95)
    assert got["interval_95"] == pytest.approx([want.low, want.high])
    assert got["degrees_of_freedom"] == 2


def test_seeds_that_do_not_vary_give_the_limit_and_no_warning():
    got = intervals.welch_difference([0.5, 0.5], [0.75, 0.75])
    assert got["interval_95"] == [0.25, 0.25]
    assert got["degrees_of_freedom"] is None


def test_images_are_counted_and_mcnemar_is_the_binomial_test():
    first = np.array([1] * 50 + [1] * 12 + [0] * 5 + [0] * 33, bool)
    second = np.array([1] * 50 + [0] * 12 + [1] * 5 + [0] * 33, bool)
    got = intervals.images_difference(first, second)
    counts = [got[k] for k in ("both_right", "only_first", "only_second", "both_wrong")]
    assert counts == [50, 12, 5, 33]
    assert got["difference"] == pytest.approx(second.mean() - first.mean())
    assert got["mcnemar_p"] == pytest.approx(stats.binomtest(5, 17, 0.5).pvalue)
    # Agresti & Min 2005 by hand: 12.5 and 5.5 of 102.
    centre, spread = -7 / 102, (18 - 49 / 102) ** 0.5 / 102
    half = 1.959963984540054 * spread
    assert got["interval_95"] == pytest.approx([centre - half, centre + half])


def test_the_interval_over_images_covers_at_its_rate():
    """1,000 pairs of networks whose true difference is 4 points, on 300 images each."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(300, [0.6, 0.1, 0.14, 0.16], 1000)
    covered = 0
    for both, one, other, none in draws:
        first = np.repeat([True, True, False, False], [both, one, other, none])
        second = np.repeat([True, False, True, False], [both, one, other, none])
        low, high = intervals.images_difference(first, second)["interval_95"]
        covered += low <= 0.04 <= high
    # Three standard errors of a share of 1,000 that is 0.95.
    assert abs(covered / 1000 - 0.95) < 3 * (0.95 * 0.05 / 1000) ** 0.5


def test_networks_that_never_disagree():
    right = np.ones(10, bool)
    got = intervals.images_difference(right, right)
    assert got["mcnemar_p"] == 1
    assert got["difference"] == 0
    assert got["interval_95"][0] < 0 < got["interval_95"][1]


def test_values_are_short():
    assert format_value(["flip", "crop"]) == "flip+crop"
    assert format_value([[48, 48], [96, 96]]) == "48-48/96-96"
    assert format_value([]) == "none"
    assert format_value(0.5) == "0.5"
    assert percent_range([-0.1, 0.5]) == "0.00 to 50.00 %"


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def window(step, loss, accuracy):
    return {"step": step, "epoch": step / 5, "train_loss": loss, "train_accuracy": accuracy}


def validation(step, loss, accuracy):
    scores = {"validation_loss": loss, "validation_accuracy": accuracy}
    return {"step": step, "epoch": step / 5, **scores}


# Epochs of 5 steps, windows of 4; the third epoch has not ended.
LINES = [
    window(4, 2.0, 0.25), window(5, 1.0, 0.5), validation(5, 1.5, 0.375),
    window(9, 1.0, 0.5), window(10, 0.5, 1.0), validation(10, 1.25, 0.5),
    window(14, 0.1, 1.0),
]  # fmt: skip


def test_an_epoch_is_the_mean_over_its_steps(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", LINES)
    got = read_curves(tmp_path)
    np.testing.assert_array_equal(got.train_epochs, [1, 2])
    np.testing.assert_allclose(got.train_loss, [(4 * 2 + 1) / 5, (4 + 0.5) / 5])
    np.testing.assert_allclose(got.train_accuracy, [0.3, 0.6])
    np.testing.assert_allclose(got.validation_loss, [1.5, 1.25])
    assert got.gap == pytest.approx(0.1)


def test_seconds_are_added_up(tmp_path):
    lines = [
        {"step": 4, "steps": 4, "seconds": 3.5, "compiling": True},
        {"step": 5, "steps": 1, "seconds": 0.25, "compiling": False},
        {"step": 9, "steps": 4, "seconds": 2.0, "compiling": True},
    ]
    write_lines(tmp_path / "timing.jsonl", lines)
    assert read_seconds(tmp_path) == (5.75, 5.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has not finished its first epoch"),
        (json.dumps(LINES[0]) + "\n", "has not finished its first epoch"),
        ('{"step": 4}\n', "metrics.jsonl is damaged"),
        ("[4]\n", "metrics.jsonl is damaged"),
        ("\x00\x00\n", "metrics.jsonl is damaged"),
        ('{"step": 5, "epoch": null}\n', "metrics.jsonl is damaged"),
        ('{"step": 5, "epoch": 1e999, "train_loss": 1, "train_accuracy": 1}\n', "is damaged"),
        ("[" * 100_000 + "\n", "metrics.jsonl is damaged"),
    ],
)
def test_files_without_a_curve_are_told_in_one_line(tmp_path, text, words):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_curves(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_evaluation_counts_when_it_is_whole(tmp_path):
    folder = tmp_path / "eval" / "test-5"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(
        '{"accuracy": 0.5, "examples": 4, "accuracy_interval_95": [0.1, 0.9]}'
    )
    assert read_evaluation(tmp_path, "test", 5) is None
    (folder / "predictions.csv").write_text("")
    assert read_evaluation(tmp_path, "test", 5)["accuracy"] == 0.5
    for damaged in ('{"accuracy": ', "[" * 100_000):
        (folder / "metrics.json").write_text(damaged)
        assert read_evaluation(tmp_path, "test", 5) is None


NAMES = ("plain", "cost in $", "日本語")


def predictions(seed, *, count=40, order=None, labels=None):
    """Predictions of images with the same labels for every seed, in any order."""
    labels = np.random.default_rng(99).integers(0, 3, count) if labels is None else labels
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(3), count)
    order = np.arange(count) if order is None else order
    return Predictions(
        order, labels[order], probabilities.argmax(1)[order], probabilities[order], NAMES
    )


def test_disagreements_are_found_whatever_the_order_of_the_files(tmp_path):
    shuffled = predictions(2, order=np.random.default_rng(0).permutation(40))
    a, b = disagreement.align(predictions(1), shuffled)
    disagreement.write_csv(tmp_path / "d.csv", a, b)
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    one, other = predictions(1), predictions(2)
    want = [
        i
        for i in range(40)
        if (one.predicted[i] == one.labels[i]) != (other.predicted[i] == other.labels[i])
    ]
    assert 0 < len(want) < 40
    assert [int(row["index"]) for row in rows] == want
    for i, row in zip(want, rows, strict=True):
        assert NAMES[one.labels[i]] == row["true_name"]
        assert row["right"] == ("a" if one.predicted[i] == one.labels[i] else "b")
        assert (int(row["predicted_a"]), int(row["predicted_b"])) == (
            one.predicted[i],
            other.predicted[i],
        )
        assert float(row["p_a"]) == one.probabilities[i].max()
        assert float(row["p_b"]) == other.probabilities[i].max()


def test_other_images_labels_or_classes_are_refused():
    one = predictions(1)
    with pytest.raises(UsageError, match="images differ"):
        disagreement.align(one, predictions(2, order=np.arange(39)))
    labels = one.labels.copy()
    labels[:2] = (labels[:2] + 1) % 3
    with pytest.raises(UsageError, match="true labels of 2 of 40"):
        disagreement.align(one, predictions(2, labels=labels))
    renamed = Predictions(
        one.indices, one.labels, one.predicted, one.probabilities, ("a", "b", "c")
    )
    with pytest.raises(UsageError, match="classes differ"):
        disagreement.align(one, renamed)


@pytest.mark.parametrize(("channels", "other"), [(1, 2), (3, 2), (3, 1)])
def test_the_page_shows_the_surest_images(tmp_path, channels, other):
    """Each image has one grey level of its own, which can be found again on the page."""
    a, b = disagreement.align(predictions(1, count=110), predictions(other, count=110))
    levels = np.arange(110) * 2 + 20
    images = np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (110, 8, 8, channels))
    disagreement.plot(tmp_path / "d.png", images, a, b, names=("$one$", "two"), title="a title")
    with Image.open(tmp_path / "d.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    # Plain areas, which letters and frames are not: equal to the pixels 20 to the right and below.
    here, aside, below = pixels[:-20, :-20], pixels[:-20, 20:], pixels[20:, :-20]
    plain = here[((here == aside) & (here == below) & (here == here[..., :1])).all(axis=-1)]
    areas = np.bincount(plain[:, 0], minlength=256)
    # An image has 130 x 130 pixels. A colour map rounds some levels down.
    shown = set(np.flatnonzero(areas[levels] + areas[levels - 1] > 10_000))
    right_a, right_b = a.predicted == a.labels, b.predicted == b.labels
    sure = a.probabilities.max(1) * b.probabilities.max(1)
    want = set()
    for kind in (right_a & ~right_b, right_b & ~right_a):
        members = np.flatnonzero(kind)
        assert len(members) == 0 if other == 1 else len(members) > 16
        want |= set(members[np.argsort(-sure[members])][:16])  # Two rows of eight.
    assert shown == want


def test_curves_of_runs_of_several_lengths_are_drawn(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", LINES)
    longer = read_curves(tmp_path)
    write_lines(tmp_path / "metrics.jsonl", LINES[:2])
    shorter = read_curves(tmp_path)
    assert shorter.gap is None
    groups = [("first $", [longer, shorter]), ("second", [shorter])]
    curves.plot(groups, tmp_path / "curves.png", title="one, two")
    with Image.open(tmp_path / "curves.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
        assert picture.width > 1000
    for colour in ("#0072B2", "#D55E00"):
        assert tuple(bytes.fromhex(colour[1:])) in colours
