// How far the front has come, by trials or by what was spent on them.
function drawAttainment() {
  const by = state.views.attainment ?? "trial", place = byId("attainment-plot");
  const steps = data.attainment.map((step) => ({ ...step, x: step[by] }));
  const random = (data.random?.[by] ?? []).map(([x, share]) => ({ x, share }));
  if (!steps.length) return;
  const last = steps.at(-1), top = Math.max(0.01, ...[...steps, ...random].map(({ share }) => share));
  const { layer, x, y, root } = frame(place, {
    height: 340, label: `Attained share of the objectives' box: ${(100 * last.share).toFixed(1)} % after ${counted(data.trials.length, "trial")}`,
    xTitle: data.attainment_by[by], yTitle: ["share dominated (%)", data.kinds.together],
    scales: ({ left, right, top: upper, bottom }) => ({
      x: scale({ low: 0, high: last.x || 1, whole: by === "trial", from: left, to: right, count: 7 }),
      y: scale({ low: 0, high: 100 * top * 1.06, from: bottom, to: upper }) }),
  });
  const line = (some) => some.map((step, i) => `${i ? "H" : "M"}${x(step.x).toFixed(1)}${i ? "V" : " "}${y(100 * step.share).toFixed(1)}`).join("");
  if (random.length) layer.append(svg("path", { class: "random", d: line(random) }));
  layer.append(svg("path", { class: "attained", d: line(steps) }),
    dots(steps.filter(({ grew }) => grew).map((step) => [x(step.x), y(100 * step.share)]), { class: "on-front" }));
  root.addEventListener("pointermove", (event) => {
    const [at] = pointer(event, root), step = steps.filter((each) => x(each.x) <= at).at(-1);
    label(place, at, step ? y(100 * step.share) : 0, step && [`After trial ${step.trial}`, `${(100 * step.share).toFixed(1)} % dominated`]);
  });
  root.addEventListener("pointerleave", () => label(place, 0, 0, null));
  fill("attainment-legend", ["attained", random.length ? "random" : null].filter(Boolean).map((kind) =>
    html("span", { class: "key" }, svg("svg", { width: 22, height: 10, "aria-hidden": "true" }, svg("path", { class: kind, d: "M1 5H21" })),
      kind === "attained" ? "this study" : "expected of random search")));
}
function attainmentTools() {
  const options = Object.entries(data.attainment_by).map(([value, text]) => ({ value, text }));
  fill("attainment-tools", options.length > 1 ? chooser("attainment", "By", options, drawAttainment) : []);
}
