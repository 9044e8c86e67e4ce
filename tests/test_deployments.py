"""The recipes of docs/clusters.md, as far as they can be tried without a cluster."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "clusters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_the_slurm_script_submits_workers_of_one_thread(tmp_path: Path):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    (script,) = blocks("python")
    script = script.replace('"port": 8786', '"port": 0, "host": "127.0.0.1"')
    names: dict = {"__name__": "slurm"}
    exec(script, names)
    with names["cluster"] as cluster:
        job = cluster.job_script()
    assert "#SBATCH -p cpu" in job
    assert "#SBATCH -t 08:00:00" in job
    assert "source /shared/env/bin/activate" in job
    worker = shlex.split(job.strip().splitlines()[-1])
    told = dict(pairwise(worker))
    assert told["--nthreads"] == "1"
    assert told["--nworkers"] == "16"
    assert told["--lifetime"] == "7h50m"


def test_the_kubernetes_manifests_fit_together():
    (text,) = blocks("yaml")
    cluster, job = yaml.safe_load_all(text)
    assert (cluster["apiVersion"], cluster["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    name, parts = cluster["metadata"]["name"], cluster["spec"]
    assert parts["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name
    pods = [parts[part]["spec"] for part in ("scheduler", "worker")]
    pods.append(job["spec"]["template"]["spec"])
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1  # one version everywhere
    for pod in pods:
        mounted = {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    (port,) = (p["port"] for p in parts["scheduler"]["service"]["ports"] if p["name"] == "tcp-comm")
    assert containers[-1]["args"] == ["--scheduler", f"tcp://{name}-scheduler:{port}"]
    assert containers[1]["args"][-1] == "1"
