// Learning curves of what is chosen, with the defaults beside.
function drawLearning() {
  const place = byId("learning-plot"), trials = [...new Set([...Object.values(state.selected), data.defaults])];
  const curves = trials.map((trial) => byTrial.get(trial)).filter((point) => point?.losses.length);
  if (!curves.length) return place.replaceChildren();
  const all = curves.flatMap(({ losses }) => losses), log = spansDecades(all);
  const { layer, x, y, root } = frame(place, {
    height: 260, label: "Training loss by round", xTitle: "round", yTitle: ["training loss", data.kinds.learned], margin: { left: 66 },
    scales: ({ left, right, top, bottom }) => ({
      x: scale({ low: 1, high: Math.max(2, ...curves.map(({ losses }) => losses.length)), whole: true, from: left + 6, to: right - 8, count: 8 }),
      y: scale({ ...padded(all, log), log, from: bottom - 4, to: top + 4 }) }),
  });
  const name = (trial) => (trial === data.defaults ? "the study's defaults" : `trial ${trial}`);
  curves.forEach(({ losses }, i) => layer.append(svg("path", { class: "attained", style: `stroke:${category(i)}`,
    d: polyline(losses.map((loss, round) => [x(round + 1), y(loss)])) })));
  const places = curves.flatMap(({ trial, losses }) => losses.map((loss, i) => ({ trial, loss, round: i + 1, x: x(i + 1), y: y(loss) })));
  root.addEventListener("pointermove", (event) => {
    const found = nearest(places, pointer(event, root), 20);
    label(place, found?.x, found?.y, found && [name(found.trial), `round ${found.round}: ${number(found.loss)}`]);
  });
  root.addEventListener("pointerleave", () => label(place, 0, 0, null));
  fill("learning-legend", curves.map(({ trial }, i) =>
    html("span", { class: "key" }, html("i", { style: `background:${category(i)}` }), name(trial))));
}
