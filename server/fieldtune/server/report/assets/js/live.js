// Served by `fieldtune report --live`, the page asks whether the study has gone on, and loads itself anew.
if (data.version) {
  const ask = async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== data.version) return location.reload();
    } catch { /* the server has ended; the page stays as it is */ }
    return setTimeout(ask, 2000);
  };
  setTimeout(ask, 2000);
}
