"""Settings without effect are named; those that have one are not."""

from __future__ import annotations

import pytest

from fieldtune.server.study.load import parse_study
from fieldtune.server.study.unused import unused_settings

STUDY = """
[study]
name = "s"
trials = 1
rounds = 1
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 9
devices = {{ "raspberry-pi-5" = 1.0 }}
{tables}
[space.client]
learning_rate = 0.1
[space.server]
clients_per_round = 3
{server}
"""
DP = "dp_clip = 1.0\ndp_noise = 1.0"
ADAPTIVE = 'server_optimizer = { choices = ["adam", "yogi"] }\nserver_momentum = 0.5'
RULES = 'aggregation = { choices = ["mean", "krum"] }'


@pytest.mark.parametrize(
    ("tables", "server", "said"),
    [
        ("[server]\nmalicious_share = 0.1", "", "malicious_share has no effect with aggregation = "
         "'mean': it is a setting of 'trimmed_mean', 'krum', 'multi_krum'"),
        ("[server]\nmalicious_share = 0.1", RULES, None),
        ('[server]\nmalicious_share = 0.1\naggregation = "median"', "", "aggregation = 'median'"),
        ('[server]\nmode = "async"\ncheck_direction = true', "", "'async', which has one update"),
        ('[server]\nmode = "async"\ncheck_direction = false', "", None),
        ('[server]\nmode = "buffered"\ncheck_direction = true', "", None),
        ("[server]\nclip = true", DP, "server.clip has no effect with space.server.dp_noise"),
        ("[server]\nclip = true\ncheck_direction = true", "", None),
        ("[server]\ndp_delta = 0.001", "", "dp_delta has no effect without dp_clip and dp_noise"),
        ("[server]\ndp_delta = 0.001", DP, None),
        ("", ADAPTIVE, "server_momentum has no effect with server_optimizer = 'adam', 'yogi'"),
        ("[fleet.faults]\nthrottling_factor = 2", "", "throttling_factor has no effect while"),
        ("[fleet.faults]\nthrottling = 0.1\nthrottling_factor = 2", "", None),
        ("[fleet.faults]\nnoticed_s = 20", "", "noticed_s has no effect while dropout and"),
        ("[fleet.faults]\ndropout = 0.1\nnoticed_s = 20", "", None),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_named(tables: str, server: str, said: str | None) -> None:
    study = parse_study(STUDY.format(tables=tables, server=server), "s")
    found = [*unused_settings(study)]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_what_simulates_a_fleet_has_no_effect_on_devices() -> None:
    faults = '[fleet.faults]\ndropout = 0.1\n[fleet.availability]\nkind = "always"'
    study = parse_study(STUDY.format(tables=faults, server=""), "s")
    assert not [*unused_settings(study)]
    assert [each.split()[0] for each in unused_settings(study, on_devices=True)] == [
        "fleet.availability", "fleet.faults",
    ]  # fmt: skip
