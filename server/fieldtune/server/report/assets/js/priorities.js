// The reader's own weights and limits rank the stored trials by the rule that the study used: the largest weighted
// sum of counted gains, of those that are sure enough to be no worse than the defaults on what is learned.
const LIMITS = ["inference_ms", "energy_j", "round_s", "memory_mib", "storage_mib"];
const weightOf = (name) => state.weights[name] ?? data.decision.weights[name] ?? 1;
const confidenceNow = () => state.confidence ?? data.decision.confidence;

// What a trial needs of a limit on the client of a device type that needs most, else on the mean one.
function needed(point, device, name) {
  const { slack, costs } = point.devices[device], cap = data.devices.find((each) => each.name === device).caps[name];
  return name in slack && cap ? (1 + slack[name]) * cap : costs[name]?.[0];
}
function within(trial, device) {
  return Object.entries(state.caps[device] ?? {}).every(([name, cap]) => needed(byTrial.get(trial), device, name) <= cap);
}
function ranked(device) {
  return data.recommended[device].standings.filter(({ trial }) => within(trial, device)).map((standing) => ({
    ...standing,
    allowed: standing.no_worse === null || standing.no_worse >= confidenceNow(),
    score: goals.reduce((sum, name) => sum + weightOf(name) * (standing.counted[name] ?? 0), 0),
  })).sort((a, b) => b.allowed - a.allowed || b.score - a.score || a.trial - b.trial);
}

const isTouched = () => Object.keys(state.weights).length > 0 || state.confidence !== undefined
  || Object.values(state.caps).some((caps) => Object.keys(caps).length > 0);
function rankAgain() {
  for (const { name } of data.devices) {
    if (!(name in data.recommended)) continue;
    const [first] = ranked(name);
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
  fill("priorities-weights", goals.map((name) => slider(`weight-${name}`, `${labelOf(name)}`, {
    min: 0, max: 4, step: 0.25, value: weightOf(name), shown: (value) => `weight ${value}`,
    set: (value) => keep(state.weights, name, value, data.decision.weights[name] ?? 1),
  })), slider("confidence", "Sure to be no worse than the defaults", {
    min: 0.5, max: 0.99, step: 0.01, value: confidenceNow(), shown: (value) => `${Math.round(100 * value)} %`,
    set: (value) => keep(state, "confidence", value, data.decision.confidence),
  }));
  const options = data.devices.filter(({ name }) => name in data.recommended).map(({ name }) => ({ value: name, text: name }));
  fill("priorities-tools", chooser("limited", "Limits of", options, showPriorities));
  const device = state.views.limited;
  fill("priorities-limits", LIMITS.map((name) => limitSlider(device, name)));
  showOutcome();
}

// A limit runs from what the smallest trial needs to what the largest does, and then to the study's own.
function limitSlider(device, name) {
  const values = data.recommended[device].standings.map(({ trial }) => needed(byTrial.get(trial), device, name)).filter((value) => value > 0);
  const low = Math.min(...values), high = Math.max(...values);
  if (!values.length || high / low < 1.005) return null;
  const caps = (state.caps[device] ??= {}), own = data.devices.find((each) => each.name === device).caps[name];
  const at = (position) => low * (high / low) ** (position / 100);
  const cap = (position) => (position > 100 ? null : roundedUp(at(position)));
  const position = name in caps ? Math.min(100, Math.max(0, Math.round((100 * Math.log(caps[name] / low)) / Math.log(high / low)))) : 101;
  const usual = own ? `the study's, ${withUnit(name, own)}` : "no limit";
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
  fill("priorities-outcome", data.devices.map(({ name }) => {
    if (!(name in data.recommended)) return html("li", {}, html("b", {}, name), ": nothing fits");
    const order = ranked(name), [first, second] = order, usual = data.recommended[name].trial;
    if (!first) return html("li", {}, html("b", {}, name), `: no trial of the front keeps these limits; trial ${usual} stays`);
    const same = first.trial === usual ? ", as recommended" : ` instead of ${usual}: ${priceOf(first.trial, usual, name)}`;
    return html("li", {}, html("b", {}, name), `: trial ${first.trial}${same}`,
      first.allowed ? null : "; no other is sure enough to be no worse than the defaults",
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
  const lines = [], weights = goals.filter((name) => weightOf(name) !== 1).map((name) => `${name} = ${weightOf(name)}`);
  const options = [...(Object.keys(state.weights).length ? [`weights = { ${weights.join(", ")} }`] : []),
    ...(state.confidence === undefined ? [] : [`confidence = ${state.confidence}`])];
  if (options.length) lines.push("[decision]", ...options, "");
  for (const [device, caps] of Object.entries(state.caps))
    if (Object.keys(caps).length)
      lines.push(`[limits.${JSON.stringify(device)}]`, ...Object.entries(caps).map(([name, cap]) => `${name} = ${cap}`), "");
  return lines.join("\n").trimEnd();
}
