"use strict";
/* Beside each time in UTC the same moment in the zone of whoever looks, and that zone's name. Where both are the same
   nothing is added. What stands in forms, code and documents is left as it is. */
(() => {
  const IN_UTC = /\b(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC\b/;
  const LEFT = "script, style, textarea, select, code, pre, canvas, .vanta-document, .vanta-local";
  const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  const spell = new Intl.DateTimeFormat("en-GB", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  });

  /* `08:31:02 CET`, with the date before it where that is another one than in UTC. */
  function local(day, time) {
    const at = new Date(`${day}T${time}Z`);
    if (Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) return "";
    const part = Object.fromEntries(spell.formatToParts(at).map((one) => [one.type, one.value]));
    const date = `${part.year}-${part.month}-${part.day}`;
    return `${date === day ? "" : `${date} `}${part.hour}:${part.minute}:${part.second} ${part.timeZoneName}`;
  }

  function tell(text) {
    for (let found = IN_UTC.exec(text.data); found; found = IN_UTC.exec(text.data)) {
      const rest = text.splitText(found.index + found[0].length);
      const words = local(found[1], found[2]);
      if (words) {
        const beside = document.createElement("span");
        beside.className = "vanta-local";
        beside.title = zone;
        beside.textContent = ` (${words})`;
        rest.before(beside);
      }
      text = rest;
    }
  }

  function look(place) {
    const texts = [];
    const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) if (IN_UTC.test(walker.currentNode.data)) texts.push(walker.currentNode);
    for (const text of texts) {
      const told = text.nextSibling?.classList?.contains("vanta-local");
      if (!told && !text.parentElement.closest(LEFT)) tell(text);
    }
  }

  look(document.body);
  const fresh = new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) if (node.nodeType === Node.ELEMENT_NODE) look(node);
  });
  for (const place of document.querySelectorAll("[data-live]")) fresh.observe(place, { childList: true });
})();
