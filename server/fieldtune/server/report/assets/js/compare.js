// Several runs: their fronts in one picture, and what they attained in another.
const goals = data.objectives;
const colour = (index) => `var(--category-${index})`;
const legendKeys = () => data.runs.map(({ name }, i) =>
  html("span", { class: "key" }, html("i", { style: `background:${colour(i)}` }), name));

function drawFronts() {
  const y = state.views.vertical ?? goals[0], x = state.views.horizontal ?? null, place = byId("fronts-plot");
  const all = data.runs.flatMap(({ points }) => points);
  if (!all.length) return;
  const at = (point, name) => (name === null ? point.trial : inUnit(name, point.objectives[name][0]));
  const axis = (name, from, to) => {
    const values = all.map((point) => at(point, name)), log = name !== null && spansDecades(values);
    return scale({ ...padded(values, log, 0.08), log, whole: name === null, from, to });
  };
  const better = (name) => bestEnd(name, byId("fronts-plot").clientWidth);
  const picture = frame(place, {
    height: 440, label: `Fronts of ${data.runs.length} runs`, xTitle: x === null ? "trial" : better(x), yTitle: better(y),
    scales: ({ left, right, top, bottom }) => ({ x: axis(x, left + 6, right - 10), y: axis(y, bottom - 6, top + 6) }),
  });
  const marks = [];
  data.runs.forEach(({ name, points }, i) => {
    const own = points.map((point) => ({ name, point, x: picture.x(at(point, x)), y: picture.y(at(point, y)) }));
    if (x !== null) picture.layer.append(staircase(own, x, y, picture.box, colour(i)));
    picture.layer.append(...own.map((mark) => svg("circle", { class: "dot", r: 6, cx: mark.x, cy: mark.y, style: `fill:${colour(i)}` })));
    marks.push(...own);
  });
  picture.root.addEventListener("pointermove", (event) => {
    const found = nearest(marks, pointer(event, picture.root), 12);
    label(place, found?.x, found?.y, found && [`${found.name}, trial ${found.point.trial}`, ...goals.map((name) =>
      [`${labelOf(name)}: ${withUnit(name, found.point.objectives[name][0])}`, ends(name, found.point.objectives[name])]
        .filter(Boolean).join(", "))]);
  });
  picture.root.addEventListener("pointerleave", () => label(place, 0, 0, null));
}
function staircase(marks, xName, yName, box, stroke) {
  const [sx, sy] = [xName, yName].map((name) => (data.measures[name].maximised ? -1 : 1));
  let best = Infinity, d = "";
  for (const mark of [...marks].sort((a, b) => sx * (a.x - b.x) || -sy * (a.y - b.y))) {
    const worth = -sy * mark.y; // pixels grow downwards
    if (worth >= best) continue;
    best = worth;
    d += d ? `H${mark.x}V${mark.y}` : `M${mark.x} ${sy > 0 ? box.top - 8 : box.bottom}V${mark.y}`;
  }
  return svg("path", { class: "edge", d: d && `${d}H${sx > 0 ? box.right + 8 : box.left}`, style: `stroke:${stroke}` });
}

function drawAttained() {
  const by = state.views.attainment ?? "trial", place = byId("attainment-plot");
  const lines = data.runs.map(({ attainment }) => attainment.map((step) => [step[by], step.share]));
  if (!lines.some((line) => line.length)) return;
  const most = Math.max(...lines.flat().map(([x]) => x)), top = Math.max(0.01, ...lines.flat().map(([, share]) => share));
  const { layer, x, y } = frame(place, {
    height: 340, label: "Attained share of the objectives' box, a line a run", xTitle: data.attainment_by[by], yTitle: ["share dominated (%)", data.kinds.together],
    scales: ({ left, right, top: upper, bottom }) => ({ x: scale({ low: 0, high: most || 1, whole: by === "trial", from: left, to: right, count: 7 }),
      y: scale({ low: 0, high: 100 * top * 1.06, from: bottom, to: upper }) }),
  });
  lines.forEach((line, i) => layer.append(svg("path", { class: "attained", style: `stroke:${colour(i)}`,
    d: line.map(([at, share], k) => (k ? `H${x(at)}V${y(100 * share)}` : `M${x(at)} ${y(100 * share)}`)).join("") })));
}

const options = goals.map((name) => ({ value: name, text: labelOf(name) }));
if (goals.length > 1) {
  const [y, x] = mostVarying((name) => data.runs.flatMap(({ points }) => points.map((point) => point.objectives[name][0])));
  state.views.vertical ??= y;
  state.views.horizontal ??= x;
  fill("fronts-tools", chooser("vertical", "Vertical", options, drawFronts), chooser("horizontal", "Horizontal", options, drawFronts));
}
const by = Object.entries(data.attainment_by).map(([value, text]) => ({ value, text }));
if (by.length > 1) fill("attainment-tools", chooser("attainment", "By", by, drawAttained));
fill("fronts-legend", legendKeys());
drawSoon("fronts-plot", drawFronts);
drawSoon("attainment-plot", drawAttained);
