"""A network that does not suit the images is told before anything is compiled."""

from tests import commands


def test_a_size_that_a_flattening_network_is_not_made_for_is_one_line(tmp_path):
    code, _, err = commands.finish(
        commands.start(
            "-m", "cifar_cnn.main", *commands.TINY, f"--workdir={tmp_path}/run",
            "--config.train.image_sizes=((0,16),(1,32))",
        )
    )  # fmt: skip
    assert code == 2
    assert err.count("\n") == 1
    assert "train.image_sizes has 16, but a dense layer" in err
    assert "32 x 32 pixels" in err
    assert not (tmp_path / "run" / "checkpoints").exists()
