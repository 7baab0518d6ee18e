// One slice a parameter: every trained trial's value of it against an objective.
function drawSlices() {
  const name = state.views.slices;
  const known = trained.filter((trial) => Number.isFinite(trial.objectives[name]));
  const place = byId("slices-plot");
  place.replaceChildren();
  for (const parameter of data.parameters) {
    const box = html("div", { class: "slice", id: `slice-${data.parameters.indexOf(parameter)}` });
    place.append(box);
    const inside = known.filter((trial) => parameter.name in trial.configuration);
    const values = inside.map((trial) => trial.objectives[name]);
    if (!values.length) continue;
    const { layer, x, y } = frame(box, {
      height: 220, label: `${labelOf(name)} by ${parameter.name}, ${counted(inside.length, "trial")}`,
      xTitle: parameter.name, yTitle: [titled(name), kindOf(name)], margin: { left: 52, bottom: 42 },
      scales: ({ left, right, top, bottom }) => ({
        x: parameterScale(parameter, left + 8, right - 8, 4), y: objectiveScale(name, values, bottom - 4, top + 4, 4) }),
    });
    const at = (trial) => [x(trial.configuration[parameter.name]), y(trial.objectives[name])];
    const onFront = (trial) => byTrial.get(trial.number)?.front ?? false;
    layer.append(dots(inside.filter((trial) => !onFront(trial)).map(at), { class: "dominated" }),
      dots(inside.filter(onFront).map(at), { class: "on-front" }));
  }
}
function slicesTools() {
  fill("slices-tools", chooser("slices", "Objective", goals.map((name) => ({ value: name, text: labelOf(name) })), drawSlices));
}
