// The front's table is sorted by the heading that is clicked; the defaults stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.key;
      const rows = [...table.tBodies[0].rows].filter((row) => !row.classList.contains("defaults"));
      const numeric = rows.every((row) => key(row) !== "" && !isNaN(key(row)));
      rows.sort((a, b) => (numeric ? key(a) - key(b) : key(a).localeCompare(key(b))));
      if (down) rows.reverse();
      const last = table.querySelector("tr.defaults");
      for (const row of rows) table.tBodies[0].insertBefore(row, last);
    });
  });
}
