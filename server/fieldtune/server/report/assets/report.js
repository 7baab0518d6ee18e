"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displaylogo: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  // A picture is drawn anew for the theme and the view that are asked for.
  function draw(id) {
    const select = document.querySelector(`select[data-picture="${id}"]`);
    const view = figures[id][select ? Number(select.value) : 0];
    const figure = view[dark.matches ? "dark" : "light"];
    Plotly.react(`plot-${id}`, figure.data, figure.layout, config);
  }
  const canvas = document.createElement("canvas");
  const webgl = canvas.getContext("webgl2") || canvas.getContext("webgl");
  for (const id of Object.keys(figures)) {
    if (id === "parallel" && !webgl) {
      document.getElementById("plot-parallel").textContent =
        "This picture needs WebGL, which this browser has switched off.";
      delete figures[id];
      continue;
    }
    draw(id);
    document.querySelector(`select[data-picture="${id}"]`)?.addEventListener("change", () => draw(id));
  }
  dark.addEventListener("change", () => Object.keys(figures).forEach(draw));

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
