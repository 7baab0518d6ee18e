const present = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined);
// Elements are made of text only: nothing that a study or a device says can become markup.
const make = (space) => (tag, attributes = {}, ...children) => {
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
};
const html = make("http://www.w3.org/1999/xhtml");
const svg = make("http://www.w3.org/2000/svg");
const byId = (id) => document.getElementById(id);
const fill = (id, ...children) => byId(id)?.replaceChildren(...present(children));
const data = JSON.parse(byId("data").textContent);

// Chosen values survive a reload of the page, which a running study's page does by itself.
const kept = `fieldtune:${data.study}`;
const state = { selected: {}, pinned: [], weights: {}, caps: {}, views: {} };
try {
  Object.assign(state, JSON.parse(sessionStorage.getItem(kept) ?? "{}"));
} catch { /* a browser may forbid it for files */ }
const listeners = [];
function changed() {
  try {
    sessionStorage.setItem(kept, JSON.stringify(state));
  } catch { /* see above */ }
  for (const listener of listeners) listener();
}

// A choice among few, as a labelled select; what was chosen is kept under the name.
function chooser(name, label, options, redraw) {
  if (!options.some(({ value }) => value === state.views[name])) state.views[name] = options[0]?.value;
  const select = html("select", {
    id: `choose-${name}`,
    onchange: (event) => { state.views[name] = event.target.value; changed(); redraw(); },
  }, options.map(({ value, text }) =>
    html("option", { value, selected: value === state.views[name] }, text)));
  return html("span", { class: "chooser" }, html("label", { for: `choose-${name}` }, label), select);
}
