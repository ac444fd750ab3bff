// The form of a background task: shows what the rule means while it is typed.
"use strict";
document.addEventListener("DOMContentLoaded", function () {
  const box = document.getElementById("linod-preview");
  const form = document.getElementById("backgroundtask_form");
  if (!box || !form || !form.elements.every_unit) return;
  const FIELDS = ("every_unit every start_date start_time end_date end_time positions max_events " +
    "cron time_zone monday tuesday wednesday thursday friday saturday sunday").split(" ");
  const WAIT = 250;
  let shown = typed(), timer = 0, request = null;

  function typed() {
    const values = new URLSearchParams();
    for (const name of FIELDS) {
      const field = form.elements[name];
      if (!field) continue;
      if (field.type !== "checkbox") values.set(name, field.value);
      else if (field.checked) values.set(name, "on");
    }
    return values.toString();
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function line(run) {
    const item = document.createElement("li");
    const time = element("time", "", run.text);
    time.dateTime = run.at;
    item.append(time, " ", element("span", "linod-quiet", run.in));
    if (run.mark) item.append(" ", element("span", "linod-mark", run.mark));
    return item;
  }

  function showErrors(errors) {
    for (const old of form.querySelectorAll(".linod-typed-error")) old.remove();
    for (const name of FIELDS) {
      const field = form.elements[name];
      if (!field) continue;
      const wrong = errors[name] || [];
      field.setAttribute("aria-invalid", wrong.length ? "true" : "false");
      if (!wrong.length) continue;
      const row = field.closest(".fieldBox") || field.closest(".form-row");
      row.append(element("p", "linod-typed-error", wrong.join(" ")));
    }
    const problems = Object.values(errors).flat();
    const items = problems.map(function (text) { return element("li", "", text); });
    box.querySelector(".linod-problems").replaceChildren(...items);
  }

  function show(preview) {
    box.querySelector(".linod-words").textContent = preview.words;
    box.querySelector(".linod-next").replaceChildren(...preview.runs.map(line));
    box.querySelector(".linod-note").textContent = preview.note;
    showErrors(preview.errors);
  }

  async function ask() {
    const values = typed();
    if (values === shown) return;
    shown = values;
    if (request) request.abort();
    request = new AbortController();
    try {
      const answer = await fetch(box.dataset.address + "?" + values, {
        credentials: "same-origin", signal: request.signal, redirect: "error",
      });
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.json());
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = "";
      show({words: "", runs: [], note: box.dataset.silent, errors: {}});
    }
  }

  function later() {
    window.clearTimeout(timer);
    timer = window.setTimeout(ask, WAIT);
  }

  form.addEventListener("input", later);
  form.addEventListener("change", later);
  // The admin's own shortcuts ("Today", the calendar) fill a field in and only focus it.
  form.addEventListener("focusin", later);
});
