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

  // The front: of overlapping markers plotly names the smaller one, a dominated trial, and of equal ones
  // the last. Here the point of the front that is nearest to the pointer is named.
  const front = document.getElementById("plot-front");
  front?.on("plotly_beforehover", (event) => {
    const curveNumber = front.data.findIndex((trace) => trace.name === "front");
    const trace = front._fullData[curveNumber];
    if (event.type === "mouseout" || trace?.visible !== true) return true;
    const { xaxis, yaxis } = front._fullLayout;
    const box = front.querySelector(".nsewdrag").getBoundingClientRect();
    // An event tells the corner of the pixel that is pointed at; its middle is meant.
    const pointer = { x: event.clientX + 0.5 - box.x, y: event.clientY + 0.5 - box.y };
    const points = Array.from(trace.x, (x, pointNumber) =>
      ({ curveNumber, pointNumber, x: xaxis.d2p(x), y: yaxis.d2p(trace.y[pointNumber]) }));
    const gap = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
    const nearest = points.reduce((a, b) => gap(b, pointer) < gap(a, pointer) ? b : a);
    if (gap(nearest, pointer) > trace.marker.size / 2 + 1) return true;
    // Points so close that no pixel belongs to one of them alone are named together.
    const others = points.filter((point) => point !== nearest && gap(point, nearest) < Math.SQRT2);
    const notes = front.data[curveNumber].customdata;
    notes[nearest.pointNumber][1] = others.length === 0 ? ""
      : ["<br>In the same place:", ...others.map((point) => notes[point.pointNumber][0])].join("<br>");
    Plotly.Fx.hover(front, [nearest]);
    return false;
  });

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
