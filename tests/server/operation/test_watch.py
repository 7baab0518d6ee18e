"""What is said of a fleet: drift, devices unlike the others, tables, metrics."""

from __future__ import annotations

import io
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from rich.console import Console

from fieldtune.client.contract.deployment import Card, StatusReport
from fieldtune.profiles.common.files import write_atomically
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.federation.refusals import Refused
from fieldtune.server.operation.health import FleetHealth, next_run
from fieldtune.server.operation.metrics import serve_metrics
from fieldtune.server.operation.rollouts import Member, Rollout, RolloutStore
from fieldtune.server.operation.tables import Watched, devices_json, print_devices, print_rollout
from fieldtune.server.operation.watch import Watch
from fieldtune.server.results.schema import DeviceSeen, Point, Summary, to_json
from fieldtune.server.results.stored_files import DeviceError, VariantFile
from support.commandline import Command
from support.deployed import order

ROOT = Path(__file__).resolve().parents[3]
CARD = order(1, error=0.08, error_low=0.06, error_high=0.11).card


def status(error: float | None = 0.08, samples: int = 200, **changes: Any) -> StatusReport:
    values: dict[str, Any] = {
        "version": "0.2.0", "profile": "raspberry-pi-5", "runs": CARD.artefact,
        "model": CARD.name, "judged_on": "fresh", "samples": samples, "error": error,
    }  # fmt: skip
    return StatusReport(**(values | changes))


def fleet(card: Card = CARD, **statuses: StatusReport) -> FleetHealth:
    return FleetHealth(statuses, {card.artefact: (card, "/runs/home")})


@pytest.mark.parametrize(
    ("error", "samples", "drifted"),
    [(0.08, 200, False), (0.14, 200, False), (0.25, 200, True), (0.5, 2, False), (None, 0, False)],
)
def test_an_error_surely_above_the_cards_interval_is_drift(
    error: float | None, samples: int, drifted: bool
) -> None:
    assert fleet(a=status(error, samples)).drifted("a") is drifted


def test_what_is_not_known_is_no_drift() -> None:
    unknown = status(0.9, runs="f" * 64)
    assert not fleet(a=unknown).drifted("a")
    assert not fleet(CARD.model_copy(update={"error_high": None}), a=status(0.9)).drifted("a")
    assert not fleet().drifted("a")


def test_one_device_unlike_the_others_is_named_and_no_reason_to_tune_again() -> None:
    found = fleet(a=status(), b=status(0.09), c=status(0.56))
    assert [found.outlier(name) for name in "abc"] == [False, False, True]
    (drift, unlike) = found.problems("c")
    assert drift == (
        "error 56.0 % (49.1 % to 62.7 %) on 200 fresh samples, its card says 8.0 % (6.0 % to "
        "11.0 %)"
    )
    (drift, _) = fleet(a=status(), b=status(), c=status(0.56, judged_on=None)).problems("c")
    assert "on 200 samples, its card" in drift
    assert unlike.startswith("unlike the others: its error is 56.0 %")
    assert found.retune(Path("fleet")) == []
    assert not fleet(a=status(), c=status(0.56)).outlier("c"), "of two, either may be wrong"


def test_drift_of_the_whole_fleet_proposes_the_command(tmp_path: Path) -> None:
    run = tmp_path / "home"
    run.mkdir()
    (run / ".study-folder").write_bytes(bytes(tmp_path))
    (run / ".study-file").write_bytes(b"my study.toml")
    (tmp_path / "my study.toml").write_text("")
    statuses = {name: status(0.3) for name in "abc"}
    drifted = FleetHealth(statuses, {CARD.artefact: (CARD, str(run))})
    assert drifted.retune(Path("fleet")) == [
        f"fieldtune tune '{tmp_path}/my study.toml' --superlink fleet --warm-start {run} --out "
        f"{run}-2"
    ]
    (tmp_path / "home-2").mkdir()
    assert next_run(run).name == "home-3"
    assert next_run(tmp_path / "home-2").name == "home-3"


def test_faults_of_a_board_are_sentences() -> None:
    ill = status(
        throttling=("under-voltage",), disk_free_mib=20.0, memory_free_mib=5.0, error=None,
        not_judged="the samples have another shape",
    )  # fmt: skip
    assert fleet(a=ill).problems("a") == [
        "its model cannot be judged: the samples have another shape",
        "throttled now: under-voltage",
        "only 20 MiB of disk are free",
        "only 5 MiB of memory are free",
    ]


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    made = CoordinatorFolder.create(tmp_path / "fleet", Settings(hosts=("localhost",)))
    for name in ("living-room-window", "garage"):
        made.enroll(name)
    RolloutStore(made.path).begin(
        Rollout(
            number=1, kind="deploy", run="/runs/home", cards={"raspberry-pi-5": CARD},
            devices={"living-room-window": Member(state="switched"), "garage": Member()},
        )
    )  # fmt: skip
    told = status(
        0.3, temperature_c=61.2, memory_free_mib=210.0, disk_free_mib=20500.0, up_s=7200.0,
        answered=40, refused=2, profile="raspberry-pi-zero-2w", flower="1.41.0",
    )  # fmt: skip
    FleetState(made.path).keep({"living-room-window": told}, now=1000.0)
    made.keep_refused("garage", Refused(3, {"train": 3}, "it says too much"))
    return made


def test_the_tables_fit_80_columns_and_shorten_nothing(folder: CoordinatorFolder) -> None:
    out = io.StringIO()
    watched = Watched.of(folder, {"garage"})
    print_devices(watched, Console(file=out, width=80), Path("fleet"))
    text = out.getvalue()
    tables = text.split("living-room-window: ")[0]
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in text
    for words in (
        "raspberry-pi-zero-2w", "trial 0 fp32", "30.0 %", "61", "210 MiB", "20.0 GiB", "2 hours",
        "2/40", CARD.artefact[:8], "now", "days ago",
        "garage: it takes no part after 3 refused reports: it says too much",
        "garage: waits for a model that was deployed while it was off",
        "The data have drifted. To tune again",
    ):  # fmt: skip
        assert words in text, words


def test_what_the_latest_study_saw_of_each_device_is_shown(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    folder.note_run(tmp_path / "home")
    assert Watched.of(folder, None).study is None  # it has no results yet
    (tmp_path / "home").mkdir()
    seen = {
        "garage": DeviceSeen(updates=9, update_norm=4.25, failures={"no_reply": 2}),
        "sold": DeviceSeen(updates=9, update_norm=1.0, failures={}),
    }
    errors = {"garage": DeviceError(error=0.56, samples=80)}
    file = VariantFile(bytes=1, sha256="", measures={}, test_samples=1, device_errors=errors)
    point = Point(
        trial=3, configuration={}, objectives={}, measures={}, test_samples=1, devices={},
        variants={"fp32": file},
    )  # fmt: skip
    study = Summary(
        study="home", seed=0, objectives=(), metric="accuracy", devices={}, simulated=False,
        trials=1, infeasible=0, failed=0, front=[point], recommended={}, defaults=None,
        attempts=[], seen=seen, refused={"garage": {"clipped": 3}},
    )  # fmt: skip
    (tmp_path / "home/pareto.json").write_text(to_json(study))
    watched, out = Watched.of(folder, None), io.StringIO()
    print_devices(watched, Console(file=out, width=80), Path("fleet"))
    shown = out.getvalue().partition("In the study home:")[2].partition("living-room")[0]
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("garage")]
    assert row[:2] + row[-6:] == ["garage", "56.0", "x", "4.25", "no_reply", "2", "clipped", "3"]
    assert "sold" not in out.getvalue()
    _, told = devices_json(watched, Path("fleet"))
    assert told["study"]["seen"]["update_norm"] == 4.25
    assert told["study"]["error"] == {"error": 0.56, "samples": 80}
    assert Watched.of(folder, None).study is watched.study, "an unchanged file is not read again"
    goes_on = study.model_copy(update={"trials": 2})
    write_atomically(tmp_path / "home/pareto.json", to_json(goes_on))
    assert Watched.of(folder, None).study == goes_on


def test_brackets_in_a_devices_texts_are_shown_as_they_are(folder: CoordinatorFolder) -> None:
    told = status(runs="f" * 64, model="[/m]", profile="[/p]", version="[/v]")
    FleetState(folder.path).keep({"garage": told})
    watched, out = Watched.of(folder, None), io.StringIO()
    print_devices(watched, Console(file=out, width=120), Path("fleet"))
    rollout = Rollout(number=2, kind="deploy", devices={"garage": Member()})
    print_rollout(rollout, watched, Console(file=out, width=120))
    text = out.getvalue()
    assert [text.count(each) for each in ("[/m]", "[/p]", "[/v]")] == [2, 2, 1]


@pytest.mark.parametrize(
    "told", [{"samples": f"1{'0' * 400}"}, {"answered": 2**63}, {"up_s": 1e300}, {"order": 2**63}]
)
def test_impossible_numbers_of_a_device_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StatusReport.parse({"version": "0.2.0", "error": 0.5, **told})


def test_json_has_all_that_the_tables_have(folder: CoordinatorFolder) -> None:
    found = devices_json(Watched.of(folder, None), Path("fleet"))
    first, second = found
    assert first["device"] == "living-room-window"
    assert (first["connected"], first["seen"]) == (None, 1000)
    assert first["status"]["temperature_c"] == 61.2
    assert first["card"]["error_high"] == 0.11
    assert (first["drifted"], second["takes_part"], second["waits_for"]) == (True, False, 1)
    assert (first["retune"][:14], second["retune"]) == ("fieldtune tune", None)
    json.dumps(found)


def test_devices_are_shown_while_the_coordinator_is_off(
    folder: CoordinatorFolder, fieldtune: Command
) -> None:
    done = fieldtune("coordinator", "devices", folder.path, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "SuperLink does not answer" in done.stderr
    assert [each["device"] for each in json.loads(done.stdout)] == [
        "living-room-window", "garage",
    ]  # fmt: skip


def test_devices_are_shown_again_and_again_until_ctrl_c(
    folder: CoordinatorFolder, fieldtune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    done = fieldtune("coordinator", "devices", folder.path, "--watch")
    assert (done.returncode, pauses) == (0, [10.0, 10.0])
    assert done.stdout.count("raspberry-pi-zero-2w") == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--canary", "0%"], "give a share such as 10%, or a number of devices"),
        (["--canary", "lots"], "give a share such as 10%"),
        (["--canary", "120%"], "give a share such as 10%"),
        (["--device", "garage"], "need a RUN to deploy"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(
    folder: CoordinatorFolder, fieldtune: Command, options: list[str], why: str
) -> None:
    run = [] if "--device" in options else ["runs/home"]
    done = fieldtune("deploy", *run, "--superlink", folder.path, *options)
    assert done.returncode == 2
    assert why in done.stderr


def test_metrics_are_served_on_loopback_and_are_what_the_dashboard_draws(
    folder: CoordinatorFolder,
) -> None:
    watching = Watch(folder, lambda _: None)
    watching.connected = {"garage"}
    address = serve_metrics(folder, watching, 0)
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['fieldtune_device_connected{device="garage"}'] == "1.0"
    assert values['fieldtune_device_drifted{device="living-room-window"}'] == "1.0"
    free = values['fieldtune_device_disk_free_bytes{device="living-room-window"}']
    assert float(free) == 20500 * 2**20
    served = {name.partition("{")[0] for name in values} | set(re.findall(r"# HELP (\S+)", text))
    drawn = set(re.findall(r"fieldtune_[a-z_]+", (ROOT / "docs/grafana.json").read_text()))
    assert drawn - served == set()


def test_metrics_are_refused_to_a_site_whose_name_was_made_to_resolve_to_this_machine(
    folder: CoordinatorFolder,
) -> None:
    address = serve_metrics(folder, Watch(folder, print), 0)
    for host, status in (("evil.example:9464", 403), ("", 403), ("localhost:9464", 200)):
        asked = urllib.request.Request(address, headers={"Host": host})
        try:
            found = urllib.request.urlopen(asked, timeout=10).status
        except urllib.error.HTTPError as refused:
            found = refused.code
        assert found == status, host


def test_a_devices_texts_make_no_metrics_of_their_own(folder: CoordinatorFolder) -> None:
    forged = '1\\"} 1\nfieldtune_device_error_ratio{device="garage"} 0\n#'
    FleetState(folder.path).keep({"garage": status(0.9, version=forged)})
    with urllib.request.urlopen(serve_metrics(folder, Watch(folder, print), 0), timeout=10) as page:
        served = list(text_string_to_metric_families(page.read().decode()))
    samples = [sample for family in served for sample in family.samples]
    of_garage = [each for each in samples if each.labels.get("device") == "garage"]
    (error,) = [each.value for each in of_garage if each.name == "fieldtune_device_error_ratio"]
    (info,) = [each.labels for each in of_garage if each.name == "fieldtune_device_info"]
    assert (error, info["version"]) == (0.9, forged.replace("\n", " "))
