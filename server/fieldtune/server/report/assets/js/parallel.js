// Parallel coordinates of the trained trials, with a brush on each axis.
const parallel = byId("parallel-plot");
const trained = data.trials.filter((trial) => trial.state === "completed");
const brushes = new Map(); // axis -> [upper, lower] pixel
const PARALLEL = { height: 380, top: 56, bottom: 340, step: 92 };

function parallelAxes() {
  const { top, bottom } = PARALLEL, from = bottom - 8, to = top + 8;
  const varied = data.parameters.filter(({ name, choices, low, high }) =>
    (choices ? choices.length > 1 : low !== high) && trained.every((trial) => name in trial.configuration));
  return [
    ...varied.map((parameter) => ({ title: parameter.name, goal: false,
      at: parameterScale(parameter, from, to), of: (trial) => trial.configuration[parameter.name] })),
    ...goals.map((name) => ({ title: titled(name), goal: true, kind: kindOf(name),
      at: objectiveScale(name, trained.map((trial) => trial.objectives[name]), from, to), of: (trial) => trial.objectives[name] })),
  ];
}

function drawParallel() {
  if (trained.length < 2) return;
  const axes = parallelAxes(), { height, top, bottom, step } = PARALLEL;
  const width = Math.max(parallel.clientWidth, axes.length * step), gap = (width - 90) / Math.max(1, axes.length - 1);
  axes.forEach((axis, i) => { axis.x = 45 + i * gap; });
  const lines = trained.map((trial) => ({ trial, front: byTrial.get(trial.number)?.front ?? false,
    places: axes.map((axis) => [axis.x, axis.at(axis.of(trial))]) }));
  const background = svg("path", { class: "line out" }), plain = svg("path", { class: "line" });
  const front = svg("path", { class: "line front" }), lit = svg("path", { class: "line lit" });
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": "Parallel coordinates of the trained trials; drag along an axis to select" },
  background, plain, front, lit);

  function refresh() {
    const inside = ({ places }) => axes.every((axis, i) => {
      const brush = brushes.get(axis.title);
      return !brush || (places[i][1] >= brush[0] && places[i][1] <= brush[1]);
    });
    const chosen = lines.filter(inside), rest = brushes.size ? lines.filter((line) => !inside(line)) : [];
    const path = (some) => some.map(({ places }) => polyline(places)).join("");
    background.setAttribute("d", path(rest));
    plain.setAttribute("d", path(chosen.filter((line) => !line.front)));
    front.setAttribute("d", path(chosen.filter((line) => line.front)));
    for (const axis of axes) axis.show();
    fill("parallel-count", brushes.size ? `${chosen.length} of ${counted(lines.length, "trial")} selected` : `${counted(lines.length, "trained trial")}; drag along an axis to select some`,
      brushes.size ? html("button", { type: "button", onclick: () => { brushes.clear(); refresh(); } }, "Clear") : null);
  }
  for (const axis of axes) root.append(parallelAxis(axis, root, refresh, top, bottom));
  root.addEventListener("pointermove", (event) => {
    const [x, y] = pointer(event, root), i = Math.max(0, Math.min(axes.length - 2, Math.floor((x - 45) / gap)));
    let found = null, least = 10;
    for (const line of axes.length > 1 ? lines : []) {
      const [[ax, ay], [bx, by]] = [line.places[i], line.places[i + 1]];
      const off = Math.abs(ay + ((x - ax) / (bx - ax)) * (by - ay) - y);
      if (off < least || (off === least && line.front)) [found, least] = [line, off];
    }
    lit.setAttribute("d", found ? polyline(found.places) : "");
    label(parallel, x, y, found && [`Trial ${found.trial.number}`,
      ...goals.map((name) => `${labelOf(name)}: ${withUnit(name, found.trial.objectives[name])}`), ...configurationLines(found.trial.configuration)]);
  });
  root.addEventListener("pointerleave", () => { lit.setAttribute("d", ""); label(parallel, 0, 0, null); });
  parallel.replaceChildren(root);
  refresh();
}

// One axis: its ticks, and a brush that the pointer draws or the arrow keys move.
function parallelAxis(axis, root, refresh, top, bottom) {
  const brush = svg("rect", { class: "brush", x: axis.x - 9, width: 18 });
  const ticks = axis.at.ticks.length > 9 ? axis.at.ticks.filter((_, i) => i % 2 === 0) : axis.at.ticks;
  const words = axis.title.split(/(?<=_)|\s+/);
  const handle = svg("g", { class: "axis", role: "slider", tabindex: "0", "aria-label": `selection on ${axis.title}`,
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0", "aria-orientation": "vertical" },
  svg("rect", { class: "catch", x: axis.x - 16, y: top - 4, width: 32, height: bottom - top + 8 }),
  svg("line", { class: "base", x1: axis.x, x2: axis.x, y1: top, y2: bottom }), brush,
  words.map((word, i) => svg("text", { class: axis.goal ? "title goal" : "title", x: axis.x, y: 14 + 13 * i + (words.length < 3 ? 13 : 0), "text-anchor": "middle" }, word)),
  axis.kind ? svg("text", { class: "kind", x: axis.x, y: bottom + 18, "text-anchor": "middle" }, axis.kind) : null,
  ticks.map(([at, text]) => svg("text", { x: axis.x + 5, y: at + 4 }, text)));
  axis.show = () => {
    const at = brushes.get(axis.title);
    brush.setAttribute("y", at ? at[0] : 0);
    brush.setAttribute("height", at ? at[1] - at[0] : 0);
    const share = at ? Math.round((100 * (bottom - (at[0] + at[1]) / 2)) / (bottom - top)) : 0;
    handle.setAttribute("aria-valuenow", String(share));
    handle.setAttribute("aria-valuetext", at ? `${Math.round((100 * (bottom - at[1])) / (bottom - top))} to ${Math.round((100 * (bottom - at[0])) / (bottom - top))} % of the axis` : "all");
  };
  const set = (a, b) => {
    const [low, high] = [Math.max(top, Math.min(a, b)), Math.min(bottom, Math.max(a, b))];
    if (high - low < 3) brushes.delete(axis.title);
    else brushes.set(axis.title, [low, high]);
    refresh();
  };
  let start = null;
  handle.addEventListener("pointerdown", (event) => {
    [, start] = pointer(event, root);
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => { if (start !== null) set(start, pointer(event, root)[1]); });
  handle.addEventListener("pointerup", (event) => {
    if (start !== null) set(start, pointer(event, root)[1]);
    start = null;
  });
  handle.addEventListener("keydown", (event) => {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key], by = (bottom - top) / 10;
    if (event.key === "Escape") brushes.delete(axis.title);
    else if (!way) return;
    else {
      const [low, high] = brushes.get(axis.title) ?? (way < 0 ? [bottom - by, bottom] : [top, top + by]);
      if (!brushes.has(axis.title)) set(low, high);
      else if (event.shiftKey) set(low, high + way * by);
      else if (low + way * by >= top - 1e-6 && high + way * by <= bottom + 1e-6) set(low + way * by, high + way * by);
    }
    refresh();
    event.preventDefault();
  });
  return handle;
}
