import json

import pytest
from typer.testing import CliRunner

from fieldtune.profiles.cli import app
from fieldtune.profiles.common.errors import ProfileError
from fieldtune.profiles.device.load import load_profile, profile_names
from fieldtune.profiles.device.profile import value_fields
from fieldtune.profiles.tables import basis_counts

WIDTHS = ["80", "120"]


@pytest.fixture(params=WIDTHS)
def columns(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", request.param)
    return int(request.param)


def test_the_list_has_a_line_of_every_profile_and_fits_the_terminal(columns):
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    for name in profile_names():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        profile = load_profile(name)
        assert f"{profile.memory_free_mib.value:g}" in line.split()
        assert "/".join(map(str, basis_counts(profile).values())) in line.split()


def test_profiles_are_told_as_json():
    listed = json.loads(CliRunner().invoke(app, ["list", "--format", "json"]).stdout)
    assert [each["name"] for each in listed] == list(profile_names())
    shown = CliRunner().invoke(app, ["show", "raspberry-pi-4b", "--format", "json"]).stdout
    assert json.loads(shown) in listed


def test_show_gives_every_value_with_interval_unit_basis_and_source(columns):
    result = CliRunner().invoke(app, ["show", "raspberry-pi-4b"])
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= columns
    assert lines[0] == "raspberry-pi-4b: Raspberry Pi 4B, 2 GB"
    everything = "".join(result.stdout.split())
    profile = load_profile("raspberry-pi-4b")
    for name in value_fields():
        entry = getattr(profile, name)
        if entry is None:
            (line,) = [line for line in lines if line.startswith(f"{name} ")]
            assert "not given" in line
            continue
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert f"{entry.low:g} to {entry.high:g}" in line
        assert line.endswith(f"{entry.unit:<8} {entry.basis}")
        assert "".join(entry.source.split()) in everything


@pytest.mark.parametrize("name", profile_names())
def test_show_says_of_every_fitted_value_how_far_predictions_by_it_were_off(name):
    profile = load_profile(name)
    fitted = [f for f in value_fields() if (v := getattr(profile, f)) and v.basis == "fitted"]
    shown = CliRunner().invoke(app, ["show", name]).stdout
    assert shown.count("error for models left out: ") == len(fitted) * bool(profile.held_out)


def test_show_works_for_a_file_of_ones_own(write_profile):
    path = write_profile("node")
    result = CliRunner().invoke(app, ["show", str(path)])
    assert result.stdout.splitlines()[0] == "node: a board of round numbers"


def test_an_unknown_name_is_an_error_and_prints_nothing():
    result = CliRunner().invoke(app, ["show", "raspberry-pi-4"])
    assert isinstance(result.exception, ProfileError)
    assert result.stdout == ""


def test_markup_in_a_source_is_shown_as_it_is(write_profile):
    path = write_profile(idle_w={"source": "[bold]a meter[/bold]"})
    assert "[bold]a meter[/bold]" in CliRunner().invoke(app, ["show", str(path)]).stdout


def test_the_basis_of_every_value_is_counted(make_profile):
    assert basis_counts(make_profile()) == {
        "measured": 0,
        "fitted": 0,
        "published": 0,
        "estimated": sum(getattr(make_profile(), name) is not None for name in value_fields()),
    }
