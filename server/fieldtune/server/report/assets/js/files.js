// The command for a file of any trial, as a variant, for a device type.
function showFileCommand() {
  if (!byId("files-command")) return;
  const named = (all, text = String) => all.map((each) => ({ value: String(each), text: text(each) }));
  const trials = [...new Set([...Object.values(data.recommended).map(({ trial }) => trial), ...points.map(({ trial }) => trial)])];
  const variants = Object.keys(points.find((point) => Object.keys(point.variants).length).variants);
  const tools = [chooser("file-trial", "Trial", named(trials, (trial) => (trial === data.defaults ? "the defaults" : String(trial))), showFileCommand)];
  const trial = Number(state.views["file-trial"]);
  tools.push(chooser("file-variant", "Variant", named(variants), showFileCommand),
    chooser("file-device", "Device type", named(data.devices.map(({ name }) => name)), showFileCommand));
  fill("files-tools", tools);
  fill("files-command", exportCommand(state.views["file-device"], trial, state.views["file-variant"]));
}
