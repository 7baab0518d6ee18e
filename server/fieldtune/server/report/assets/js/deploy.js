// What goes where: the table of files, and a card for each device type whose choice can be swapped.
for (const { name } of data.devices) {
  const recommended = data.recommended[name]?.trial;
  if (!byTrial.has(state.selected[name])) state.selected[name] = recommended;
  if (recommended === undefined) delete state.selected[name];
}
const badge = (kind) => html("span", { class: `badge ${kind}` }, kind);
const fileName = (trial, variant) => `${data.study}-trial-${trial}${variant === "fp32" ? "" : `-${variant}`}.tflite`;

// The run's folder: a page that was opened from it knows its path, else the reader puts it in.
const folder = (() => {
  const path = decodeURIComponent(location.pathname);
  if (location.protocol !== "file:" || !path.endsWith("/report.html")) return data.folder;
  const own = path.slice(0, path.lastIndexOf("/"));
  return /^[\w./-]+$/.test(own) ? own : `'${own.replaceAll("'", "'\\''")}'`;
})();
function command(words) {
  const code = html("code", {}, words.map((word, i) => [i ? " " : "", html("span", {}, word)]).flat());
  const copy = html("button", { type: "button", onclick: () => copyText(code.textContent, copy, code) }, "Copy");
  return html("div", { class: "command" }, code, copy);
}
// A browser that does not let a page copy selects the text instead.
async function copyText(text, button, element) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(element);
  }
}
function exportCommand(device, trial, variant = "fp32") {
  const { quoted } = data.devices.find(({ name }) => name === device);
  return command(["fieldtune export", folder, `--device ${quoted}`, `--trial ${trial}`,
    ...(variant === "fp32" ? [] : [`--variant ${variant}`]), `--out ${fileName(trial, variant)}`]);
}

// Device types by the trial that is chosen for them.
function chosenTrials() {
  const found = new Map();
  for (const { name } of data.devices)
    if (name in state.selected) found.set(state.selected[name], [...(found.get(state.selected[name]) ?? []), name]);
  return found;
}
const isOwnChoice = () => data.devices.some(({ name }) => state.selected[name] !== data.recommended[name]?.trial);

function showTable() {
  const rows = [];
  for (const [trial, devices] of chosenTrials()) {
    const point = byTrial.get(trial), size = point.variants.fp32?.bytes;
    devices.forEach((device, i) => rows.push(html("tr", { class: i ? "" : "first" },
      i ? null : html("th", { scope: "rowgroup", rowspan: devices.length }, fileName(trial, "fp32"),
        html("small", {}, [size ? withUnit("file_bytes", size) : null, `trained ${point.runs}×`].filter(Boolean).join(", "))),
      html("td", {}, device, html("small", {}, data.devices.find(({ name }) => name === device).fleet)),
      goals.map((name) => {
        const value = valueOf(point, name, device);
        return html("td", { class: "number", "data-label": labelOfWhose(point, name, device), "data-kind": kindOf(name) }, withUnit(name, value[0]), html("small", {}, ends(name, value)));
      }))));
    rows.push(html("tr", { class: "run" }, html("td", { colspan: 2 + goals.length }, exportCommand(devices[0], trial))));
  }
  if (rows.length) fill("deploy-rows", rows);
  byId("own-choice")?.toggleAttribute("hidden", !isOwnChoice());
}

// What else there is for a device type: the recommendation, and others with their price against it.
function choicesOf(device) {
  const first = data.recommended[device];
  const trained = (trial) => `trained ${byTrial.get(trial).runs}×`;
  return [{ trial: first.trial, text: "recommended", note: trained(first.trial) }, ...first.alternatives.map((other) => ({
    trial: other.trial, text: priceOf(other.trial, first.trial, device), note: `${trained(other.trial)}; ${other.why_not}` }))];
}
// What a trial gains over another one, for what, and what is within the noise.
function priceOf(trial, from, device) {
  const better = [], worse = [], level = [];
  for (const name of goals) {
    const [now, before] = [trial, from].map((each) => valueOf(byTrial.get(each), name, device)[0]);
    if (now === before) continue;
    if (!cannotTell(name, trial, from, device))
      (data.measures[name].maximised === now > before ? better : worse).push(html("span", { class: "whole" }, difference(name, now, before), " ", badge(kindOf(name))));
    else if (withUnit(name, now, [before]) !== withUnit(name, before)) level.push(phraseOf(name));
  }
  const all = (figures) => figures.map((each, i) => [i === 0 ? "" : i === figures.length - 1 ? " and " : ", ", each]);
  const price = [better, worse].filter((part) => part.length).map((part, i) => [i ? " for " : "", all(part)]);
  return [price, level.length ? ` (${listed(level)} within the noise)` : price.length ? "" : "no difference"];
}
// The log gain of a value over another one; of measures without a natural zero, as a share of the other one.
function logGain(name, now, before) {
  const { learned, share, maximised } = data.measures[name];
  if (maximised && !share) return (now - before) / (Math.abs(before) || 1);
  const line = (value) => Math.log(Math.max(maximised ? 1 - value : value, share && learned ? 1e-4 : 1e-12));
  return line(before) - line(now);
}
// Whether an objective of two trials may be the same on a device type, by what each is unsure of.
function cannotTell(name, trial, from, device) {
  const { standings, dominated } = data.recommended[device], { share, maximised } = data.measures[name];
  const [mine, theirs] = [trial, from].map((each) => [...standings, ...dominated].find((standing) => standing.trial === each)?.unsure?.[name]);
  if (!mine || !theirs || trial === from) return false;
  const [now, before] = [trial, from].map((each) => valueOf(byTrial.get(each), name, device)[0]);
  const unit = maximised && !share ? Math.abs(before) || 1 : 1;
  return Math.abs(logGain(name, now, before)) <= noiseBetween(mine, theirs) / unit;
}

function card(device) {
  const { name, fleet } = device;
  if (!(name in state.selected))
    return html("article", { class: "card" }, html("div", {}, html("div", { class: "top" }, html("h3", {}, name),
      html("span", { class: "trial" }, "nothing fits")), html("p", { class: "sub" }, fleet)), html("p", { class: "why" }, data.nothing_fits[name] ?? ""));
  const point = byTrial.get(state.selected[name]), seen = point.devices[name], own = state.selected[name] !== data.recommended[name].trial;
  const base = data.defaults === null ? null : byTrial.get(data.defaults);
  const part = seen.fitting === device.clients || !device.clients ? "" : `, fits ${seen.fitting} of them`;
  return html("article", { class: "card", "data-device": name },
    html("div", {}, html("div", { class: "top" }, html("h3", {}, name), html("span", { class: "trial" }, `trial ${point.trial}`)),
      html("p", { class: "sub" }, `${fleet}${part}; trained ${point.runs}×${own ? "; your own choice" : ""}`)),
    html("table", { class: "goals" },
      html("thead", {}, html("tr", {}, ["", "this file", ...(base ? ["defaults", "change"] : [])].map((text) =>
        html(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
      html("tbody", {}, cardMeasures(point, name).map((measure) => cardRow(measure, point, base, name)))),
    limitBars(seen.slack),
    html("div", { class: "chips" }, Object.entries(point.configuration).map(([key, value]) =>
      html("span", { class: "chip" }, `${key} ${setting(value)}`))),
    own ? null : html("p", { class: "why" }, `${data.recommended[name].why}.`),
    point.front || point.trial === data.defaults ? null : html("p", { class: "why" },
      "Without your limits, another trial is at least as good in everything. Its file is made by the command, and no client has measured it yet."),
    exportCommand(name, point.trial));
}
// The objectives, and the inference energy that is no objective.
const cardMeasures = (point, device) => [...goals,
  ...["inference_mj", "worst_error"].filter((name) => !goals.includes(name) && measured(point, device, name))];
// A figure that devices of one type do not have for themselves is the whole fleet's.
const labelOfWhose = (point, name, device) => labelOf(name) + (name in (point.devices[device]?.costs ?? {}) ? "" : ", fleet");
const measured = (point, device, name) => point.objectives[name] ?? point.devices[device]?.costs[name]
  ?? (name in point.measures ? [point.measures[name], point.measures[name], point.measures[name]] : null);

function cardRow(name, point, base, device) {
  const of = (which) => (goals.includes(name) ? valueOf(which, name, device) : measured(which, device, name));
  const value = of(point), before = base && of(base), sign = data.measures[name].maximised ? -1 : 1;
  const among = before ? [value[0], before[0]] : [value[0]];
  const noise = before && goals.includes(name) && value[0] !== before[0] && cannotTell(name, point.trial, base.trial, device);
  const more = before && goals.includes(name) && !noise ? digitsBetween(name, among) : 0;
  const cells = [html("td", {}, html("b", {}, withUnit(name, value[0], among, more)), html("small", {}, ends(name, value, among)))];
  if (before) {
    const level = noise || value[0] === before[0];
    const word = level || !goals.includes(name) ? "same" : sign * value[0] < sign * before[0] ? "better" : "worse";
    const text = noise ? "within noise" : level ? "same" : `${change(value[0], before[0]) || word}`;
    cells.push(html("td", {}, withUnit(name, before[0], among, more)), html("td", {},
      html("span", { class: `delta ${word}`, title: !goals.includes(name) ? "no objective: its noise is not known" : level ? text : `${word} than the defaults` }, text)));
  } else if (base) cells.push(html("td"), html("td"));
  return html("tr", {}, html("th", { scope: "row" }, labelOfWhose(point, name, device), badge(kindOf(name))), cells);
}
function limitBars(slack) {
  const sorted = Object.entries(slack).sort((a, b) => b[1] - a[1]);
  if (!sorted.length) return null;
  return html("div", {}, html("p", { class: "caption" }, "Used of each limit, on its most heavily loaded client", badge(data.kinds.cost)),
    html("div", { class: "limits" }, sorted.map(([name, value]) => {
      const used = 100 * (1 + value);
      return [html("span", {}, labelOf(name)), html("i", { class: value > 0 ? "over" : null, style: `--used:${Math.min(100, Math.max(0, used)).toFixed(1)}%` }),
        html("output", {}, used >= 1 || used <= 0 ? whole(used) : "< 1 %")];
    })));
}

function showChoices() {
  fill("choice-list", data.devices.map((device) => html("div", { class: "choice" }, card(device),
    device.name in data.recommended ? choiceList(device.name) : null)));
}
function choiceList(device) {
  const id = `choice-${data.devices.findIndex(({ name }) => name === device)}`;
  const shown = choicesOf(device), own = state.selected[device];
  if (!shown.some(({ trial }) => trial === own)) shown.push({ trial: own, text: "by your priorities" });
  return html("fieldset", { class: "others" }, html("legend", {}, `For ${device}`), shown.map(({ trial, text, note }) =>
    html("label", { class: trial === own ? "taken" : "" }, html("input", { type: "radio", name: id, value: trial, checked: trial === own,
      onchange: () => { state.selected[device] = trial; changed(); byId("choice-list").querySelector(`input[name=${id}]:checked`)?.focus(); } }),
    html("span", {}, html("b", {}, trial === data.defaults ? "the defaults" : `trial ${trial}`), " ", text, note ? html("small", {}, note) : null))));
}
listeners.push(() => { if (isOwnChoice() || byId("own-choice")?.hidden === false) showTable(); showChoices(); });
