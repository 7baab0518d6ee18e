// What all pictures have in common: a frame with axes, dots in one path, and a label at the pointer.

// An <svg> of the place's width with two axes; `x` and `y` are scales, `layer` is clipped to the frame.
// A title is a text, or a text and how the figures along that axis are known.
function frame(place, { height, label, role = "img", xTitle, yTitle, scales, margin = {} }) {
  const width = Math.max(place.clientWidth, 240);
  const { left = 58, right = 14, top = 12, bottom = 46 } = margin;
  const box = { left, right: width - right, top, bottom: height - bottom, width, height };
  const { x, y } = scales(box);
  const clip = `clip-${place.id}`;
  const layer = svg("g", { "clip-path": `url(#${clip})` });
  const thinned = thin(x.ticks, 44);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role, "aria-label": label },
    svg("clipPath", { id: clip },
      svg("rect", { x: left, y: top - 8, width: box.right - left + 8, height: box.bottom - top + 8 })),
    svg("g", { class: "axis", "aria-hidden": "true" },
      thinned.map(([at]) => svg("line", { class: "grid", x1: at, x2: at, y1: top, y2: box.bottom })),
      y.ticks.map(([at]) => svg("line", { class: "grid", x1: left, x2: box.right, y1: at, y2: at })),
      svg("path", { class: "base", d: `M${left} ${top}V${box.bottom}H${box.right}` }),
      thinned.map(([at, text]) => svg("text", { x: at, y: box.bottom + 17, "text-anchor": "middle" }, text)),
      y.ticks.map(([at, text]) => svg("text", { x: left - 7, y: at + 4, "text-anchor": "end" }, text)),
      svg("text", { class: "title", x: (left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, withKind(xTitle)),
      svg("text", { class: "title upright", x: 0, y: 0, "text-anchor": "middle",
        transform: `translate(13 ${(top + box.bottom) / 2}) rotate(-90)` }, withKind(yTitle))),
    layer);
  place.replaceChildren(root);
  const upright = root.querySelector(".upright"), room = top + box.bottom - 4, long = upright.getComputedTextLength();
  if (long > room) upright.style.fontSize = `${0.95 * room / long * parseFloat(getComputedStyle(upright).fontSize)}px`;
  return { root, layer, x, y, box };
}
const withKind = (title) => (Array.isArray(title) ? [title[0], title[1] ? svg("tspan", { class: "kind", dx: 7 }, title[1]) : null] : title);
// The title of an objective's axis: which end is better, in words where there is room for them.
const bestEnd = (name, width) => {
  const up = data.measures[name].maximised;
  return [width < 500 ? `${titled(name)} ${up ? "↑" : "↓"}` : `${titled(name)}, ${up ? "higher" : "lower"} is better`, kindOf(name)];
};
function thin(ticks, least) {
  const kept = [];
  for (const tick of [...ticks].sort((a, b) => a[0] - b[0]))
    if (!kept.length || tick[0] - kept.at(-1)[0] >= Math.max(least, 6.5 * tick[1].length)) kept.push(tick);
  return kept;
}

// Many dots as one element: strokes of no length with round ends.
const dots = (places, attributes) =>
  svg("path", { ...attributes, d: places.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("") });
const polyline = (places) => places.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// A label beside a place of a picture; lines are text, the first one bold.
function label(place, x, y, lines) {
  place.querySelector(".hover")?.remove();
  if (!lines) return;
  const box = html("div", { class: "hover", "aria-hidden": "true" },
    lines.map((line, i) => html(i ? "div" : "b", {}, line)));
  place.append(box);
  const right = x + 14 + box.offsetWidth > place.clientWidth;
  const left = right ? x - 14 - box.offsetWidth : x + 14;
  box.style.left = `${Math.max(0, Math.min(left, place.clientWidth - box.offsetWidth))}px`;
  box.style.top = `${Math.max(0, Math.min(y - 12, place.clientHeight - box.offsetHeight))}px`;
}
function pointer(event, root) {
  const box = root.getBoundingClientRect(), { width, height } = root.viewBox.baseVal;
  return [((event.clientX - box.x) / box.width) * width, ((event.clientY - box.y) / box.height) * height];
}
// The nearest of some places `{x, y}` within a distance in pixels, or null.
function nearest(places, [x, y], within) {
  let best = null, least = within;
  for (const each of places) {
    const gap = Math.hypot(each.x - x, each.y - y);
    if (gap <= least) [best, least] = [each, gap];
  }
  return best;
}

// Pictures are drawn when they come near the window, and anew when its width changes.
const waiting = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries)
    if (isIntersecting && waiting.has(target)) { waiting.get(target)(); waiting.delete(target); }
}, { rootMargin: "600px" });
const drawn = [];
function drawSoon(id, draw) {
  const place = byId(id);
  if (!place) return;
  drawn.push([place, draw]);
  waiting.set(place, draw);
  watcher.observe(place);
}
function drawAll(again = false) {
  for (const [place, draw] of drawn)
    if (again || waiting.has(place)) { draw(); waiting.delete(place); }
}
let lastWidth = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === lastWidth) return;
  lastWidth = document.documentElement.clientWidth;
  for (const [place, draw] of drawn) if (!waiting.has(place)) draw();
});
addEventListener("beforeprint", () => drawAll());
