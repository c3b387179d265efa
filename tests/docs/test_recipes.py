"""Recipes of docs/territory: their shell runs here, with Slurm and containers played by variables.

Their fields are those that the interfaces document; no scheduler is here to take them.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.paths import ROOT

yaml = pytest.importorskip("yaml")
FOLDER = ROOT / "docs" / "territory"
SLURM = {"SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_MIN": "0"}


@pytest.fixture
def stubs(tmp_path):
    """Programs that note what they are called with; flair-job ends as it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("flair-job", "scontrol"):
        stub = folder / name
        stub.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n'
            + (
                "trap 'exit 130' TERM\n[ -z \"$SLEEPS\" ] || { touch began; "
                "while :; do sleep 0.05; done; }\nexit ${CODE:-0}\n"
                if name == "flair-job"
                else ""
            )
        )
        stub.chmod(0o755)
    return folder


def shell(command, folder, stubs=None, **variables):
    path = [str(stubs or Path(sys.executable).parent), os.environ["PATH"]]
    env = {**os.environ, "PATH": os.pathsep.join(path), **variables}
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def array(task, count):
    return {**SLURM, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(count),
            "SLURM_ARRAY_TASK_MAX": str(count - 1)}  # fmt: skip


def ended(process):
    out, _ = process.communicate(timeout=60)
    return process.returncode, out


def test_the_slurm_script_is_bash_and_asks_for_what_slurm_knows():
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    asked = re.findall(r"^#SBATCH --([\w-]+)", script.read_text(), re.MULTILINE)
    assert set(asked) == {"job-name", "nodes", "ntasks", "gres", "cpus-per-task", "hint", "time",
                          "signal", "requeue", "open-mode", "output"}  # fmt: skip


def test_the_tasks_of_an_array_make_a_whole_job(scratch, tmp_path):
    for name in ("model.onnx", "image.tif"):
        shutil.copy(scratch / name, tmp_path)
    job = ["-m", "model.onnx", "image.tif", "--threads", "1", "--device", "cpu", "--part-px", "1"]
    assert ended(shell(["flair-job", "plan", "JOB", *job], tmp_path))[0] == 0
    for task in range(2):
        code, out = ended(shell(["bash", FOLDER / "slurm.sh"], tmp_path, JOB="JOB",
                                **array(task, 2)))  # fmt: skip
        assert code == 0, out
    code, out = ended(shell(["flair-job", "status", "JOB", "--json"], tmp_path))
    found = json.loads(out)
    assert (code, found["missing"]) == (0, [])


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_a_task_ends_as_its_share_does(stubs, tmp_path, code, expected):
    task = shell(["bash", FOLDER / "slurm.sh"], tmp_path, stubs, JOB="J", CODE=str(code),
                 **array(1, 3))  # fmt: skip
    assert ended(task)[0] == expected
    assert (tmp_path / "calls").read_text() == "flair-job part J --shard 1/3\n"


def test_a_task_near_its_time_limit_puts_itself_back_into_the_queue(stubs, tmp_path):
    task = shell(["bash", FOLDER / "slurm.sh"], tmp_path, stubs, JOB="J", SLEEPS="1",
                 **array(1, 3))  # fmt: skip
    deadline = time.monotonic() + 20
    while not (tmp_path / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    task.send_signal(signal.SIGUSR1)
    assert ended(task)[0] == 0
    assert "scontrol requeue 42_1" in (tmp_path / "calls").read_text()


def test_an_array_that_does_not_begin_at_0_is_refused(stubs, tmp_path):
    some = array(3, 2) | {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "7"}
    code, out = ended(shell(["bash", FOLDER / "slurm.sh"], tmp_path, stubs, JOB="J", **some))
    assert (code, "give --array=0-N" in out) == (2, True)
    assert not (tmp_path / "calls").exists()


def test_a_kubernetes_job_fails_an_index_that_is_refused_alone():
    """Fields of batch/v1, kubernetes.io: Jobs, Pod failure policy, Backoff limit per index."""
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert spec.keys() == {"completionMode", "completions", "parallelism", "backoffLimitPerIndex",
                           "podFailurePolicy", "template"}  # fmt: skip
    assert spec["completionMode"] == "Indexed"
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert fail == {"action": "FailIndex", "onExitCodes": {
        "containerName": container["name"], "operator": "In", "values": [2]}}  # fmt: skip
    assert pod["restartPolicy"] == "Never", "which a limit for each index needs"
    assert f'"$JOB_COMPLETION_INDEX/{spec["completions"]}"' in container["command"][-1]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_a_ray_job_has_the_fields_that_kuberay_documents():
    """ray-project.github.io/kuberay/reference/api: RayJobSpec, RayClusterSpec."""
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec.keys() == {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
                           "backoffLimit", "rayClusterSpec"}  # fmt: skip
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["headGroupSpec"].keys() == {"rayStartParams", "template"}
    (group,) = cluster["workerGroupSpecs"]
    assert group.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas",
                            "rayStartParams", "template"}  # fmt: skip
    for pod in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        (container,) = pod["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert "ray" in spec["entrypoint"].split()


def test_an_aws_batch_job_is_tried_again_unless_it_is_refused():
    """docs.aws.amazon.com/batch: RegisterJobDefinition, EvaluateOnExit, environment variables."""
    job = json.loads((FOLDER / "aws_batch.json").read_text())
    assert job.keys() == {"jobDefinitionName", "type", "containerProperties", "retryStrategy"}
    container = job["containerProperties"]
    assert container.keys() == {"image", "command", "resourceRequirements", "volumes",
                                "mountPoints"}  # fmt: skip
    assert {r["type"] for r in container["resourceRequirements"]} == {"GPU", "VCPU", "MEMORY"}
    assert all(isinstance(r["value"], str) for r in container["resourceRequirements"])
    assert job["retryStrategy"]["evaluateOnExit"][0] == {"onExitCode": "2", "action": "EXIT"}
    assert 1 <= job["retryStrategy"]["attempts"] <= 10


KUBERNETES = {"JOB_COMPLETION_INDEX": "5"}
BATCH = {"AWS_BATCH_JOB_ARRAY_INDEX": "5", "AWS_BATCH_JOB_ARRAY_SIZE": "64"}


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0)])
@pytest.mark.parametrize("name", ["kubernetes.yaml", "aws_batch.json"])
def test_a_container_ends_as_its_share_does(stubs, tmp_path, name, code, expected):
    text = (FOLDER / name).read_text()
    if name.endswith("yaml"):
        (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    else:
        container = json.loads(text)["containerProperties"]
    variables = KUBERNETES | BATCH | {"CODE": str(code)}
    assert ended(shell(container["command"], tmp_path, stubs, **variables))[0] == expected
    assert (tmp_path / "calls").read_text() == "flair-job part /work/JOB --shard 5/64\n"
