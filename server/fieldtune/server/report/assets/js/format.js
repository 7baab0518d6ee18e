// Figures are written as in the terminal: two significant digits, three where the first is 1.

// To so many decimals; a value exactly in the middle goes to the even digit, as in Python.
function round(value, decimals) {
  const digits = Math.max(0, Math.min(100, decimals));
  const up = Number(value.toFixed(digits));
  if (decimals > 15) return up;
  const exact = Math.abs(value).toFixed(Math.min(100, digits + 25)).split(".");
  const tail = (exact[1] ?? "").slice(digits);
  if (!/^50*$/.test(tail)) return up;
  const last = Number((digits ? exact[1][digits - 1] : exact[0].at(-1)));
  const step = 10 ** -digits, down = Math.sign(value) * (Math.abs(up) - step);
  const away = Math.abs(up) > Math.abs(value);
  return last % 2 === 0 ? (away ? Number(down.toFixed(digits)) : up)
    : (away ? up : Number((Math.sign(value) * (Math.abs(up) + step)).toFixed(digits)));
}
const exponentOf = (value) => Math.floor(Math.log10(Math.abs(value)) + 1e-12);
const digitsOf = (value) => (Math.abs(value) / 10 ** exponentOf(value) < 2 - 1e-9 ? 3 : 2);
function significant(value, more = 0) {
  const decimals = digitsOf(value) + more - 1 - exponentOf(value);
  return decimals >= 0 ? round(value, decimals) : Math.round(value / 10 ** -decimals) * 10 ** -decimals;
}
// With `more` digits than usual.
function number(value, percent = false, more = 0) {
  if (Number.isNaN(value)) return "?";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  let rounded = significant(value, more), decimals = Math.max(0, digitsOf(rounded) + more - 1 - exponentOf(rounded));
  if (percent && Math.abs(value) >= 1) {
    decimals = 1 + more;
    while (value !== 100 && round(value, decimals) === 100 && decimals < 4) decimals++;
    rounded = round(value, decimals);
  } else if (Math.abs(rounded) >= 1e6 || Math.abs(rounded) < 1e-4)
    return rounded.toExponential(digitsOf(rounded) + more - 1).replace(/e([+-])(\d)$/, "e$10$2").replaceAll("-", "−");
  return rounded.toFixed(decimals).replaceAll("-", "−");
}

// Pictures and columns have one unit a measure; a figure that stands alone has the unit that suits its size.
const unitOf = (name) => data.measures[name].unit;
const labelOf = (name) => data.measures[name]?.label ?? name;
// The label within a sentence: an abbreviation keeps its capitals.
const phraseOf = (name) => (/^[A-Z]{2}/.test(labelOf(name)) ? labelOf(name) : labelOf(name).charAt(0).toLowerCase() + labelOf(name).slice(1));
const inUnit = (name, value) => value * data.measures[name].factor;
// How a measure's figures are known: predicted, simulated or measured.
const kindOf = (name) => data.measures[name]?.known;
const titled = (name) => labelOf(name) + (unitOf(name) ? ` (${unitOf(name)})` : "");
function unitFor(name, values) {
  const { steps, unit, factor } = data.measures[name];
  if (!steps) return { unit, factor };
  const [toBase, all] = steps, sizes = values.filter((value) => value && Number.isFinite(value))
    .map((value) => Math.abs(value) * toBase).sort((a, b) => a - b);
  const middle = sizes.length ? significant(sizes[Math.floor(sizes.length / 2)]) : toBase;
  const [size, text] = all.filter(([, , least]) => least <= middle * (1 + 1e-12)).at(-1);
  return { unit: text, factor: toBase / size };
}
// `among` are the figures that share the unit, else the figure alone.
function withUnit(name, value, among = [value], more = 0) {
  const { unit, factor } = unitFor(name, among);
  return `${number(value * factor, unit === "%", more)} ${unit}`.trimEnd();
}
// How many digits more than usual tell different figures apart, at most four.
function digitsBetween(name, values, among = values) {
  const different = new Set(values).size;
  let more = 0;
  while (more < 4 && new Set(values.map((value) => withUnit(name, value, among, more))).size < different) more++;
  return more;
}
function ends(name, [value, low, high], among = [value]) {
  const { unit, factor } = unitFor(name, among);
  return low === high ? "" : [low, high].map((end) => number(end * factor, unit === "%")).join("–");
}

// By how much a figure differs from another one: in points for a share, else in its unit.
function difference(name, value, from) {
  const by = value - from, sign = by > 0 ? "+" : by < 0 ? "−" : "±", label = phraseOf(name);
  const { unit, factor } = unitFor(name, [by]), size = number(Math.abs(by) * factor, unit === "%");
  if (unit === "%") return `${sign}${size} points of ${label}`;
  return `${sign}${size} ${unit}`.trimEnd() + ` of ${label}`;
}
function change(value, before) {
  if (before === 0 || !Number.isFinite(value / before)) return "";
  const percent = 100 * (value / before - 1);
  return (percent > 0 ? "+" : percent < 0 ? "−" : "±") + whole(Math.abs(percent));
}
// Per cent without decimals, unless that would be 0 or 100 for what is not.
function whole(percent) {
  if (percent > 0 && percent < 1) {
    const short = round(percent, -exponentOf(percent));
    return `${short < 1e-4 ? short.toExponential().replace(/e-(\d)$/, "e-0$1") : short} %`;
  }
  let digits = 0;
  while (percent !== 100 && round(percent, digits) === 100 && digits < 4) digits++;
  return `${round(percent, digits).toFixed(digits)} %`;
}
function setting(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const short = Number(value.toPrecision(3)), exponent = Math.floor(Math.log10(Math.abs(short)));
  if (exponent >= -4 && exponent < 3) return String(short);
  return short.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}
const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
const listed = (words) =>
  words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words.join("");
