// The study's own rule on stored trials, with the reader's weights, confidence and narrower limits: the largest weighted
// sum of counted gains, of those that are sure enough to be no worse than the defaults on what is learned. The same as
// in results/rerank.py.
// As in a study file: a device type's own weight, the reader's before the study's, and then the general one. EVERY is
// what holds for every device type that has no weight of its own.
const EVERY = "";
const untouched = (name, device) => data.decision.devices[device]?.[name]
  ?? (device === EVERY ? undefined : state.weights[EVERY]?.[name]) ?? data.decision.weights[name] ?? 1;
const weightOf = (name, device) => state.weights[device]?.[name] ?? untouched(name, device);
const confidenceNow = () => state.confidence ?? data.decision.confidence;
const areLimitsMoved = () => Object.values(state.caps).some((caps) => Object.keys(caps).length > 0);
const deviceOf = (name) => data.devices.find((each) => each.name === name);

// What a trial needs of a limit on the client of a device type that needs most, else on the mean one.
function needed(point, device, name) {
  const { slack, costs } = point.devices[device], cap = deviceOf(device).caps[name];
  return name in slack && cap ? (1 + slack[name]) * cap : costs[name]?.[0] ?? 0;
}
// What a client needs of a limit with each of these numbers of samples; null where it is not known.
function needsOf(point, device, name, samples) {
  const { used, needs } = point.devices[device];
  if (used[name]) return used[name];
  if (!point.calls || !needs[name]) return null;
  const [constant, call, sample] = needs[name], [batch, epochs, most] = point.calls;
  const calls = (n) => epochs * (Math.floor(n / batch) * Math.ceil(batch / most) + Math.ceil((n % batch) / most));
  return samples.map(([n]) => constant + call * calls(n) + sample * n);
}
// Whether a trial keeps all limits of a device type, the study's and the reader's, and on how many clients.
function fitOf(point, device) {
  const { samples, caps } = deviceOf(device), narrower = state.caps[device] ?? {};
  const checked = Object.entries({ ...caps, ...narrower }).map(([name, cap]) => [cap, needsOf(point, device, name, samples)])
    .filter(([, needs]) => needs);
  if (!samples.length || !checked.length) {  // results of an earlier version
    const any = Object.entries(narrower).every(([name, cap]) => needed(point, device, name) <= cap);
    return { any, clients: any ? point.devices[device].fitting : 0 };
  }
  const groups = samples.filter((_, i) => checked.every(([cap, needs]) => needs[i] <= cap * (1 + 1e-5)));
  return { any: groups.length > 0, clients: groups.reduce((sum, [, clients]) => sum + clients, 0) };
}
// An objective over the device types with clients that keep the limits.
function ofFleet(point, name, fits) {
  const { learned, worst } = data.measures[name];
  const costs = learned ? [] : Object.entries(fits).filter(([device, { clients }]) => clients && point.devices[device].costs[name])
    .map(([device, { clients }]) => [point.devices[device].costs[name][0], clients]);
  if (!costs.length) return point.objectives[name][0];
  if (worst) return Math.max(...costs.map(([cost]) => cost));
  return costs.reduce((sum, [cost, clients]) => sum + cost * clients, 0) / costs.reduce((sum, [, clients]) => sum + clients, 0);
}
// Device type -> the trials that may be recommended for it within the limits: those that fit it, of the trials that
// enough of the fleet can train and that no other such trial dominates, and of the defaults.
function fittingTrials() {
  const all = [...byTrial.values()].sort((a, b) => a.trial - b.trial)
    .map((point) => ({ point, fits: Object.fromEntries(data.devices.map(({ name }) => [name, fitOf(point, name)])) }));
  const size = data.devices.flatMap(({ samples }) => samples).reduce((sum, [, clients]) => sum + clients, 0);
  const least = Math.ceil(data.coverage * size - 1e-9);
  const trained = all.filter(({ fits }) => Object.values(fits).some(({ any }) => any)
    && Object.values(fits).reduce((sum, { clients }) => sum + clients, 0) >= least)
    .map((each) => ({ ...each, values: goals.map((name) => (data.measures[name].maximised ? -1 : 1) * ofFleet(each.point, name, each.fits)) }));
  const beats = (a, b, first) => a.every((value, i) => value <= b[i]) && (first || a.some((value, i) => value < b[i]));
  const front = trained.filter((own, i) => !trained.some((other, j) => i !== j && beats(other.values, own.values, j < i)));
  const candidates = new Set([...front, ...all.filter(({ point }) => point.trial === data.defaults)]);
  return Object.fromEntries(data.devices.map(({ name, clients }) => [name, new Set([...candidates]
    .filter(({ fits }) => (clients ? fits[name].clients > 0 : fits[name].any)).map(({ point }) => point.trial))]));
}

// What counts of a value where nothing is compared with the defaults: its share of the range, as a logarithm, as far as
// the range exceeds its noise.
function balanced(name, values, unsure) {
  const { learned, share, maximised } = data.measures[name];
  const along = share ? (value) => Math.log(Math.max(maximised ? 1 - value : value, 1e-4))
    : learned && maximised ? (value) => -value : (value) => Math.log(Math.max(value, 1e-12));
  const line = values.map(along), low = Math.min(...line), high = Math.max(...line);
  if (high === low || (!learned && Math.min(...values) <= 0)) return values.map(() => 0);
  const size = (parts) => Math.hypot(...Object.values(parts)), larger = (a, b) => (size(b) > size(a) ? b : a);
  const noise = noiseBetween(...[low, high].map((end) => unsure.filter((_, i) => line[i] === end).reduce(larger)));
  const weight = Math.max(1 - (noise / (high - low)) ** 2, 1e-3);
  return line.map((each) => weight * Math.log(((high - each) / (high - low) + 0.1) / 1.1));
}
// How far apart two values may seem without being so, of what each is unsure of.
function noiseBetween(one, other) {
  const by = (parts, factor) => parts[factor] ?? 0;
  const shared = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((factor) => factor !== "own");
  return Math.hypot(...shared.map((factor) => by(one, factor) - by(other, factor)), by(one, "own"), by(other, "own"));
}
// The trials that fit a device type, the best first: those that may be recommended, then others, each by its score.
function ranked(device, fitting = areLimitsMoved() ? fittingTrials() : null) {
  const { standings, dominated } = data.recommended[device];
  const within = fitting ? [...standings, ...dominated].filter(({ trial }) => fitting[device].has(trial)) : standings;
  if (!within.length) return [];
  // Defaults that fit nothing are compared with no more.
  const gone = fitting && data.devices.every(({ name, clients }) => !clients || !fitting[name].has(data.defaults));
  const sure = ({ no_worse }) => !gone && no_worse !== null && no_worse >= confidenceNow(), against = within.some(sure);
  // What was run once is not allowed, if another than the defaults was run twice.
  const confirmed = within.some((each) => sure(each) && each.runs > 1 && !each.is_defaults);
  const shares = against ? null : goals.map((name) =>
    balanced(name, within.map(({ trial }) => valueOf(byTrial.get(trial), name, device)[0]), within.map(({ unsure }) => unsure[name] ?? {})));
  const summed = (standing, i, weight) =>
    goals.reduce((sum, name, j) => sum + weight(name) * (shares ? shares[j][i] : standing.counted[name] ?? 0), 0);
  return within.map((standing, i) => ({
    ...standing, against,
    allowed: !against || (sure(standing) && (!confirmed || standing.runs > 1 || standing.is_defaults)),
    score: summed(standing, i, (name) => weightOf(name, device)), equally: summed(standing, i, () => 1),
  })).sort((a, b) => b.allowed - a.allowed || b.score - a.score || b.equally - a.equally || a.trial - b.trial);
}
