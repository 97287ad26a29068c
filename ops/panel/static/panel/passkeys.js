"use strict";
// Asks the browser for a passkey and sends its answer with the form that asked; the server is told first what the form says.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  function given(asked) {
    const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
    const found = { ...asked, challenge: bytes(asked.challenge) };
    if (asked.user) found.user = { ...asked.user, id: bytes(asked.user.id) };
    if (asked.excludeCredentials) found.excludeCredentials = known(asked.excludeCredentials);
    if (asked.allowCredentials) found.allowCredentials = known(asked.allowCredentials);
    return found;
  }

  function told(credential) {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (credential.response[name]) response[name] = text(credential.response[name]);
    }
    if (credential.response.getTransports) response.transports = credential.response.getTransports();
    return JSON.stringify({
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      response,
      clientExtensionResults: credential.getClientExtensionResults(),
    });
  }

  async function ask(button) {
    const form = button.form;
    const say = form.querySelector("[data-passkey-said]");
    say.hidden = true;
    if (!form.reportValidity()) return;
    button.disabled = true;
    try {
      const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
      const body = new URLSearchParams(new FormData(form));
      body.delete("code");
      body.set("passkey_for", new URL(form.getAttribute("action") || location.href, location.href).pathname);
      const answer = await fetch(button.dataset.passkey, {
        method: "POST", body, headers: { "X-CSRFToken": token }, credentials: "same-origin", redirect: "error",
      });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const publicKey = given(await answer.json());
      const made = button.dataset.passkeyNew !== undefined
        ? await navigator.credentials.create({ publicKey })
        : await navigator.credentials.get({ publicKey });
      form.querySelector("[name=passkey]").value = told(made);
      form.submit();
    } catch (problem) {
      say.textContent = `No passkey: ${problem.message}`;
      say.hidden = false;
      button.disabled = false;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-passkey]");
    if (!button) return;
    event.preventDefault();
    ask(button);
  });
})();
