"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Nothing in this page offers to send the study anywhere: plotly would, unless told not to.
  const config = { displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const still = { ...config, displayModeBar: false };

  // A picture is drawn anew for the theme and the view that are asked for.
  function draw(id) {
    const select = document.querySelector(`select[data-picture="${id}"]`);
    const view = figures[id][select ? Number(select.value) : 0];
    const figure = view[dark.matches ? "dark" : "light"];
    Plotly.react(`plot-${id}`, figure.data, figure.layout, id === "front" ? config : still);
  }
  for (const id of Object.keys(figures)) {
    draw(id);
    document.querySelector(`select[data-picture="${id}"]`)?.addEventListener("change", () => draw(id));
  }
  dark.addEventListener("change", () => Object.keys(figures).forEach(draw));

  // Parallel coordinates: the whole line of the trial that is pointed at lights up.
  const parallel = document.getElementById("plot-parallel");
  if (parallel) {
    const light = (x, y) => {
      const last = parallel.data.findIndex((trace) => trace.name === "highlight");
      Plotly.restyle(parallel, { x: [x], y: [y] }, [last]);
    };
    parallel.on("plotly_hover", ({ points: [{ data, customdata: trial }] }) => {
      const at = data.customdata.flatMap((other, i) => other === trial ? [i] : []);
      light(at.map((i) => data.x[i]), at.map((i) => data.y[i]));
    });
    parallel.on("plotly_unhover", () => light([], []));
  }

  // The front's table: each trial is a <tbody>, so that its details move with it.
  for (const table of document.querySelectorAll("table.front")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button")?.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (body) => body.rows[0].cells[column].dataset.key;
        const bodies = [...table.tBodies].filter((body) => !body.classList.contains("defaults"));
        const numeric = bodies.every((body) => key(body) !== "" && !isNaN(key(body)));
        bodies.sort((a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
        if (down) bodies.reverse();
        const last = table.querySelector("tbody.defaults");
        for (const body of bodies) table.insertBefore(body, last);
      });
    });
  }

  // Read from the run's folder, the report knows what to put for DIR.
  const path = decodeURIComponent(location.pathname);
  if (location.protocol === "file:" && path.endsWith("/report.html")) {
    const folder = path.slice(0, path.lastIndexOf("/"));
    const quoted = /^[\w./-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", "'\\''")}'`;
    for (const place of document.querySelectorAll(".folder")) place.textContent = quoted;
  }
  for (const button of document.querySelectorAll(".command button")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      } catch {
        getSelection().selectAllChildren(code);
      }
    });
  }
})();
