// Pointing at the trade-off picture, going through it by keyboard, and pinning up to three points.

// The marks at the pointer, front points before others, then the dominated trial nearest to it.
function tradeoffAt(event) {
  const at = pointer(event, tradeoffView.root), { marks, behind } = tradeoffView;
  const found = nearest(marks.filter(({ point }) => point.front), at, 12) ?? nearest(marks, at, 12);
  if (found) return [found, ...marks.filter((mark) => mark !== found && Math.hypot(mark.x - found.x, mark.y - found.y) < 1.5)];
  const trial = nearest(behind, at, 8);
  return trial ? [trial] : [];
}

function showMarks([first, ...same]) {
  if (!first) return label(tradeoff, 0, 0, null);
  const place = [(first.x / tradeoffView.box.width) * tradeoff.clientWidth, first.y];
  if (first.trial) {
    const { number: trial, objectives, configuration } = first.trial;
    return label(tradeoff, ...place, [`Trial ${trial}`, ...goals.map((name) => `${labelOf(name)}: ${withUnit(name, objectives[name])}, ${kindOf(name)}`),
      ...configurationLines(configuration)]);
  }
  return label(tradeoff, ...place, [...describe(first), ...configurationLines(first.point.configuration),
    ...same.map(({ point, seen }) => `In the same place: trial ${point.trial}${seen ? ` on ${seen}` : ""}`)]);
}

// Intervals are drawn of the point at the pointer and of pinned ones only.
function showBars(marks) {
  const { bars, x, y } = tradeoffView;
  bars.replaceChildren(...marks.filter((mark) => mark.values).map((mark) => {
    const { x: [, xLow, xHigh], y: [, yLow, yHigh] } = mark.values;
    return svg("path", { d: `M${x(xLow)} ${mark.y}H${x(xHigh)}M${mark.x} ${y(yLow)}V${y(yHigh)}` });
  }));
}
const pinnedMarks = () => tradeoffView.marks.filter(({ point }) => state.pinned.includes(point.trial));

function listenTo(root) {
  const point = (marks) => { showMarks(marks); showBars([...marks, ...pinnedMarks()]); };
  root.addEventListener("pointermove", (event) => point(tradeoffAt(event)));
  root.addEventListener("pointerleave", () => point([]));
  root.addEventListener("click", (event) => {
    const [found] = tradeoffAt(event);
    if (found?.point) pin(found.point.trial);
  });
  const current = () => tradeoffView.marks.findIndex(({ element }) => element === document.activeElement);
  root.addEventListener("focusin", () => { if (current() >= 0) point([tradeoffView.marks[current()]]); });
  root.addEventListener("focusout", () => point([]));
  root.addEventListener("keydown", (event) => {
    const { marks } = tradeoffView, at = current();
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (at < 0) return;
    if (step) {
      const next = marks[(at + step + marks.length) % marks.length];
      for (const mark of marks) mark.element.setAttribute("tabindex", mark === next ? "0" : "-1");
      next.element.focus();
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      pin(marks[at].point.trial);
      event.preventDefault();
    } else if (event.key === "Escape") point([]);
  });
}

function pin(trial) {
  state.pinned = state.pinned.includes(trial) ? state.pinned.filter((other) => other !== trial)
    : [...state.pinned, trial].slice(-MOST_PINNED);
  changed();
  for (const { element, point } of tradeoffView.marks)
    element.setAttribute("aria-pressed", String(state.pinned.includes(point.trial)));
  showPinned();
}

// The pinned points side by side: objectives, costs on each device type, configuration.
function pinnedRows(chosen) {
  const cell = (name, value, more = 0) => [withUnit(name, value[0], [value[0]], more), ends(name, value)];
  const rows = goals.map((name) => {
    const more = digitsBetween(name, chosen.map((point) => point.objectives[name][0]));
    return [`${labelOf(name)}, fleet`, chosen.map((point) => cell(name, point.objectives[name], more)), kindOf(name)];
  });
  rows.push(["trained", chosen.map((point) => [`${point.runs}×`, ""])]);
  for (const { name: device } of data.devices)
    for (const name of data.costs)
      rows.push([`${labelOf(name)}, ${device}`, chosen.map((point) => {
        const value = point.devices[device]?.costs[name];
        return value ? cell(name, value) : ["not told", ""];
      }), kindOf(name)]);
  for (const { name } of data.parameters)
    rows.push([name, chosen.map((point) => [setting(point.configuration[name] ?? "none"), ""])]);
  return rows;
}

function showPinned() {
  if (!tradeoffView) return;
  state.pinned = state.pinned.filter((trial) => byTrial.has(trial));
  for (const { element, point } of tradeoffView.marks)
    element.classList.toggle("pinned", state.pinned.includes(point.trial));
  showBars(pinnedMarks());
  const chosen = state.pinned.map((trial) => byTrial.get(trial)), only = state.views.differences !== "off";
  if (!chosen.length) return fill("pinned", html("p", { class: "hint" }, "Click a point to pin it, up to three, and compare them here."));
  const rows = pinnedRows(chosen).filter(([, cells]) => !only || chosen.length === 1 || new Set(cells.map(([text]) => text)).size > 1);
  const toggle = html("label", { class: "toggle" }, html("input", { type: "checkbox", checked: only,
    onchange: (event) => { state.views.differences = event.target.checked ? "on" : "off"; changed(); showPinned(); } }), " differences only");
  return fill("pinned", html("div", { class: "tools" }, toggle,
    html("button", { type: "button", onclick: () => { state.pinned = []; changed(); drawTradeoff(); } }, "Unpin all")),
  html("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Pinned points side by side" },
    html("table", { class: "figures" },
      html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "pinned"), chosen.map((point) =>
        html("th", { scope: "col" }, point.front ? `trial ${point.trial}` : `defaults (trial ${point.trial})`)))),
      html("tbody", {}, rows.map(([title, cells, kind]) => html("tr", {}, html("th", { scope: "row" }, title, kind ? badge(kind) : null),
        cells.map(([text, range]) => html("td", {}, text, range ? html("small", {}, range) : null))))))));
}
