from pathlib import Path

import pytest

from fieldtune.profiles.host.probe import Host, pmic_power_w, probe

PI_5_RAILS = """\
 3V7_WL_SW_A current(0)=0.00390372A
   3V3_SYS_A current(1)=0.10000000A
  VDD_CORE_A current(7)=2.00000000A
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.90000000V
     EXT5V_V volt(24)=5.14000000V
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pi(root: Path, model: str, **more: str) -> Path:
    cpus = {
        f"sys/devices/system/cpu/cpu{n}/cpufreq/cpuinfo_max_freq": "1800000\n" for n in range(4)
    }
    return tree(
        root,
        {
            "proc/device-tree/model": model + "\0",
            "proc/meminfo": "MemTotal:  1931476 kB\nMemFree: 1 kB\nMemAvailable: 1703936 kB\n",
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/class/thermal/thermal_zone0/temp": "48686\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
        }
        | cpus
        | more,
    )


def test_a_pi_4_tells_everything_but_its_power(tmp_path):
    assert probe(pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.4")) == Host(
        model="Raspberry Pi 4 Model B Rev 1.4",
        cores=4,
        max_clock_mhz=1800.0,
        memory_total_mib=1931476 / 1024,
        memory_available_mib=1664.0,
        temperature_c=pytest.approx(48.686),
        throttling=(),
        throttling_since_start=(),
        power_command=None,
    )


def test_a_host_that_tells_nothing_is_all_unknown(tmp_path):
    host = probe(tmp_path)
    assert host == Host(None, None, None, None, None, None, None, None, None)
    assert not host.reports_power


def test_without_a_device_tree_the_model_comes_from_cpuinfo(tmp_path, data):
    root = tree(tmp_path, {"proc/cpuinfo": (data / "cpuinfo.pi4").read_text()})
    host = probe(root)
    assert (host.model, host.cores) == ("Raspberry Pi 4 Model B Rev 1.4", 2)


def test_throttling_bits_say_what_is_now_and_what_was(tmp_path):
    bits = {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"}
    host = probe(pi(tmp_path, "Raspberry Pi 4 Model B", **bits))
    assert host.throttling == ("under-voltage", "throttled")
    assert host.throttling_since_start == ("under-voltage", "throttled")
    past = {"sys/devices/platform/soc/soc:firmware/get_throttled": "a0000\n"}
    host = probe(pi(tmp_path, "Raspberry Pi 4 Model B", **past))
    assert host.throttling == ()
    assert host.throttling_since_start == ("frequency capped", "soft temperature limit")


def test_the_fastest_of_unlike_cores_counts(tmp_path):
    clock = {"sys/devices/system/cpu/cpu3/cpufreq/cpuinfo_max_freq": "2400000\n"}
    assert probe(pi(tmp_path, "a phone", **clock)).max_clock_mhz == 2400.0


@pytest.mark.parametrize(("online", "cores"), [("0", 1), ("0-3", 4), ("0,2-3,6", 4)])
def test_cores_that_are_on_line_count(tmp_path, online, cores):
    assert probe(tree(tmp_path, {"sys/devices/system/cpu/online": online})).cores == cores


@pytest.mark.parametrize("model", ["Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi 500 Rev 1.0"])
def test_a_pi_5_with_vcgencmd_tells_its_power(tmp_path, model):
    root = pi(tmp_path, model, **{"usr/bin/vcgencmd": ""})
    host = probe(root)
    assert host.reports_power
    assert host.power_command == (str(root / "usr/bin/vcgencmd"), "pmic_read_adc")


def test_a_pi_5_without_vcgencmd_does_not_tell_its_power(tmp_path):
    assert not probe(pi(tmp_path, "Raspberry Pi 5 Model B Rev 1.0")).reports_power


def test_a_pi_4_with_vcgencmd_does_not_tell_its_power(tmp_path):
    root = pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.4", **{"usr/bin/vcgencmd": ""})
    assert not probe(root).reports_power


def test_garbage_in_a_file_is_unknown_and_not_an_error(tmp_path):
    files = {
        "sys/class/thermal/thermal_zone0/temp": "N/A\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "?\n",
        "sys/devices/system/cpu/online": "\n",
        "proc/meminfo": "MemTotal: lots\n",
    }
    host = probe(tree(tmp_path, files))
    assert host == Host(None, None, None, None, None, None, None, None, None)


def test_the_power_of_a_pi_5_is_the_sum_over_rails_that_have_volts_and_amperes():
    assert pmic_power_w(PI_5_RAILS) == pytest.approx(0.1 * 3.3 + 2.0 * 0.9)


def test_an_answer_without_rails_is_no_power():
    assert pmic_power_w('error=1 error_msg="Command not registered"') is None


def test_this_host_can_be_probed():
    host = probe()
    assert host.cores is None or host.cores >= 1
