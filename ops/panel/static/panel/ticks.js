"use strict";
/* Filters a long list to tick by its words, and counts what is ticked. What is hidden keeps its tick and is sent. */
document.addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll("[data-ticks]")) {
    const rows = [...list.querySelectorAll("[data-tick]")];
    const count = list.querySelector("[data-ticks-count]");
    const filter = list.querySelector("[data-ticks-filter]");
    const word = filter?.querySelector("[type=search]");
    const only = filter?.querySelector("[type=checkbox]");
    const ticked = (row) => row.querySelector("input").checked;

    function tell() {
      const words = `${rows.filter(ticked).length} of ${rows.length} ticked`;
      if (count.textContent !== words) count.textContent = words;
    }

    function sift() {
      const wanted = word.value.trim().toLowerCase().split(/\s+/);
      for (const row of rows) {
        const part = row.closest("[data-ticks-part]").querySelector("legend").textContent;
        const text = `${part} ${row.textContent}`.toLowerCase();
        row.hidden = !wanted.every((each) => text.includes(each)) || (only.checked && !ticked(row));
      }
      for (const part of list.querySelectorAll("[data-ticks-part]")) {
        part.hidden = [...part.querySelectorAll("[data-tick]")].every((row) => row.hidden);
      }
      list.querySelector("[data-ticks-none]").hidden = rows.some((row) => !row.hidden);
    }

    list.addEventListener("change", tell);
    tell();
    if (!filter) continue;
    filter.hidden = false;
    filter.addEventListener("input", sift);
    // Enter in the filter is no answer to the form around it.
    word.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  }
});
