import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

import fieldtune.profiles.device
from fieldtune.profiles.common.errors import ProfileError
from fieldtune.profiles.common.toml import to_toml
from fieldtune.profiles.costmodel.cost import REQUIRED_VALUES, missing_values
from fieldtune.profiles.device.load import load_profile, profile_names
from fieldtune.profiles.device.profile import DeviceProfile, value_fields
from fieldtune.profiles.device.value import ProfileValue

EXPECTED = {
    "raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "raspberry-pi-4b", "raspberry-pi-4b-1gb",
    "raspberry-pi-4b-4gb", "raspberry-pi-4b-8gb", "raspberry-pi-5", "raspberry-pi-5-8gb",
    "raspberry-pi-5-16gb", "jetson-nano", "jetson-orin-nano", "coral-dev-board", "beaglebone-a8",
    "beagle-a9", "android-entry", "android-mid", "android-high", "x86-mini-pc", "raspberry-pi-500",
    "raspberry-pi-cm5", "rk3588", "orange-pi-5", "rock-5b", "odroid-n2plus", "jetson-agx-orin",
    "pixel-1", "pixel-2", "pixel-3", "pixel-3a", "pixel-4",
}  # fmt: skip
# Figures that only a measured profile states, and those that only some tables tell.
MEASURED = {"process_mib", "inference_process_mib"}
FITTED = {"plain_share", "memory_traffic_mb_s", "sync_us"}
FOLDER = Path(fieldtune.profiles.device.__file__).parent / "catalogue"


def test_the_catalogue_has_the_promised_devices():
    assert set(profile_names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_profile_of_the_catalogue_loads_and_is_consistent(name):
    profile = load_profile(name)
    assert profile.name == name
    for low, high in (
        ("float32_one_thread_gflop_s", "float32_all_cores_gflop_s"),
        ("int8_one_thread_gop_s", "int8_all_cores_gop_s"),
        ("memory_free_mib", "memory_total_mib"),
        ("storage_free_mib", "storage_total_mib"),
        ("idle_w", "loaded_w"),
    ):
        for end in ("low", "value", "high"):
            assert getattr(getattr(profile, low), end) <= getattr(getattr(profile, high), end)
    one_core = profile.float32_all_cores_gflop_s.value / profile.cores.value
    assert one_core <= profile.float32_one_thread_gflop_s.value
    # No core of these does more than 32 float32 operations a cycle.
    peak = 32 * profile.clock_mhz.high / 1000
    assert profile.float32_one_thread_gflop_s.high <= peak


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_file_of_the_catalogue_states_each_value_once(path):
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    base = table.get("extends")
    if base is None:
        assert set(table) - FITTED - {"held_out"} == {"title", *value_fields()} - MEASURED - FITTED
    else:
        inherited = load_profile(base)
        for name, entry in table.items():
            if isinstance(entry, dict) and name != "held_out":
                assert ProfileValue.model_validate(entry) != getattr(inherited, name)


def test_the_bare_names_are_the_two_and_four_gigabyte_boards():
    assert load_profile("raspberry-pi-4b").memory_total_mib.value == 2048
    assert load_profile("raspberry-pi-5").memory_total_mib.value == 4096


def test_memory_variants_share_every_other_value():
    base, big = load_profile("raspberry-pi-4b"), load_profile("raspberry-pi-4b-8gb")
    differing = {name for name in value_fields() if getattr(base, name) != getattr(big, name)}
    assert differing == {"memory_total_mib", "memory_free_mib"}


def test_how_true_a_base_is_says_nothing_about_other_rates(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\nextends = "raspberry-pi-4b"\n')
    assert load_profile(path).held_out == load_profile("raspberry-pi-4b").held_out != {}
    rate = {"value": 9.0, "low": 8.0, "high": 10.0, "unit": "GFLOP/s", "basis": "measured",
            "source": "a bench"}  # fmt: skip
    tables = {"title": "mine", "extends": "raspberry-pi-4b", "float32_one_thread_gflop_s": rate}
    path.write_text(to_toml(tables))
    assert load_profile(path).held_out == {}


def test_an_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(ProfileError, match=r"'raspbery-pi-4' \(did you mean 'raspberry-pi-4b'\?"):
        load_profile("raspbery-pi-4")


def test_a_file_of_ones_own_loads_by_path_and_is_named_after_it(write_profile):
    path = write_profile("greenhouse-node")
    assert load_profile(path) == load_profile(str(path))
    assert load_profile(path).name == "greenhouse-node"


def test_a_file_may_name_its_profile(write_profile):
    assert load_profile(write_profile(text='name = "node"')).name == "node"


def test_a_profile_may_extend_one_of_the_catalogue(tmp_path):
    path = tmp_path / "cased-pi.toml"
    path.write_text(
        'title = "Pi 4B in a closed case"\nextends = "raspberry-pi-4b"\n'
        '[sustained_share]\nvalue = 0.7\nlow = 0.6\nhigh = 0.8\nunit = "share"\n'
        'basis = "measured"\nsource = "an afternoon in the greenhouse"\n'
    )
    profile, base = load_profile(path), load_profile("raspberry-pi-4b")
    assert profile.sustained_share.value == 0.7
    assert profile.loaded_w == base.loaded_w


def test_a_profile_may_extend_one_of_its_own_folder(write_profile, tmp_path):
    write_profile("base")
    (tmp_path / "child.toml").write_text('title = "child"\nextends = "base"\n')
    child = load_profile(tmp_path / "child.toml")
    assert (child.name, child.title, child.idle_w.value) == ("child", "child", 1)


def test_extending_in_a_circle_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b"\n')
    (tmp_path / "b.toml").write_text('extends = "a"\n')
    with pytest.raises(ProfileError, match="extends = 'a' leads back to itself"):
        load_profile(tmp_path / "a.toml")


@pytest.mark.parametrize("base", ["../secret", "/etc/passwd", "nothing-like-it"])
def test_extending_reaches_no_further_than_the_folder_and_the_catalogue(tmp_path, base):
    (tmp_path / "mine").mkdir()
    (tmp_path / "secret.toml").write_text('title = "not yours"\n')
    path = tmp_path / "mine" / "child.toml"
    path.write_text(f'title = "child"\nextends = "{base}"\n')
    with pytest.raises(ProfileError, match=f"extends = '{base}' is neither in its folder nor"):
        load_profile(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"idle_w": {"unit": None}}, "idle_w.unit is missing: state it in 'W'"),
        ({"idle_w": {"unit": "mW"}}, "idle_w: unit = 'mW' is not the unit of this value; "
                                     "state it in 'W'"),
        ({"idle_w": {"low": -1}}, "idle_w: low = -1.0 is not a finite number of at least 0"),
        ({"idle_w": {"low": 2, "high": 0.5}}, "idle_w: value = 1.0 lies outside its interval, "
                                              "low = 2.0 to high = 0.5; low <= value <= high must "
                                              "hold"),
        ({"idle_w": {"hihg": 2}}, "idle_w.hihg is not a known key (did you mean 'high'?)"),
        ({"idle_w": {"value": None}}, "idle_w.value is missing"),
        ({"idle_w": {"value": "one"}}, "idle_w.value = 'one': must be a number, without quotes "
                                       "and unit"),
        ({"idle_w": {"basis": "guessed"}}, "idle_w.basis = 'guessed': must be 'measured', "
                                           "'fitted', 'published' or 'estimated'"),
        ({"idle_w": {"source": " "}}, "idle_w: source = '' is empty; name the publication or "
                                      "give the reasoning"),
        ({"clock_mhz": {"low": 0}}, "clock_mhz: low = 0.0 must be above 0 for this value"),
        ({"availability": {"high": 1.5}}, "availability: high = 1.5 must be at most 1.0 for this "
                                          "value"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_in_one_sentence(write_profile, changes, sentence):
    path = write_profile(**changes)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_not_a_number_is_no_value(tmp_path, write_profile):
    path = write_profile()
    path.write_text(path.read_text().replace("value = 25", "value = nan"))
    with pytest.raises(ProfileError, match="latency_ms: value = nan is not a finite number"):
        load_profile(path)


def test_a_missing_value_is_named_with_its_meaning_and_unit(write_profile):
    path = write_profile(without="memory_free_mib")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value) == (
        f"{path}: memory_free_mib is missing: state memory that the system leaves to the client, "
        "without swap, in 'MiB'"
    )


@pytest.mark.parametrize("name", profile_names())
def test_the_catalogue_hides_nothing_that_a_forecast_needs(name):
    profile = load_profile(name)
    assert [missing_values(profile, measure) for measure in REQUIRED_VALUES] == [()] * len(
        REQUIRED_VALUES
    )


def test_an_unknown_value_is_answered_with_a_near_one(write_profile):
    path = write_profile(text="clok_mhz = 3")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value) == f"{path}: clok_mhz is not a known key (did you mean 'clock_mhz'?)"


def test_a_bare_number_for_a_value_is_refused(write_profile):
    path = write_profile(text="idle_w = 3", without="idle_w")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value) == (
        f"{path}: idle_w = 3: a value is a table with the keys "
        "value, low, high, unit, basis, source"
    )


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        load_profile(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("title = \n")
    with pytest.raises(ProfileError, match="not a TOML file"):
        load_profile(broken)


def test_a_profile_cannot_be_changed(make_profile):
    profile = make_profile()
    with pytest.raises(ValidationError):
        profile.title = "other"
    with pytest.raises(ValidationError):
        profile.idle_w.value = 0.0


def test_every_value_says_what_it_means_and_ends_in_its_unit_or_is_a_count_or_share():
    endings = {
        "MHz": "_mhz", "GFLOP/s": "_gflop_s", "GOP/s": "_gop_s", "MB/s": "_mb_s", "us": "_us",
        "MiB": "_mib", "W": "_w", "Mbit/s": "_mbit_s", "ms": "_ms", "cores": "", "share": "",
    }  # fmt: skip
    fields = value_fields()
    assert set(fields) == set(DeviceProfile.model_fields) - {"name", "title", "classes", "held_out"}
    for name, mark in fields.items():
        assert name.endswith(endings[mark.unit])
        assert mark.meaning


RATES = """
[classes."conv.conv_2d"]
op_us = 2.0
mflop_us = 50.0
low = 0.9
high = 1.1
basis = "measured"
source = "a bench"
"""


def with_rates(path, rates):
    path.write_text(path.read_text() + rates)
    return path


def test_a_profile_may_carry_measured_rates_of_kernels(write_profile):
    profile = load_profile(with_rates(write_profile(), RATES))
    assert profile.classes["conv.conv_2d"].mflop_us == 50.0


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        ("conv.conv_2d", True),
        ("conv.conv_2d.pointwise", True),  # falls back to the name in front of it
        ("conv.conv_3d.plain", True),  # to its kin
        ("matmul.batch_matmul", False),
    ],
)
def test_a_kernel_falls_back_to_the_nearest_that_was_measured(write_profile, kernel, found):
    profile = load_profile(with_rates(write_profile(), RATES))
    assert (profile.rates[kernel] is not None) == found


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("op_us = -2.0", "classes.conv.conv_2d.op_us = -2.0: must be greater than or equal to 0"),
        ("low = 1.9", "classes.conv.conv_2d.low = 1.9: must be less than or equal to 1"),
        ("op_ms = 1.0", "classes.conv.conv_2d.op_ms is not a known key (did you mean 'op_us'?)"),
    ],
)
def test_a_wrong_rate_is_named_in_one_sentence(write_profile, wrong, sentence):
    key = wrong.split()[0]
    lines = [line for line in RATES.splitlines() if not line.startswith(f"{key} =")]
    path = with_rates(write_profile(), "\n".join([*lines, wrong, ""]))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_rate_without_an_interval_is_refused(write_profile):
    rates = RATES.replace("low = 0.9\n", "")
    with pytest.raises(ProfileError, match=r"classes\.conv\.conv_2d\.low is missing"):
        load_profile(with_rates(write_profile(), rates))


def test_what_a_device_does_not_tell_may_be_left_out(write_profile):
    assert load_profile(write_profile(without="clock_mhz")).clock_mhz is None
