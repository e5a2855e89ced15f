// The popup of the TEST component: takes one request from the page that opened
// it, calls the API, hands the raw answer back, and closes.
"use strict";
(() => {
  const say = (text) => { document.getElementById("state").textContent = text; };
  const opener = window.opener;
  if (!opener) {
    say("沒有開啟這個視窗的網頁。 / No page opened this window (or it cut the link: Cross-Origin-Opener-Policy).");
    return;
  }
  let taken = false;
  const buttons = Array.from(document.querySelectorAll("button[data-card]"));

  // ask gives the number of a card, or null when the person cancels.
  const ask = (origin) => new Promise((resolve) => {
    document.getElementById("who").textContent = origin;
    document.getElementById("choose").hidden = false;
    say("請選一張測試卡。 / Choose a test card.");
    for (const b of buttons) b.addEventListener("click", () => resolve(b.dataset.card));
    document.getElementById("cancel").addEventListener("click", () => resolve(null));
    if (buttons.length > 0) buttons[0].focus();
  });

  const functionOf = { MakeSignature: "sign", GetUserCert: "pkcs11info", CheckEnvir: "pkcs11info" };
  const failure = (func, code, message) => JSON.stringify({ func, ret_code: code, last_error: 0, message, slots: [] });

  const functionNamed = (text) => {
    try {
      return functionOf[JSON.parse(text).func] || "sign";
    } catch {
      return "sign";
    }
  };

  const perform = async (text, origin) => {
    let request;
    try {
      request = JSON.parse(text);
    } catch {
      request = null;
    }
    if (request === null || typeof request !== "object") return failure("sign", 0x7600000B, "bad JSON");
    const func = functionOf[request.func];
    if (!func) return failure(String(request.func), 0x7600000E, "unknown func");
    const query = new URLSearchParams({ origin });
    // An untrusted site is told so before anybody is asked for a card.
    const probe = await (await fetch("/pkcs11info?" + query)).json();
    if (probe.ret_code === 0 && buttons.length > 1 && request.func !== "CheckEnvir" && !request.slotDescription) {
      const card = await ask(origin);
      if (card === null) return failure(func, 0x76000999, "使用者取消 / cancelled by the user");
      query.set("card", card);
    }
    say("處理中… / Working…");
    if (func === "sign") {
      // As it came: the page has to write "+" as %2B, as for the real component.
      const response = await fetch("/sign?" + query, {
        method: "POST",
        headers: { "Content-Type": "application/x-www-form-urlencoded" },
        body: "tbsPackage=" + text,
      });
      return response.text();
    }
    if (request.func === "GetUserCert") query.set("withcert", "true");
    return (await fetch("/pkcs11info?" + query)).text();
  };

  window.addEventListener("message", async (event) => {
    if (taken || event.source !== opener || typeof event.data !== "string") return;
    taken = true;
    const closed = () => opener.postMessage(failure(functionNamed(event.data), 0x76000999, "使用者取消 / cancelled by the user"), event.origin);
    window.addEventListener("pagehide", closed);
    let answer;
    try {
      answer = await perform(event.data, event.origin);
    } catch {
      answer = failure("sign", 0x7600000D, "the component does not answer");
    }
    window.removeEventListener("pagehide", closed);
    opener.postMessage(answer, event.origin);
    window.close();
  });
  opener.postMessage(JSON.stringify({ func: "getTbs" }), "*");
})();
