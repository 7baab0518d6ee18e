// The trade-off picture: two objectives of the front, with the dominated trials behind it.
const points = data.points;
const byTrial = new Map([...points, ...data.dominated].map((point) => [point.trial, point]));
const goals = data.objectives;
const COLOURS = 6, MOST_PINNED = 3;

// An objective of a point, [value, low, high]: of the fleet, or a cost as a device type sees it.
const valueOf = (point, name, device = null) =>
  (device && point.devices[device]?.costs[name]) || point.objectives[name];

// The points that a person would compare first: not far worse than the defaults and what is chosen.
function useful(name) {
  const sign = data.measures[name].maximised ? -1 : 1;
  const all = points.filter((p) => p.front).map((p) => sign * valueOf(p, name)[0]).sort((a, b) => a - b);
  const must = [...Object.values(state.selected), data.defaults].filter((trial) => byTrial.has(trial))
    .map((trial) => sign * valueOf(byTrial.get(trial), name)[0]);
  const worst = Math.max(all[Math.floor((all.length - 1) * 0.75)] ?? -Infinity, ...must);
  return (value) => sign * value <= worst + Math.abs(worst) * 1e-9;
}
const tradeoff = byId("tradeoff-plot");
function tradeoffAxes() {
  if (goals.length === 1) return { x: null, y: goals[0] };
  const [y, x] = mostVarying((name) => points.map((point) => valueOf(point, name)[0]));
  return { x, y };
}

function tradeoffTools() {
  const options = goals.map((name) => ({ value: name, text: labelOf(name) }));
  const { x, y } = tradeoffAxes();
  const first = (name) => [...options].sort((a, b) => (b.value === name) - (a.value === name));
  const redraw = () => { tradeoffTools(); drawTradeoff(); };
  const types = data.devices.map(({ name }) => name);
  fill("tradeoff-tools",
    x === null ? [] : [chooser("vertical", "Vertical", first(y), redraw), chooser("horizontal", "Horizontal", first(x), redraw)],
    chooser("colour", "Colour", [
      { value: "", text: "front" },
      ...(types.length > 1 ? [{ value: "device type", text: "device type" }] : []),
      ...data.parameters.map(({ name }) => ({ value: `=${name}`, text: name })),
    ], redraw),
    chooser("seen-by", "Costs of", [
      { value: "", text: "the whole fleet" }, ...types.map((name) => ({ value: name, text: name })),
    ], redraw),
    chooser("extent", "Range", [{ value: "useful", text: "useful" }, { value: "all", text: "all trials" }], redraw));
}

// The marks of the picture, each with its place: front points, the defaults, dominated trials.
function tradeoffMarks(xName, yName, device) {
  const coloured = state.views.colour === "device type";
  const marks = [];
  for (const point of points)
    for (const seen of coloured ? Object.keys(point.devices) : [device]) {
      const x = xName === null ? [point.trial, point.trial, point.trial] : valueOf(point, xName, seen);
      marks.push({ point, seen, values: { x, y: valueOf(point, yName, seen) } });
    }
  return marks;
}

function colourOf(mark) {
  const by = state.views.colour;
  if (!by) return "var(--accent)";
  if (by === "device type") return category(data.devices.findIndex(({ name }) => name === mark.seen));
  const parameter = data.parameters.find(({ name }) => `=${name}` === by);
  const value = mark.point.configuration[parameter.name];
  if (parameter.choices && parameter.choices.length <= COLOURS)
    return category(parameter.choices.map(String).indexOf(String(value)));
  return shade(parameterScale(parameter, 0, 1)(value));
}
const category = (index) => `var(--category-${Math.max(0, index) % COLOURS})`;
const shade = (share) => `color-mix(in oklab, var(--most) ${(100 * Math.max(0, Math.min(1, share))).toFixed(0)}%, var(--least))`;

function colourLegend() {
  const by = state.views.colour, key = (colour, text) =>
    html("span", { class: "key" }, html("i", { style: `background:${colour}` }), text);
  if (by === "device type") return data.devices.map(({ name }, i) => key(category(i), name));
  const parameter = data.parameters.find(({ name }) => `=${name}` === by);
  if (!parameter) return [];
  const { choices } = parameter;
  if (choices && choices.length <= COLOURS) return choices.map((value, i) => key(category(i), setting(value)));
  const [low, high] = choices ? [choices[0], choices.at(-1)] : [parameter.low, parameter.high];
  return [key(shade(0), setting(low)), key(shade(0.5), "to"), key(shade(1), setting(high))];
}

// The dominated trials, each configuration once, with the values by which they are dominated: what the model of all trials
// predicts. As measured where that is not stored.
const dominatedTrials = (() => {
  const key = ({ configuration }) => JSON.stringify(Object.entries(configuration).sort());
  const stored = new Set([...byTrial.values()].map(key));
  const kept = new Map(data.dominated.map((point) => [point.trial, point]));
  const predicted = ({ objectives }) => Object.fromEntries(goals.map((name) => [name, objectives[name][0]]));
  return data.trials.filter((trial) => trial.state === "completed" && (kept.has(trial.number) || !stored.has(key(trial))))
    .map((trial) => (kept.has(trial.number) ? { ...trial, objectives: predicted(kept.get(trial.number)) } : trial));
})();

let tradeoffView = null; // what is drawn: places of marks, to answer the pointer
function drawTradeoff() {
  const device = state.views["seen-by"] || null, whole = state.views.extent === "all";
  const yName = goals.length === 1 ? goals[0] : state.views.vertical;
  const xName = goals.length === 1 ? null : state.views.horizontal;
  const marks = tradeoffMarks(xName, yName, device);
  const others = device || state.views.colour === "device type" ? [] : dominatedTrials;
  const seen = (name, axis, inside) => [
    ...marks.map(({ values }) => values[axis][0]),
    ...(whole ? others.map((trial) => (name === null ? trial.number : trial.objectives[name])) : []),
  ].filter((value) => whole || name === null || inside(value));
  const axisScale = (name, axis, from, to) => {
    const raw = seen(name, axis, name === null ? null : useful(name));
    const values = name === null ? raw : raw.map((value) => inUnit(name, value));
    const log = name !== null && spansDecades(values);
    const inner = scale({ ...padded(values, log, 0.08), log, whole: name === null, from, to, count: axis === "x" ? 7 : 6 });
    const at = (value) => inner(name === null ? value : inUnit(name, value));
    return Object.assign(at, { ticks: inner.ticks });
  };
  const better = (name) => bestEnd(name, tradeoff.clientWidth);
  const names = [yName, ...(xName === null ? [] : [xName])].map((name) => labelOf(name).toLowerCase());
  const picture = frame(tradeoff, {
    height: Math.min(520, Math.max(340, tradeoff.clientWidth * 0.6)), role: "group",
    label: `${names.join(" against ")} of the front's points; arrow keys go from point to point, Enter pins one`,
    xTitle: xName === null ? "trial" : better(xName), yTitle: better(yName),
    scales: ({ left, right, top, bottom }) => ({
      x: axisScale(xName, "x", left + 6, right - 10), y: axisScale(yName, "y", bottom - 6, top + 6) }),
  });
  const { layer, x, y, box } = picture;
  for (const mark of marks) Object.assign(mark, { x: x(mark.values.x[0]), y: y(mark.values.y[0]) });
  const inside = (mark) => mark.x >= box.left - 1 && mark.x <= box.right + 8 && mark.y >= box.top - 8 && mark.y <= box.bottom + 1;
  const behind = others.map((trial) => ({ trial, over: !trial.within,
    x: x(xName === null ? trial.number : trial.objectives[xName]), y: y(trial.objectives[yName]) })).filter(inside);
  layer.append(
    dots(behind.filter(({ over }) => !over).map((each) => [each.x, each.y]), { class: "dominated" }),
    svg("path", { class: "over", d: behind.filter(({ over }) => over)
      .map((each) => `M${each.x - 3} ${each.y - 3}l6 6m0 -6l-6 6`).join("") }));
  if (xName !== null && state.views.colour !== "device type") layer.append(edge(marks, xName, yName, x, y, box));
  const bars = svg("g", { class: "bars" });
  layer.append(bars);
  const shown = marks.filter(inside).sort((a, b) => a.x - b.x || a.point.trial - b.point.trial);
  tradeoffView = { ...picture, marks: shown, behind, bars, xName, yName };
  shown.sort((a, b) => (a.point.front ? 1 : 0) - (b.point.front ? 1 : 0));
  for (const mark of shown) layer.append(markElement(mark));
  shown.sort((a, b) => a.x - b.x || a.point.trial - b.point.trial);
  for (const mark of shown) mark.element.setAttribute("tabindex", mark === shown[0] ? "0" : "-1");
  listenTo(picture.root);
  const hidden = new Set(marks.filter((mark) => mark.point.front && !shown.includes(mark)).map(({ point }) => point.trial)).size;
  fill("tradeoff-legend", ...legend(behind, shown), colourLegend(),
    hidden ? html("span", { class: "key" }, `${counted(hidden, "point")} of the front ${hidden === 1 ? "lies" : "lie"} outside this range`) : null);
  showPinned();
}

// The line that bounds what the points of the front dominate in this view.
function edge(marks, xName, yName, x, y, box) {
  const [sx, sy] = [xName, yName].map((name) => (data.measures[name].maximised ? -1 : 1));
  const sorted = marks.filter(({ point }) => point.front).sort((a, b) =>
    sx * (a.values.x[0] - b.values.x[0]) || sy * (a.values.y[0] - b.values.y[0]));
  let best = Infinity, d = "";
  for (const mark of sorted) {
    if (sy * mark.values.y[0] >= best) continue;
    best = sy * mark.values.y[0];
    d += d ? `H${mark.x.toFixed(1)}V${mark.y.toFixed(1)}` : `M${mark.x.toFixed(1)} ${(sy > 0 ? box.top - 8 : box.bottom)}V${mark.y.toFixed(1)}`;
  }
  return svg("path", { class: "edge", d: d && `${d}H${sx > 0 ? box.right + 8 : box.left}` });
}

function markElement(mark) {
  const { point } = mark, chosen = Object.values(state.selected).includes(point.trial);
  const shape = point.front ? svg("circle", { class: "dot", r: 6.5, style: `fill:${colourOf(mark)}` })
    : svg("path", { class: "defaults", d: "M0 -8L8 0L0 8L-8 0Z" });
  mark.element = svg("g", {
    class: "mark", role: "button", "aria-pressed": String(state.pinned.includes(point.trial)),
    "aria-label": describe(mark).join(", "), "data-trial": point.trial,
    transform: `translate(${mark.x.toFixed(2)} ${mark.y.toFixed(2)})`,
  }, chosen ? svg("circle", { class: "ring", r: 11.5 }) : null, shape,
  chosen ? svg("text", { class: "named", x: 12, y: -9 }, String(point.trial)) : null);
  return mark.element;
}

function describe({ point, seen }) {
  const lines = [point.front ? `Trial ${point.trial}` : `The study's defaults (trial ${point.trial})`];
  const chosen = data.devices.map(({ name }) => name).filter((name) => state.selected[name] === point.trial);
  if (chosen.length) lines.push(`chosen for ${listed(chosen)}`);
  if (seen) lines.push(`costs of ${seen}`);
  for (const name of goals) {
    const value = valueOf(point, name, seen), range = ends(name, value);
    lines.push(`${labelOf(name)}: ${withUnit(name, value[0])}${range ? ` (${range})` : ""}, ${kindOf(name)}`);
  }
  lines.push(`trained ${point.runs}×`);
  return lines;
}
const configurationLines = (configuration) =>
  Object.entries(configuration).map(([name, value]) => `${name} = ${setting(value)}`);

function legend(behind, shown) {
  const key = (mark, text) => html("span", { class: "key" },
    svg("svg", { width: 22, height: 16, viewBox: "-11 -8 22 16", "aria-hidden": "true" }, mark), text);
  const has = (over) => behind.some((each) => each.over === over);
  return [
    key(svg("circle", { class: "dot", r: 6, style: "fill:var(--accent)" }), "front"),
    Object.keys(state.selected).length ? key(svg("circle", { class: "ring", r: 6 }), "chosen") : null,
    shown.some(({ point }) => !point.front) ? key(svg("path", { class: "defaults", d: "M0 -6L6 0L0 6L-6 0Z" }), "the study's defaults") : null,
    has(false) ? key(svg("path", { class: "dominated", d: "M0 0h0" }), "dominated") : null,
    has(true) ? key(svg("path", { class: "over", d: "M-3 -3l6 6m0 -6l-6 6" }), "over a limit") : null,
  ];
}
