// How the error differs between clients, by device type, with the defaults beside; and between classes.
const fileOf = (trial) => byTrial.get(trial)?.variants.fp32;
const percent = (share) => `${number(100 * share, true)} %`;

function drawClients() {
  const place = byId("clients-plot"), types = Object.keys(state.selected);
  const rows = types.flatMap((device) => [
    { device, kind: "chosen", trial: state.selected[device] },
    ...(data.defaults === null || data.defaults === state.selected[device] ? [] : [{ device, kind: "defaults", trial: data.defaults }]),
  ].map((row) => ({ ...row, errors: fileOf(row.trial)?.client_errors?.[row.device] ?? [] }))).filter(({ errors }) => errors.length);
  if (!rows.length) return place.replaceChildren(html("p", { class: "hint" }, "The errors of single clients are known of recommended trials and of the defaults, whose files were measured."));
  const high = Math.max(...rows.flatMap(({ errors }) => errors), 0.01), tall = 46;
  const { layer, x, box } = frame(place, {
    height: 60 + rows.length * tall, label: "Error of each client, by device type", xTitle: [`${phraseOf("error")} of a client (%)`, data.kinds.learned], yTitle: "",
    margin: { left: place.clientWidth < 500 ? 150 : 190 },
    scales: ({ left, right, top, bottom }) => ({ x: scale({ low: 0, high: 100 * high, from: left + 6, to: right - 8, count: 7 }),
      y: Object.assign(() => (top + bottom) / 2, { ticks: [] }) }),
  });
  const svgRoot = layer.ownerSVGElement;
  rows.forEach((row, i) => {
    const base = box.top + (i + 1) * tall - 8, stacks = new Map(), binOf = (error) => Math.round(x(100 * error) / 5);
    for (const error of row.errors) stacks.set(binOf(error), (stacks.get(binOf(error)) ?? 0) + 1);
    const step = Math.min(5, (tall - 16) / Math.max(...stacks.values()));
    const places = row.errors.map((error) => {
      const level = stacks.get(binOf(error)) - 1;
      stacks.set(binOf(error), level);
      return [x(100 * error), base - 4 - level * step];
    });
    const mean = row.errors.reduce((a, b) => a + b, 0) / row.errors.length;
    layer.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: base + 3, y2: base + 3 }),
      dots(places, { class: row.kind === "chosen" ? "client" : "client before" }),
      svg("line", { class: "mean", x1: x(100 * mean), x2: x(100 * mean), y1: base - tall + 14, y2: base + 3 }));
    const [first, second] = [row.kind === "chosen" ? row.device : "", row.kind === "chosen" ? `trial ${row.trial}` : "defaults"];
    svgRoot.append(svg("text", { x: box.left - 8, y: base - 16, "text-anchor": "end", class: "title" }, first),
      svg("text", { x: box.left - 8, y: base, "text-anchor": "end" }, second));
  });
  fill("clients-worst", rows.map((row) => html("tr", {}, html("th", { scope: "row" }, row.device),
    html("td", { class: "text" }, row.kind === "chosen" ? `trial ${row.trial}` : "defaults"), html("td", {}, row.errors.length),
    html("td", {}, percent(median(row.errors))), html("td", {}, percent(worstTenth(row.errors))), html("td", {}, percent(row.errors.at(-1))))));
}
const median = (sorted) => (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
function worstTenth(errors) {
  const count = Math.ceil(errors.length / 10), worst = errors.slice(-count);
  return worst.reduce((a, b) => a + b, 0) / count;
}

// A class by its name, where there is one.
const classOf = (number) => data.labels[number] ?? `class ${number}`;
function showClasses() {
  const trials = [...new Set(Object.values(state.selected)), data.defaults].filter((trial) => fileOf(trial)?.classes);
  if (!trials.length) return;
  const options = [...new Set(trials)].map((trial) => ({ value: String(trial), text: trial === data.defaults ? `defaults (trial ${trial})` : `trial ${trial}` }));
  fill("classes-tools", chooser("classes", "Classes as predicted by", options, showClasses));
  const { hits, predicted, actual } = fileOf(Number(state.views.classes)).classes, all = actual.reduce((a, b) => a + b, 0);
  const share = (part, whole) => html("td", {}, html("i", { style: `--used:${whole ? (100 * part) / whole : 0}%` }), whole ? percent(part / whole) : "none");
  fill("classes-rows", actual.map((count, i) => html("tr", {}, html("th", { scope: "row" }, classOf(i)), html("td", {}, count),
    share(hits[i], count), share(hits[i], predicted[i]))));
  showConfusion(fileOf(Number(state.views.classes)).classes, all);
  const most = Math.max(...actual);
  fill("classes-baseline", `Always answering the most frequent class (${classOf(actual.indexOf(most))}) would be wrong on ${percent(1 - most / all)} of ${all} test samples; this file is wrong on ${percent(1 - hits.reduce((a, b) => a + b, 0) / all)}.`);
}
// Rows are the samples of a class; a cell is shaded by its share of them, and the worst mistake is said first.
function showConfusion({ confusion = [] }, all) {
  if (!confusion.length) {
    fill("confusion-head");
    fill("confusion-rows");
    fill("confusion-note", `Not reported: of more than ${data.most_confused} classes, by clients of earlier versions, or as their owners wish.`);
    return;
  }
  const sums = confusion.map((row) => row.reduce((a, b) => a + b, 0)), total = sums.reduce((a, b) => a + b, 0);
  const mistakes = confusion.flatMap((row, i) => row.map((count, j) => ({ count, i, j }))).filter(({ count, i, j }) => i !== j && count);
  mistakes.sort((a, b) => b.count - a.count || a.i - b.i || a.j - b.j);
  const part = total < all ? `${total} of ${all} test samples, of the clients that report it. ` : "";
  const worst = mistakes.slice(0, 3).map(({ count, i, j }) => `${classOf(i)} for ${classOf(j)} (${count} of ${sums[i]})`);
  fill("confusion-note", `${part}${worst.length ? `Most often taken: ${listed(worst)}.` : "No sample is taken for another class."}`);
  fill("confusion-head", html("td", {}), confusion.map((_, j) => html("th", { scope: "col" }, `as ${data.labels[j] ?? j}`)));
  fill("confusion-rows", confusion.map((row, i) => html("tr", {}, html("th", { scope: "row" }, classOf(i)), row.map((count, j) =>
    html("td", { class: i === j ? "right" : count ? "wrong" : "", style: `--share:${sums[i] ? Math.round((100 * count) / sums[i]) : 0}%` }, count)))));
}
