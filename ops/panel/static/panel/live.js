"use strict";
/* Fetches the parts of a page that are marked data-live anew, every data-every-s seconds, while somebody looks.
   What does not change is left in place, so the keyboard's focus stays where it is. */
(() => {
  const PATIENCE_MS = 8000;
  const LATE_MS = 15000;

  const utc = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ") + " UTC";

  function complain(words) {
    const place = document.querySelector("[data-stale]");
    const old = document.querySelectorAll("[data-live]");
    for (const part of old) part.classList.toggle("vanta-old", words !== "");
    if (!place) return;
    if (place.textContent !== words) place.textContent = words;
    place.hidden = words === "";
  }

  /* Each part's children as the server sent them, since others write into them (times.js). */
  const served = new WeakMap();
  const note = (child) => served.set(child, child.outerHTML);

  /* Replaces only what differs, child by child, and gives the focus back to the same link. */
  function put(place, html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const before = [...place.children];
    const after = [...fresh.content.children];
    after.forEach(note);
    for (let at = 0; at < Math.max(before.length, after.length); at += 1) {
      const [was, is] = [before[at], after[at]];
      if (!is) { was.remove(); continue; }
      if (!was) { place.append(is); continue; }
      if (served.get(was) === served.get(is)) continue;
      const focused = was.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      was.replaceWith(is);
      if (focused) [...is.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus({ preventScroll: true });
    }
  }

  class Part {
    constructor(place) {
      this.place = place;
      [...place.children].forEach(note);
      this.everyMs = Number(place.dataset.everyS) * 1000;
      this.atMs = Date.now();
      this.ask = this.ask.bind(this);
      this.timer = setTimeout(this.ask, this.everyMs);
    }

    async ask() {
      clearTimeout(this.timer);
      if (!document.hidden) {
        const problem = await this.fetch();
        if (!problem) { this.atMs = Date.now(); this.problem = ""; } else { this.problem = problem; }
      }
      this.timer = setTimeout(this.ask, this.everyMs);
    }

    async fetch() {
      const giveUp = new AbortController();
      const timer = setTimeout(() => giveUp.abort(), PATIENCE_MS);
      try {
        const answer = await fetch(this.place.dataset.live, { signal: giveUp.signal, redirect: "manual", cache: "no-store" });
        if (answer.type === "opaqueredirect") return "you are logged out; reload the page";
        if (!answer.ok) return `the server answers ${answer.status}`;
        put(this.place, await answer.text());
        return "";
      } catch (error) {
        return error.name === "AbortError" ? "the server does not answer in time" : "the server cannot be reached";
      } finally {
        clearTimeout(timer);
      }
    }

    get late() {
      return !document.hidden && (this.problem || Date.now() - this.atMs > this.everyMs + PATIENCE_MS + LATE_MS);
    }
  }

  const parts = [...document.querySelectorAll("[data-live]")].map((place) => new Part(place));
  if (!parts.length) return;
  setInterval(() => {
    const late = parts.find((part) => part.late);
    complain(late ? `Not refreshed since ${utc(late.atMs)}: ${late.problem || "no answer"}.` : "");
  }, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) parts.forEach((part) => part.ask()); });
})();
