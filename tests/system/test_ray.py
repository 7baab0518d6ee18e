"""The same study on a real Ray cluster of two nodes, of which one is killed while it trains."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.simulations.cli import _cluster
from support.commandline import COMMAND, in_own_process

pytestmark = pytest.mark.system

STUDY = """
[study]
name = "clustered"
trials = 6
rounds = 150
objectives = ["error", "sent_bytes"]
parallel = 3
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 6
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
[space.server]
clients_per_round = { choices = [2, 4] }
"""


def test_a_node_that_is_lost_changes_nothing(tmp_path: Path) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    # The compiler has the cache to itself: here it runs on the cluster.
    environment = os.environ | {"FIELDTUNE_CACHE": str(tmp_path / "cache")}
    quiet = {"num_cpus": 1, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=quiet)
    try:
        other = cluster.add_node(num_cpus=1)
        options = ["--engine", "ray", "--ray-address", cluster.address, "--out", tmp_path / "ray"]
        with subprocess.Popen(
            [*COMMAND, "tune", study, *options],
            cwd=tmp_path, env=environment, text=True, bufsize=1,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as tuning:  # fmt: skip
            assert tuning.stderr is not None
            said = ""
            for line in tuning.stderr:
                said += line
                if "trial " in line and other is not None:
                    cluster.remove_node(other, allow_graceful=False)
                    other = None
        assert tuning.returncode == 0, said
        assert "Ray has 2 CPUs on 2 nodes" in said
        assert "A simulation worker was lost: what it was asked is done again" in said
    finally:
        cluster.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDTUNE_CACHE", str(tmp_path / "cache"))
        alone = in_own_process("tune", study, "--out", tmp_path / "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    for name in ("trials.csv", "pareto.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_an_address_without_a_cluster_is_a_sentence() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(UsageError, match=r"There is no Ray cluster at 127\.0\.0\.1:9 "):
        _cluster("127.0.0.1:9")
