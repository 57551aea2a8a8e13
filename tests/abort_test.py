"""A process that is aborted says so in a line."""

from tests import commands


def test_an_abort_ends_in_one_line_and_exit_code_1():
    code, _, err = commands.finish(
        commands.start(
            "-c",
            "import faulthandler, os; from cifar_cnn import abort; faulthandler.enable(); "
            "abort.announce('process 3: '); os.abort()",
        )
    )
    assert code == 1
    assert err.startswith("error: process 3: aborted")
    assert err.count("\n") == 1
