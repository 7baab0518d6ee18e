// Sliders for the reader's own weights, confidence and limits, and what follows from them.
const LIMITS = ["inference_ms", "energy_j", "round_s", "memory_mib", "storage_mib"];

const isTouched = () => state.confidence !== undefined
  || areLimitsMoved() || Object.values(state.weights).some((each) => Object.keys(each).length > 0);
function rankAgain() {
  const fitting = areLimitsMoved() ? fittingTrials() : null;
  for (const { name } of data.devices) {
    if (!(name in data.recommended)) continue;
    const [first] = ranked(name, fitting);
    state.selected[name] = first ? first.trial : data.recommended[name].trial;
  }
  changed();
  showOutcome();
}

function slider(id, text, { min, max, step, value, shown, set }) {
  const output = html("output", { for: id }, shown(value));
  return html("div", { class: "slider" }, html("label", { for: id }, text),
    html("input", { id, type: "range", min, max, step, value, "aria-valuetext": shown(value), oninput: (event) => {
      const now = Number(event.target.value);
      output.textContent = shown(now);
      event.target.setAttribute("aria-valuetext", shown(now));
      set(now);
      rankAgain();
    } }), output);
}

function showPriorities() {
  if (!byId("priorities-weights")) return;
  const keep = (record, name, value, usual) => { if (value === usual) delete record[name]; else record[name] = value; };
  const options = data.devices.filter(({ name }) => name in data.recommended).map(({ name }) => ({ value: name, text: name }));
  fill("priorities-for", chooser("weighed", "Weights on", [{ value: EVERY, text: "every device type" }, ...options], showPriorities));
  const of = state.views.weighed, weights = (state.weights[of] ??= {});
  fill("priorities-weights", goals.map((name) => slider(`weight-${name}`, `${labelOf(name)}`, {
    min: 0, max: 4, step: 0.25, value: weightOf(name, of), shown: (value) => `weight ${value}`,
    set: (value) => keep(weights, name, value, untouched(name, of)),
  })), slider("confidence", "Sure to be no worse than the defaults", {
    min: 0.5, max: 0.99, step: 0.01, value: confidenceNow(), shown: (value) => `${Math.round(100 * value)} %`,
    set: (value) => keep(state, "confidence", value, data.decision.confidence),
  }));
  fill("priorities-tools", chooser("limited", "Limits of", options, showPriorities));
  const device = state.views.limited;
  fill("priorities-limits", LIMITS.map((name) => limitSlider(device, name)));
  showOutcome();
}

// A limit runs from what the smallest trial needs to what the largest does, and then to the study's own.
function limitSlider(device, name) {
  const { standings, dominated } = data.recommended[device];
  const values = [...standings, ...dominated].map(({ trial }) => needed(byTrial.get(trial), device, name)).filter((value) => value > 0);
  const low = Math.min(...values), high = Math.max(...values);
  if (!values.length || high / low < 1.005) return null;
  const caps = (state.caps[device] ??= {}), own = deviceOf(device).caps[name];
  const at = (position) => low * (high / low) ** (position / 100);
  const cap = (position) => (position > 100 ? null : roundedUp(at(position)));
  const position = name in caps ? Math.min(100, Math.max(0, Math.round((100 * Math.log(caps[name] / low)) / Math.log(high / low)))) : 101;
  const usual = own ? `as now, ${withUnit(name, own)}` : "no limit";
  return slider(`limit-${name}`, `${labelOf(name)} at most`, {
    min: 0, max: 101, step: 1, value: position, shown: (now) => (cap(now) === null ? usual : withUnit(name, cap(now))),
    set: (now) => { if (cap(now) === null) delete caps[name]; else caps[name] = cap(now); },
  });
}
// To three digits, so that what is printed as TOML admits what the slider admits.
function roundedUp(value) {
  const power = 10 ** (Math.floor(Math.log10(value)) - 2);
  return Number((Math.ceil(value / power - 1e-9) * power).toPrecision(3));
}

function showOutcome() {
  if (!byId("priorities-outcome")) return;
  const fitting = areLimitsMoved() ? fittingTrials() : null;
  fill("priorities-outcome", data.devices.map(({ name }) => {
    if (!(name in data.recommended)) return html("li", {}, html("b", {}, name), ": nothing fits");
    const order = ranked(name, fitting), [first, second] = order, usual = data.recommended[name].trial;
    if (!first) return html("li", {}, html("b", {}, name), `: no stored trial keeps these limits; trial ${usual} stays`);
    const same = first.trial === usual ? ", as recommended" : [` instead of ${usual}: `, priceOf(first.trial, usual, name)];
    return html("li", {}, html("b", {}, name), `: trial ${first.trial}`, same,
      first.against || data.defaults === null ? null : "; the best compromise, as nothing that fits is surely as good as the defaults",
      second ? html("small", {}, `${counted(order.length, "trial")} left, trial ${second.trial} next`) : null);
  }));
  const lines = tomlLines();
  fill("priorities-toml", lines ? [html("p", { class: "caption" }, "To keep them, write this into the study file and run it again"),
    tomlBox(lines), html("button", { type: "button", onclick: () => {
      state.weights = {};
      state.caps = {};
      delete state.confidence;
      rankAgain();
      showPriorities();
    } }, "Reset")] : html("p", { class: "hint" }, "Move a slider: the stored trials are ranked anew, and cards, table and commands follow."));
}
function tomlBox(lines) {
  const copied = html("button", { type: "button", onclick: () => copyText(lines, copied, box) }, "Copy");
  const box = html("pre", { class: "snippet", tabindex: "0" }, lines);
  return html("div", { class: "toml" }, box, copied);
}
function tomlLines() {
  if (!isTouched()) return "";
  const lines = [], table = (names, device) => `weights = { ${names.map((name) => `${name} = ${weightOf(name, device)}`).join(", ")} }`;
  const options = [...(Object.keys(state.weights[EVERY] ?? {}).length ? [table(goals.filter((name) => weightOf(name, EVERY) !== 1), EVERY)] : []),
    ...(state.confidence === undefined ? [] : [`confidence = ${state.confidence}`])];
  if (options.length) lines.push("[decision]", ...options, "");
  for (const { name: device } of data.devices) {
    const own = { ...data.decision.devices[device], ...state.weights[device] };
    if (Object.keys(state.weights[device] ?? {}).length)
      lines.push(`[decision.${JSON.stringify(device)}]`, table(goals.filter((name) => name in own), device), "");
  }
  for (const [device, caps] of Object.entries(state.caps))
    if (Object.keys(caps).length)
      lines.push(`[limits.${JSON.stringify(device)}]`, ...Object.entries(caps).map(([name, cap]) => `${name} = ${cap}`), "");
  return lines.join("\n").trimEnd();
}
