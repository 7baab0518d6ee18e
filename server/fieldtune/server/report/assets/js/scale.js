// Scales from values to pixels, with ticks; and places for choices.

// Round steps of 1, 2 or 5 times a power of ten, about `count` of them.
function roundTicks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.75) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(12)));
}
function logTicks(low, high, count) {
  const all = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const factor of [1, 2, 5]) all.push(Number((factor * 10 ** e).toPrecision(6)));
  const within = all.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const decades = within.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6));
  if (within.length > 2 * count && decades.length >= 2) return decades;
  return within.length >= 2 ? within : roundTicks(low, high, count);
}

// Values between `low` and `high` lie between the pixels `from` and `to`.
function scale({ low, high, from, to, log = false, whole = false, count = 5 }) {
  if (low === high) [low, high] = log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const f = log ? Math.log : (value) => value, back = log ? Math.exp : (value) => value;
  const at = (value) => from + ((f(value) - f(low)) / (f(high) - f(low))) * (to - from);
  at.invert = (pixel) => back(f(low) + ((pixel - from) / (to - from)) * (f(high) - f(low)));
  const ticks = log ? logTicks(low, high, count) : roundTicks(low, high, count);
  at.ticks = (whole ? ticks.filter(Number.isInteger) : ticks).map((value) => [at(value), tickText(value)]);
  at.log = log;
  return at;
}
function tickText(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6))
    return value.toExponential().replace("e+", "e").replaceAll("-", "−");
  return String(Number(value.toPrecision(6))).replace("-", "−");
}
function choiceScale({ choices, from, to }) {
  const keys = choices.map(String);
  const at = (value) => from + ((keys.indexOf(String(value)) + 0.5) / keys.length) * (to - from);
  at.invert = (pixel) => (pixel - from) / (to - from);
  at.ticks = choices.map((value) => [at(value), setting(value)]);
  at.log = false;
  return at;
}

// A factor of 20 between smallest and largest value calls for a logarithm.
const spansDecades = (values) => Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 20;
function padded(values, log, share = 0.06) {
  let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  if (log) {
    const by = Math.max((high / low) ** share, 1.05);
    return { low: low / by, high: high * by };
  }
  const by = (high - low) * share || Math.abs(high) * 0.1 || 1;
  return { low: low - by, high: high + by };
}

// How much an objective varies among points: the logarithm of the ratio of a worse value, which three quarters of them
// keep, to the best one.
function variation(name, values) {
  const sorted = [...values].sort((a, b) => (data.measures[name].maximised ? b - a : a - b));
  const [best, worse] = [sorted[0], sorted[Math.floor(0.75 * (sorted.length - 1))]];
  return best > 0 && worse > 0 ? Math.abs(Math.log(worse / best)) : Math.abs(worse - best);
}
const mostVarying = (valuesOf) => {
  const by = new Map(data.objectives.map((name) => [name, variation(name, valuesOf(name))]));
  const two = [...data.objectives].sort((a, b) => by.get(b) - by.get(a)).slice(0, 2);
  return data.objectives.filter((name) => two.includes(name));
};

// The scale of a hyperparameter: its searched space, not the tried values.
function parameterScale(parameter, from, to, count = 5) {
  if (parameter.choices) return choiceScale({ choices: parameter.choices, from, to });
  const { low, high, log, whole } = parameter;
  return scale({ low, high, log, whole, from, to, count });
}
function objectiveScale(name, values, from, to, count = 5) {
  const shown = values.map((value) => inUnit(name, value)), log = spansDecades(shown);
  const inner = scale({ ...padded(shown, log, 0.02), log, from, to, count });
  const at = (value) => inner(inUnit(name, value));
  return Object.assign(at, { ticks: inner.ticks, log, invert: (pixel) => inner.invert(pixel) / data.measures[name].factor });
}
