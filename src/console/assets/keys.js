// Keys for the list of letters. Everything that they do can be done without them.
"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const rows = () => all(".row");
  const here = () => one(".row.at") || one(".row.chosen");

  function go(step) {
    const list = rows();
    if (list.length === 0) return;
    const at = list.indexOf(here());
    const next = list[Math.min(Math.max(at + step, 0), list.length - 1)];
    list.forEach((row) => row.classList.toggle("at", row === next));
    next.querySelector("a").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  function tell() {
    const everything = one("#all");
    const picked = all(".row input:checked").length;
    const words = everything && everything.checked ? "all" : picked > 0 ? String(picked) : "";
    all("[data-act]").forEach((button) => {
      button.dataset.label ||= button.textContent;
      button.textContent = words ? button.dataset.label.replace("…", ` ${words}…`) : button.dataset.label;
    });
  }

  function pick() {
    const box = here() && here().querySelector("input[type=checkbox]");
    if (box) { box.checked = !box.checked; tell(); }
  }

  function pickAll() {
    const boxes = all(".row input[type=checkbox]");
    const everything = one("#all");
    if (boxes.length === 0 || !everything) return;
    if (everything.checked) { everything.checked = false; boxes.forEach((box) => { box.checked = false; }); }
    else if (boxes.every((box) => box.checked)) everything.checked = true;
    else boxes.forEach((box) => { box.checked = true; });
    tell();
  }

  // What is selected, or else the letter that is open or that the keys are at.
  function act(action) {
    const selected = one("#all:checked, .row input:checked");
    const ofList = one(`[data-act=${action}]`);
    const ofLetter = one(`[data-one=${action}]`);
    if (!selected && ofLetter) { ofLetter.click(); return; }
    if (!ofList) return;
    if (!selected && here()) pick();
    if (one("#all:checked, .row input:checked")) ofList.click();
  }

  function clear() {
    const everything = one("#all");
    if (everything) everything.checked = false;
    all(".row input:checked").forEach((box) => { box.checked = false; });
    all(".row.at").forEach((row) => row.classList.remove("at"));
    tell();
  }

  const keys = {
    j: () => go(1),
    k: () => go(-1),
    x: pick,
    "*": pickAll,
    r: () => act("replay"),
    d: () => act("discard"),
    e: () => { const edit = one("[data-one=edit]"); if (edit) edit.click(); },
    "/": () => { const text = one("[data-key='/']"); if (text) text.focus(); },
    "?": () => { const help = one("#help"); if (help && !help.open) help.showModal(); },
    Enter: () => { const link = here() && here().querySelector("a"); if (link) link.click(); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if (one("dialog[open]")) return;
      if (field) field.blur(); else clear();
      return;
    }
    if (field || one("dialog[open]")) return;
    // Links and buttons have their own Enter.
    if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (action) { event.preventDefault(); action(); }
  });

  document.addEventListener("change", tell);

  document.addEventListener("click", (event) => {
    const link = event.target.closest(".row a");
    if (link) {
      rows().forEach((row) => row.classList.toggle("chosen", row.contains(link)));
      const panes = one(".panes");
      if (panes) panes.classList.add("has-detail");
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = document.getElementById(copy.dataset.copy).textContent;
      navigator.clipboard.writeText(text).then(() => { copy.textContent = "Copied"; });
    }
  });

  function show() {
    all("[data-copy]").forEach((button) => { button.hidden = !navigator.clipboard; });
    tell();
  }
  // Nobody loses a form that they have opened to a refresh.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const refreshed = event.detail.elt;
    if (refreshed.id === "lane-rows" && refreshed.querySelector("details[open]")) event.preventDefault();
  });
  document.addEventListener("htmx:afterSettle", show);
  // An answer that is no page, such as a log-in that is due: let the browser show it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    const text = event.detail.xhr.responseText;
    const fits = target && target.id && text.includes(`id="${target.id}"`);
    if (event.detail.requestConfig.verb === "get" && (!fits || text.includes('class="outside"'))) {
      event.detail.shouldSwap = false;
      if (event.detail.boosted || target.id === "detail") location.assign(event.detail.pathInfo.requestPath);
      else location.reload();
    }
  });
  show();
})();
