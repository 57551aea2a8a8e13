"""What a running job tells: on 80 columns, in a log file, at its end, and with --quiet."""

import io
import re
import shutil
import types

import pytest
import rich.console

from cifar_cnn import progress, train
from cifar_cnn.progress import Progress
from cifar_cnn.report.results import read_curves
from tests import commands
from tests.conftest import ROOT

LONG = {"total_steps": 123_400, "done_steps": 0, "batch_size": 500, "epochs": 200}


def terminal(width, **options):
    environment = {"TERM": "xterm", **options}
    return rich.console.Console(
        width=width, force_terminal=True, file=io.StringIO(), _environ=environment,
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def text_of(console):
    """What was printed, without what moves the cursor or colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")


def test_80_columns_show_everything_live():
    console = terminal(80)
    with Progress(**LONG, console=console) as shown:
        shown.compiling("for images of 25 pixels")
        shown.compiled(12.0, "the first steps made")
        shown.validated(0.8765)
        shown.validated(0.5)
        shown.advance(100_000, 10, 0.5, loss=12.3456, accuracy=0.7654)
    text = text_of(console)
    assert "compiled, and the first steps made, in 12 s" in text
    bar, below = text.rstrip("\n").split("\n")[-2:]
    assert "100000/123400" in bar
    assert "10,000 images/s  19:30 left" in bar
    assert below == "epoch 162.07/200  loss 12.3456  accuracy 76.54%  best validation 87.65%"
    assert not re.search(r"\d\d:\d\d:\d\d ", text)


def test_a_narrow_terminal_loses_the_ends_of_lines_and_no_more():
    console = terminal(40)
    with Progress(**LONG, console=console) as shown:
        shown.advance(100_000, 10, 0.5, loss=12.3456, accuracy=0.7654)
    lines = text_of(console).split("\n")
    assert max(map(len, lines)) <= 40
    assert any(line.startswith("epoch 162.07/200  loss 12.3456") for line in lines)


def plain_lines(capsys):
    """What was printed, whose every line begins with the time of day."""
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    return [line[9:] for line in lines]


def test_a_log_file_gets_plain_lines_when_they_are_due(capsys):
    some = {"total_steps": 90, "done_steps": 0, "batch_size": 100, "epochs": 2}
    with Progress(**some, plain_seconds=1000.0) as shown:
        shown.advance(20, 20, 0.0, loss=2.0, accuracy=0.25)
        shown.advance(45, 25, 0.5, loss=1.0, accuracy=0.5)
        shown.validated(0.4)
        shown.advance(50, 5, 0.1)
    (line,) = plain_lines(capsys)  # At the end of the epoch.
    assert line == (
        "step 45/90  epoch 1.00/2  loss 1.0000  accuracy 50.00%  5,000 images/s  0:01 left"
    )
    with Progress(**some, plain_seconds=0.0) as shown:
        shown.advance(7, 7, 0.7)  # In the middle of a window, of which no loss is known.
    (line,) = plain_lines(capsys)
    assert line == "step 7/90  epoch 0.16/2  1,000 images/s  0:08 left"


def test_a_long_compilation_goes_on_saying_so(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_STILL_SECONDS", 0.02)
    with Progress(**LONG) as shown:
        shown.compiling("the training step")
        shown._compiled.wait(0.3)
        shown.compiled(21.0)
    first, *still, last = plain_lines(capsys)
    assert first.startswith("compiling the training step")
    assert len(still) > 1
    assert all(line.startswith("still compiling the training step, ") for line in still)
    assert last == "compiled in 21 s"


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines():
    console = terminal(80, TERM="dumb")
    with Progress(**LONG, console=console, plain_seconds=0.0) as shown:
        shown.advance(617, 10, 0.5, loss=1.5, accuracy=0.5)
    assert "step 617/123400  epoch 1.00/200  loss 1.5000" in console.file.getvalue()


@pytest.mark.parametrize("on_terminal", [False, True])
def test_the_end_says_how_it_went_and_what_to_do_next(trained, capsys, monkeypatch, on_terminal):
    if on_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "300")
    train._tell_end(trained, types.SimpleNamespace(epochs=3))
    out = capsys.readouterr().out
    assert ("╭─" in out) == on_terminal
    best = read_curves(trained).validation_accuracy
    assert "3 epochs in " in out
    assert f"best validation accuracy {best.max():.2%}, after epoch {best.argmax() + 1}" in out
    assert f"python scripts/evaluate.py --workdir={trained}" in out
    assert f"python scripts/report.py --workdir={trained}" in out


def test_a_damaged_line_takes_no_more_than_its_own_part_of_the_end(trained, tmp_path, capsys):
    for name in ("metrics.jsonl", "timing.jsonl"):
        (tmp_path / name).write_text("{}\n" + (trained / name).read_text())
    train._tell_end(tmp_path, types.SimpleNamespace(epochs=3))
    out = capsys.readouterr().out
    assert "epochs in" not in out
    assert "best validation" not in out
    assert "evaluate with: python scripts/evaluate.py" in out


def test_quiet_prints_errors_alone(trained, tmp_path):
    workdir, config = tmp_path / "run", tmp_path / "\N{SNOWMAN}.py"
    shutil.copytree(trained, workdir)
    shutil.copy(ROOT / "configs" / "quickstart.py", config)
    main = ("-m", "cifar_cnn.main", f"--workdir={workdir}", "--quiet")
    # Which cannot encode the name of this config.
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    finished = commands.start(*main, *commands.TINY, "--config.train.epochs=3")
    refused = commands.start(*main, f"--config={config}", env=ascii_only)
    assert commands.finish(finished) == (0, "", "")
    code, out, err = commands.finish(refused)
    assert (code, out) == (2, "")
    assert "holds a run with another config (" in err
    assert err.count("\n") == 1
