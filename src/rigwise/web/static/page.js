// A page works without this: its form is plain, its state stands in the address.
// With it a slider sets its field, an answer comes in place of the old one, and the focus stays where it is.
"use strict";

const form = document.querySelector("form[data-live]");
const status = document.getElementById("status");
const WAIT_MS = 250;   // after the last change of a slider or a field
const SLOW_MS = 300;   // until the page says that it works
let running = null;
let waiting = 0;
let shown = location.search;

/** The address that asks what the form says; nothing that is empty. */
function address() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value !== "") asked.append(name, value);
  }
  const query = asked.toString();
  return form.action.split("?")[0] + (query ? "?" + query : "");
}

/** Put the parts of the new page that may change in place of the old ones. */
function swap(page) {
  for (const part of page.querySelectorAll("[data-swap]")) {
    const old = document.getElementById(part.id);
    if (old) old.replaceChildren(...part.childNodes);
  }
  for (const input of form.querySelectorAll("[aria-describedby]")) {
    const other = page.getElementById(input.id);
    if (other && other.hasAttribute("aria-invalid")) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  for (const hidden of document.querySelectorAll("form.none, .upload input[name=query]")) {
    const other = page.querySelector(".upload input[name=query]");
    if (other) hidden.value = other.value;
  }
  document.title = page.title;
}

/** What a reader of the screen is told: the first sentence of the answer, or what is wrong. */
function told() {
  const wrong = [...document.querySelectorAll(".wrong")].map((part) => part.textContent.trim()).filter(Boolean);
  const said = document.querySelector("#answer .problem, #answer .says, #says");
  return wrong[0] || (said ? said.textContent.trim().replace(/\s+/g, " ") : "");
}

async function ask(keep) {
  const here = address();
  if (running) running.abort();
  const mine = (running = new AbortController());
  const answer = document.getElementById("answer");
  const slow = setTimeout(() => {
    status.textContent = "Working\u2026";
    status.classList.add("shown");
    answer.setAttribute("aria-busy", "true");
  }, SLOW_MS);
  try {
    const reply = await fetch(here, { signal: mine.signal, headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    if (!page.getElementById("answer")) {
      location.assign(here);
      return;
    }
    swap(page);
    history[keep ? "replaceState" : "pushState"](null, "", here);
    shown = location.search;
    status.textContent = told();
  } catch (problem) {
    if (mine.signal.aborted) return;
    status.textContent = "The server does not answer.";
    status.classList.add("shown", "failed");
    answer.removeAttribute("aria-busy");
    running = null;
    clearTimeout(slow);
    return;
  } finally {
    clearTimeout(slow);
  }
  if (running === mine) {
    running = null;
    status.classList.remove("shown", "failed");
    answer.removeAttribute("aria-busy");
  }
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => ask(true), WAIT_MS);
}

/** How much a text with a unit says, as far as a slider needs to know. */
function size(text) {
  const found = /([\d.]+)\s*([a-z]*)(?:\/([a-z]+))?/i.exec(text);
  const units = { "": 1, ms: 1e-3, s: 1, min: 60, h: 3600, d: 86400, k: 1e3, m: 1e6 };
  const of = (unit) => units[(unit || "").toLowerCase()] || 1;
  return found ? Number(found[1]) * of(found[2]) / of(found[3]) : NaN;
}

/** The step of a slider that is nearest to what its field says; the last where it says nothing. */
function nearest(steps, text) {
  const off = steps.map((step) => Math.abs(Math.log(size(step) / size(text))));
  const least = Math.min(...off.filter((one) => !Number.isNaN(one)));
  return Number.isFinite(least) ? off.indexOf(least) : steps.length - 1;
}

/** A slider beside a field: the field is what is asked, the slider picks one of the steps. */
function tie(slider) {
  const field = document.getElementById(slider.dataset.for);
  const steps = slider.dataset.steps.split("|");
  const show = () => {
    slider.setAttribute("aria-valuetext", steps[slider.value] || "no limit");
  };
  const follow = () => {
    slider.value = nearest(steps, field.value);
    show();
  };
  slider.addEventListener("input", () => {
    field.value = steps[slider.value];
    show();
    soon();
  });
  field.addEventListener("change", follow);
  follow();
  slider.classList.add("ready");
}

if (form && status) {
  document.querySelectorAll("input.slider").forEach(tie);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    ask(false);
  });
  form.addEventListener("change", (event) => {
    if (!event.target.classList.contains("slider")) soon();
  });
  addEventListener("popstate", () => {
    if (location.search !== shown) location.reload();
  });
}
