"""What the documentation names is what the code knows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer.main
from pydantic import BaseModel

from fieldtune.client.cli import app as client_app
from fieldtune.client.data.files import DataDescription
from fieldtune.client.data.privacy import Privacy
from fieldtune.profiles.device.profile import DeviceProfile, value_fields
from fieldtune.server.compiler.manifest import DEFAULTS, MODELS
from fieldtune.server.study import config as study
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.partition import PartitionKind, PartitionSection
from fieldtune.server.study.space import Parameter
from fieldtune.server.study.tuner_options import Fedex
from fieldtune.simulations.cli import app
from fieldtune.simulations.datasets import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
STUDY_FILE = (ROOT / "docs/study-file.md").read_text()
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", STUDY_FILE, re.M | re.S)
    assert found, title
    return found.group()


def documented(text: str) -> set[str]:
    """Names in code type in the first column of tables."""
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.M)
    return {name for cell in cells for name in re.findall(r"`([a-z_0-9]+)`", cell)}


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("`[task]`", study.TaskSection),
        ("`[fleet]`", study.FleetSection),
        ("`[server]`", study.ServerSection),
        ("`[limits]`", study.LimitsSection),
        ("`[tuner]`", study.TunerSection),
    ],
)
def test_every_key_of_a_section_is_documented(title: str, model: type[BaseModel]) -> None:
    assert documented(section(title)) == set(model.model_fields) - {"devices"} | (
        {"devices"} if model is study.FleetSection else set()
    )


def test_every_key_and_measure_of_the_study_section_is_documented() -> None:
    assert documented(section("`[study]`")) == {*study.StudySection.model_fields, *MEASURES}


def test_every_key_and_setting_of_the_space_is_documented() -> None:
    assert documented(section("`[space.model]`")) == {
        *Parameter.model_fields,
        *(set(DEFAULTS) - {"seed"}),
        *study.CLIENT_DEFAULTS,
        *study.SERVER_DEFAULTS,
    }


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (model, key)
        for model in (
            study.StudySection,
            study.TaskSection,
            study.LimitsSection,
            study.TunerSection,
        )
        for key, field in model.model_fields.items()
        if isinstance(field.default, (int, float, str)) and not isinstance(field.default, bool)
    ],
)
def test_documented_defaults_are_the_real_ones(model: type[BaseModel], key: str) -> None:
    default = model.model_fields[key].default
    row = re.search(rf"^\| `{key}` \| `([^`]+)` \|", STUDY_FILE, re.M)
    assert row, key
    assert row.group(1).strip('"') == str(default)


def test_every_key_and_kind_of_a_partition_is_documented() -> None:
    kinds = {str(kind) for kind in get_args(PartitionKind)}
    assert documented(section("Partitions")) == {*PartitionSection.model_fields, *kinds}
    for key in ("alpha", "shards", "test_share"):
        default = PartitionSection.model_fields[key].default
        assert f"| `{key}` | `{default}` |" in section("Partitions")


def test_every_option_of_fedex_is_documented_with_its_default() -> None:
    for key, field in Fedex.model_fields.items():
        default = field.default
        shown = "none" if default is None else f"`{json.dumps(default)}`"
        assert f"| `fedex.{key}` | {shown} |" in section("`[tuner]`")


def test_every_data_set_is_documented() -> None:
    for name in BUILT_IN:
        assert re.search(rf"^\| `{name}` \|", section("Data sets"), re.M), name


def test_every_figure_of_a_profile_is_documented_as_the_code_has_it() -> None:
    text = (ROOT / "docs/device-profiles.md").read_text()
    assert documented(text) == set(value_fields())
    for name, mark in value_fields().items():
        needed = DeviceProfile.model_fields[name].is_required()
        presence = "required" if needed else "may be left out"
        assert f"| `{name}` | {mark.unit} | {presence} | {mark.meaning} |" in text


def test_every_built_in_model_is_documented() -> None:
    assert documented(section("Built-in models")) == set(MODELS)


def test_the_samplers_example_runs_as_it_stands() -> None:
    text = (ROOT / "docs/sampler.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "learning_rate" in done.stdout


def test_every_command_is_in_the_readme() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert f"fieldtune {name}" in README, name


def test_the_readmes_figure_exists() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_every_key_of_a_devices_data_description_is_documented() -> None:
    text = (ROOT / "docs/device.md").read_text()
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.M))
    assert rows == set(DataDescription.model_fields)
    allowed = set(re.findall(r"^\| `privacy\.([a-z_]+)` \|", text, re.M))
    assert allowed == set(Privacy.model_fields)


def test_every_test_that_a_claim_about_security_rests_on_exists() -> None:
    text = (ROOT / "docs/security.md").read_text()
    claims = re.findall(r"`(tests/[a-z_/]+\.py)::([a-z_0-9]+)`", text)
    assert len(claims) > 20
    for file, name in claims:
        assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_every_command_of_a_device_is_documented() -> None:
    text = (ROOT / "docs/device.md").read_text()
    for name in typer.main.get_command(client_app).commands:  # type: ignore[attr-defined]
        assert f"fieldtune client {name}" in text, name


def test_every_table_of_a_study_file_is_documented() -> None:
    titles = re.findall(r"^## (.*)$", STUDY_FILE, re.M)
    for name in study.StudyConfig.model_fields:
        assert any(f"[{name}" in title for title in titles), name


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        file = (page.parent / target) if target else page
        if not link.startswith("http"):
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link
