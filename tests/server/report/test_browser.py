"""The report in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest

from fieldtune.server.report.html import render_html
from fieldtune.server.results.schema import Summary

MakeSummary = Callable[..., Summary]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        BROWSER is None,
        reason="NO BROWSER: nobody has looked whether the report draws. Install chromium "
        "(on Debian: apt-get install chromium)",
    ),
]


def opened(html: str, folder: Path, *, width: int = 1280, virtual_ms: int = 10_000) -> str:
    """The page's elements once its scripts have run, without the scripts."""
    file = folder / "report.html"
    file.write_text(html, "utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            f"--virtual-time-budget={virtual_ms}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    messages = [
        line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line
    ]
    assert not messages
    return re.sub(r"<script.*?</script>", "", done.stdout.decode(), flags=re.DOTALL)


def with_script(html: str, script: str) -> str:
    return html.replace("</body>", f"<script>{script}</script></body>")


def plots(dom: str) -> dict[str, str]:
    """Each picture's elements by its name."""
    pieces = re.split(r'<div id="plot-(\w+)"', dom)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_the_pictures_are_drawn_without_a_word_on_the_console(
    summary: Summary, tmp_path: Path
) -> None:
    drawn = plots(opened(render_html(summary), tmp_path))
    assert set(drawn) == {"front", "parallel", "progress", "limits", "overshoot"}
    for name, elements in drawn.items():
        assert 'class="main-svg"' in elements, name
        assert elements.count('class="point') >= 2, name
    completed = sum(attempt.state == "completed" for attempt in summary.attempts)
    assert drawn["front"].count('class="point') >= completed


@pytest.mark.parametrize(
    "objectives", [("error",), ("-macro_f1", "inference_ms", "energy_j", "sent_bytes")]
)
def test_any_number_of_objectives_is_drawn(
    make_summary: MakeSummary, objectives: tuple[str, ...], tmp_path: Path
) -> None:
    drawn = plots(opened(render_html(make_summary(objectives)), tmp_path))
    assert drawn["front"].count('class="point') > 10


def test_an_empty_front_is_drawn(make_summary: MakeSummary, tmp_path: Path) -> None:
    assert set(plots(opened(render_html(make_summary(tightness=100)), tmp_path))) == {
        "limits",
        "overshoot",
    }


def test_choosing_other_axes_draws_them(summary: Summary, tmp_path: Path) -> None:
    script = (
        "const s = document.querySelector('select'); s.value = '2';"
        "s.dispatchEvent(new Event('change'));"
    )
    drawn = plots(opened(with_script(render_html(summary), script), tmp_path))
    assert "Energy (mJ), lower is better" in drawn["front"]
    assert "Inference (ms), lower is better" in drawn["front"]


def test_a_heading_sorts_the_front_and_keeps_the_defaults_last(
    summary: Summary, tmp_path: Path
) -> None:
    script = "document.querySelectorAll('table.front thead button')[3].click();"
    dom = opened(with_script(render_html(summary), script), tmp_path)
    trials = [int(key) for key in re.findall(r'<th scope="row" data-key="(\d+)"', dom)]
    cheapest = sorted(summary.front, key=lambda point: point.objectives["energy_j"].value)
    assert summary.defaults is not None
    assert trials == [point.trial for point in cheapest] + [summary.defaults.trial]


def test_pointing_at_a_trial_lights_up_its_line(summary: Summary, tmp_path: Path) -> None:
    script = (
        "const plot = document.getElementById('plot-parallel');"
        "const knot = plot.querySelector('path.point').getBoundingClientRect();"
        "const at = {clientX: knot.x + knot.width / 2, clientY: knot.y + knot.height / 2,"
        " bubbles: true, view: window};"
        "for (const kind of ['mouseover', 'mousemove'])"
        " plot.querySelector('.nsewdrag').dispatchEvent(new MouseEvent(kind, at));"
        "setTimeout(() => {"
        "const lit = plot.data.find((t) => t.name === 'highlight');"
        "document.title = `lit ${lit.x.length}`; }, 1000);"
    )
    dom = opened(with_script(render_html(summary), script), tmp_path)
    axes = len(summary.front[0].configuration) + len(summary.objectives)
    assert f"<title>lit {axes}</title>" in dom


class Pointed(NamedTuple):
    """What the picture of the front says where the mouse is."""

    view: int
    trial: str
    alone: bool
    """Whether no other point of the trace is nearer than two pixels."""
    label: str


def pointed_at(html: str, trace: str, folder: Path) -> list[Pointed]:
    """The label at the centre of each of a trace's points, in every view of the front."""
    script = """
    (async () => {
      const plot = document.getElementById("plot-front"), select = document.querySelector("select");
      const turn = () => new Promise((done) => setTimeout(done, 150)), found = [];
      for (let view = 0; view < (select?.options.length ?? 1); view++) {
        if (select) { select.value = view; select.dispatchEvent(new Event("change")); }
        await turn();
        plot.scrollIntoView({ block: "center", behavior: "instant" });
        const drawn = plot.data.filter((t) => t.visible !== false && t.x.length > 0);
        const index = drawn.findIndex((t) => t.name === TRACE);
        const group = plot.querySelectorAll(".scatterlayer .trace")[index];
        const centres = [...group.querySelectorAll("path.point")].map((point) => {
          const box = point.getBoundingClientRect();
          return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
        });
        for (const [i, { x, y }] of centres.entries()) {
          const mouse = { clientX: x, clientY: y, bubbles: true, view: window };
          const under = document.elementFromPoint(x, y);
          under.dispatchEvent(new MouseEvent("mouseover", mouse));
          under.dispatchEvent(new MouseEvent("mousemove", mouse));
          await turn();
          const labels = [...plot.querySelectorAll(".hoverlayer .hovertext")];
          const alone = centres.every((c, k) => k === i || Math.hypot(c.x - x, c.y - y) > 2);
          found.push([view, drawn[index].text[i].match(/Trial (\\d+)/)[0], alone,
            labels.map((label) => label.textContent).join(" | ")]);
          under.dispatchEvent(new MouseEvent("mouseout", mouse));
          await turn();
        }
      }
      document.title = JSON.stringify(found);
    })();
    """
    script = script.replace("TRACE", json.dumps(trace))
    dom = opened(with_script(html, script), folder, virtual_ms=120_000)
    told = re.search(r"<title>(.*?)</title>", dom)
    assert told is not None
    return [Pointed(*each) for each in json.loads(unescape(told[1]))]


def with_worse_neighbours(summary: Summary) -> Summary:
    """Beside each point of the front, a dominated trial that differs by less than its marker."""
    by_trial = {attempt.trial: attempt for attempt in summary.attempts}
    worse = [
        by_trial[point.trial].model_copy(
            update={
                "trial": 1000 + point.trial,
                "objectives": {name: 1.001 * i.value for name, i in point.objectives.items()},
            }
        )
        for point in summary.front
    ]
    return summary.model_copy(update={"attempts": [*summary.attempts, *worse]})


@pytest.mark.parametrize("objectives", [("error",), ("error", "inference_ms", "energy_j")])
def test_pointing_at_a_point_of_the_front_names_its_trial(
    make_summary: MakeSummary, objectives: tuple[str, ...], tmp_path: Path
) -> None:
    summary = with_worse_neighbours(make_summary(objectives))
    found = pointed_at(render_html(summary), "front", tmp_path)
    views = 1 if len(objectives) == 1 else 3
    assert len(found) == views * len(summary.front)
    for pointed in found:
        named = re.findall(r"Trial \d+", pointed.label)
        assert pointed.trial in named
        assert named == [pointed.trial] or not pointed.alone


def test_points_of_the_front_in_the_same_place_are_named_together(
    make_summary: MakeSummary, tmp_path: Path
) -> None:
    summary = make_summary(("inference_ms", "energy_j", "error"))
    first, *others = summary.front
    same = {name: first.objectives[name] for name in ("inference_ms", "energy_j")}
    front = [first] + [p.model_copy(update={"objectives": p.objectives | same}) for p in others]
    html = render_html(summary.model_copy(update={"front": front}))
    for pointed in pointed_at(html, "front", tmp_path):
        if pointed.view == 0:
            named = re.findall(r"Trial \d+", pointed.label)
            assert named[0] == f"Trial {first.trial}"
            assert {f"Trial {point.trial}" for point in front} == set(named)


def test_pointing_at_a_dominated_trial_that_lies_free_names_it(
    make_summary: MakeSummary, tmp_path: Path
) -> None:
    found = pointed_at(render_html(make_summary()), "dominated", tmp_path)
    assert sum(pointed.label.startswith(f"{pointed.trial}Error") for pointed in found) > 10


def test_the_folder_in_the_commands_is_the_reports_own(summary: Summary, tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    dom = opened(render_html(summary), folder)
    assert dom.count(f"<span class=\"folder\">'{folder}'</span>") == len(summary.devices)


def test_a_hostile_name_runs_nothing(make_summary: MakeSummary, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=\"document.title='owned'\">"
    dom = opened(render_html(make_summary(study=hostile, choice=hostile)), tmp_path)
    assert "<title>owned</title>" not in dom


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_is_no_wider_than_the_window(summary: Summary, tmp_path: Path, width: int) -> None:
    script = "document.title = `over ${document.documentElement.scrollWidth - innerWidth}`;"
    dom = opened(with_script(render_html(summary), script), tmp_path, width=width)
    over = re.search(r"<title>over (-?\d+)</title>", dom)
    assert over is not None
    assert int(over[1]) <= 0
