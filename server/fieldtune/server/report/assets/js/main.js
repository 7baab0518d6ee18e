// Draw what there is: a study that has just begun lacks most of it.
if (points.length) {
  showChoices();
  if (isOwnChoice()) showTable();
  showPriorities();
  showFileCommand();
  tradeoffTools();
  listeners.push(() => { if (tradeoffView) drawTradeoff(); });
}
byId("back")?.addEventListener("click", () => {
  for (const [device, { trial }] of Object.entries(data.recommended)) state.selected[device] = trial;
  Object.assign(state, { weights: {}, caps: {}, confidence: undefined });
  changed();
  showPriorities();
});
byId("print")?.addEventListener("click", () => print());
for (const place of document.querySelectorAll(".folder")) place.textContent = folder;
for (const box of document.querySelectorAll(".command[data-command]")) {
  const code = box.querySelector("code");
  box.replaceWith(command([...code.children].map((child) => child.textContent)));
}
if (byId("tradeoff-plot")) drawSoon("tradeoff-plot", drawTradeoff);
if (byId("slices-plot")) slicesTools();
if (byId("clients-plot")) {
  drawSoon("clients-plot", drawClients);
  showClasses();
  listeners.push(() => { if (!waiting.has(byId("clients-plot"))) drawClients(); });
}
drawSoon("learning-plot", drawLearning);
listeners.push(() => { if (byId("learning-plot") && !waiting.has(byId("learning-plot"))) drawLearning(); });
drawSoon("slices-plot", drawSlices);
drawSoon("parallel-plot", drawParallel);
if (byId("attainment-plot")) attainmentTools();
drawSoon("attainment-plot", drawAttainment);
document.documentElement.dataset.ready = "yes";
