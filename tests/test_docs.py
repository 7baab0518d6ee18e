"""What the documentation names is what the code knows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest
import typer.main
from pydantic import BaseModel

from fieldtune.client.cli import app as client_app
from fieldtune.client.data.description import DataDescription
from fieldtune.client.data.privacy import Privacy
from fieldtune.profiles.device.profile import DeviceProfile, HeldOut, value_fields
from fieldtune.profiles.tables import accuracy
from fieldtune.server.compiler.manifest import DEFAULTS, MODELS
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.fleet_options import AvailabilitySection, FaultsSection, FleetSection
from fieldtune.server.study.limit_options import LimitsSection
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.partition import PartitionKind, PartitionSection
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.settings import CLIENT_DEFAULTS, SERVER_DEFAULTS
from fieldtune.server.study.space import Parameter
from fieldtune.server.study.study_options import StudySection
from fieldtune.server.study.task_options import TaskSection
from fieldtune.server.study.tuner_options import Fedex, TunerSection
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
        ("`[task]`", TaskSection),
        ("`[fleet]`", FleetSection),
        ("`[fleet.availability]`", AvailabilitySection),
        ("`[fleet.faults]`", FaultsSection),
        ("`[server]`", ServerSection),
        ("`[limits]`", LimitsSection),
        ("`[tuner]`", TunerSection),
    ],
)
def test_every_key_of_a_section_is_documented(title: str, model: type[BaseModel]) -> None:
    assert documented(section(title)) == set(model.model_fields) - {"devices"} | (
        {"devices"} if model is FleetSection else set()
    )


def test_every_key_and_measure_of_the_study_section_is_documented() -> None:
    assert documented(section("`[study]`")) == {*StudySection.model_fields, *MEASURES}


def test_every_key_and_setting_of_the_space_is_documented() -> None:
    assert documented(section("`[space.model]`")) == {
        *Parameter.model_fields,
        *(set(DEFAULTS) - {"seed"}),
        *CLIENT_DEFAULTS,
        *SERVER_DEFAULTS,
    }


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (model, key)
        for model in (
            StudySection,
            TaskSection,
            LimitsSection,
            TunerSection,
            DecisionSection,
            AvailabilitySection,
            FaultsSection,
            ServerSection,
        )
        for key, field in model.model_fields.items()
        if isinstance(field.default, (int, float, str))
    ],
)
def test_documented_defaults_are_the_real_ones(model: type[BaseModel], key: str) -> None:
    default = model.model_fields[key].default
    row = re.search(rf"^\| `{key}` \| `([^`]+)` \|", STUDY_FILE, re.M)
    assert row, key
    assert row.group(1) == json.dumps(default)


def test_documented_settings_of_the_space_are_the_real_ones() -> None:
    shown = {
        name: cell
        for names, cell in re.findall(
            r"^\| (`[^|]+) \| `([^|]+)` \|", section("`[space.model]`"), re.M
        )
        for name in re.findall(r"`(\w+)`", names)
    }
    assert len(shown) > 20
    for name, cell in shown.items():
        default = {**CLIENT_DEFAULTS, **SERVER_DEFAULTS}[name]
        values = {json.loads(each) for each in cell.split("`, `")}
        assert default in values, f"{name}: {default}"


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


def test_the_table_of_how_true_profiles_are_is_that_of_the_catalogue() -> None:
    text = (ROOT / "docs/device-profiles.md").read_text()
    assert "\n".join(accuracy()) in text
    assert all(f"`{name}`" in text for name in HeldOut.model_fields)


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


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def inner_commands(command: click.Command) -> dict[str, click.Command]:
    found: dict[str, click.Command] = getattr(command, "commands", {})
    return found


def leaves(command: click.Command, *path: str) -> dict[str, set[str]]:
    """Each command below one, by its words -> its options."""
    if not inner_commands(command):
        options = {o for each in command.params for o in (*each.opts, *each.secondary_opts)}
        return {" ".join(path): {o for o in options if o.startswith("--")}}
    return {
        words: options
        for name, each in inner_commands(command).items()
        for words, options in leaves(each, *path, name).items()
    }


COMMANDS = leaves(typer.main.get_command(app))


def test_every_command_is_in_the_readme() -> None:
    for name in inner_commands(typer.main.get_command(app)):
        assert f"fieldtune {name}" in README, name


def test_every_command_and_option_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for words, options in COMMANDS.items():
        assert f"fieldtune {words}" in text, words
        for option in options:
            assert re.search(rf"{option}\b", text), f"{words} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_page_gives_a_command_exists(page: Path) -> None:
    for line in re.findall(r"fieldtune ([a-z][^`\n#]*)", page.read_text()):
        words = re.match(r"[a-z ]*", line).group().split()  # type: ignore[union-attr]
        for most in (2, 1):
            options = COMMANDS.get(" ".join(words[:most]))
            if options is not None:
                given = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line))
                assert given <= options, f"fieldtune {line}"
                break


def cut_summaries(command: click.Command, *path: str) -> list[str]:
    """The commands whose summary in a list of commands does not fit into 80 columns."""
    inner = inner_commands(command)
    most = 78 - 6 - max(map(len, inner), default=0)
    found = [" ".join((*path, n)) for n, c in inner.items() if "..." in c.get_short_help_str(most)]
    return found + [each for n, c in inner.items() for each in cut_summaries(c, *path, n)]


def test_lists_of_commands_fit_into_80_columns() -> None:
    assert cut_summaries(typer.main.get_command(app)) == []


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
    for name in StudyConfig.model_fields:
        assert any(f"[{name}" in title for title in titles), name


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        file = (page.parent / target) if target else page
        if not link.startswith("http"):
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link
