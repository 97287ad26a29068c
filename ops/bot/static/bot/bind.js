"use strict";
// Without a wallet in the browser, or without this script, the page works by copying and pasting.
(() => {
  const wallet = window.ethereum;
  const by = (id) => document.getElementById(id);
  const say = (words) => {
    by("problem").textContent = words;
    by("problem").hidden = !words;
  };
  const told = document.body.dataset;
  const connect = by("connect"), sign = by("sign"), copy = by("copy");

  const ask = async (method, params) => {
    say("");
    try {
      return await wallet.request({ method, params });
    } catch (error) {
      say(`${told.refused} ${(error && error.message) || ""}`.trim());
      return null;
    }
  };

  if (connect && wallet) {
    connect.hidden = false;
    connect.addEventListener("click", async () => {
      const accounts = await ask("eth_requestAccounts", []);
      if (!accounts) return;
      if (!accounts.length) return say(told.noWallet);
      by("address").value = accounts[0];
      by("address").form.requestSubmit();
    });
  }

  if (sign && wallet) {
    sign.hidden = false;
    sign.addEventListener("click", async () => {
      const address = sign.dataset.address;
      const accounts = await ask("eth_requestAccounts", []);
      if (!accounts) return;
      if (!accounts.some((one) => one.toLowerCase() === address.toLowerCase())) return say(told.otherAccount);
      // The text's own bytes, so that no wallet has to guess whether it is hex.
      const bytes = new TextEncoder().encode(by("text").value);
      const hex = "0x" + Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
      const signature = await ask("personal_sign", [hex, address]);
      if (!signature) return;
      by("signature").value = signature;
      by("answer").requestSubmit();
    });
  }

  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => navigator.clipboard.writeText(by("text").value));
  }
})();
