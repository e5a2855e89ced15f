// /app/code: eight digits typed from the computer, for when scanning does not work.

import { gate } from "../environment";
import { actions, announce, h, heading, show } from "../dom";
import { take } from "../order";
import { t } from "../texts";
import { registerWorker } from "../worker-registration";

function form(): void {
  const input = h("input", {
    id: "code", name: "code", type: "text", inputmode: "numeric", autocomplete: "off", required: true,
    maxlength: 12, class: "input app-code-input", "aria-describedby": "code-hint code-error",
    oninput: () => group(input),
  });
  const error = h("p", { id: "code-error", class: "error" });
  const submit = (event: Event) => {
    event.preventDefault();
    const digits = input.value.replace(/\D/g, "");
    if (digits.length !== 8) {
      error.textContent = t("code.incomplete");
      input.setAttribute("aria-invalid", "true");
      input.focus();
      announce(t("code.incomplete"), true);
      return;
    }
    void take({ code: digits, source: "code" }, true);
  };
  show(
    { state: t("code.title"), say: "" },
    heading(t("code.title")),
    h("form", { novalidate: true, onsubmit: submit, class: "field" },
      h("label", { for: "code" }, t("code.label")),
      h("p", { id: "code-hint", class: "app-hint" }, t("code.hint")),
      input, error,
      h("p", { class: "app-hint" }, t("code.warning")),
      actions(h("button", { type: "submit", class: "button primary" }, t("code.submit")))),
  );
}

// Two groups of four, as the computer shows them; only while typing at the end.
function group(input: HTMLInputElement): void {
  input.removeAttribute("aria-invalid");
  if (input.selectionStart !== input.value.length) return;
  const digits = input.value.replace(/\D/g, "").slice(0, 8);
  input.value = digits.length > 4 ? `${digits.slice(0, 4)} ${digits.slice(4)}` : digits;
}

if (gate()) form();
registerWorker();
