// Each row of the table is an event. Stepping shows a copy of one row, and in the graph what has been reached by then.
"use strict";

const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

const rows = $$("#events > tbody > tr").map((row, i) => ({
  element: row, i, id: row.id, pass: row.className, now: row.dataset.now, others: row.dataset.with.split(" "),
}));
const turn = rows.findIndex(row => row.pass === "backward");
const valueOf = Object.fromEntries($$("[id^=e] .out, [id^=v] .out").map(out => [out.closest("tr").id, out]));
let current = 0; // the place in rows of what is shown
let timer = null; // while it plays

// When each box of the graph is reached: forward when it is computed, backward when a gradient first comes to it.
const reached = { forward: {}, backward: {} };
for (const { pass, i, now, others } of rows) {
  for (const box of pass === "forward" ? [now] : [now, ...others]) reached[pass][box] ??= i;
}
const later = (box, { pass, i }) => (reached[pass][box] ?? (pass === "forward" ? -1 : Infinity)) > i;

function go(i) {
  current = Math.max(0, Math.min(rows.length - 1, i));
  const row = rows[current];
  const [number, pass, node, step, what] = [...row.element.cells].map(cell => cell.cloneNode(true));

  const heading = document.createElement("h2");
  heading.append(tag("b", pass.textContent, row.pass), " ", tag("span", node.textContent), " ",
    tag("small", [step.textContent && `t = ${step.textContent}`, node.title].filter(Boolean).join(", ")));
  $("#event").replaceChildren(heading, ...what.childNodes);
  for (const link of $$("#event a.in")) {
    const value = valueOf[link.hash.slice(1)];
    if (value) link.after(" ", value.cloneNode(true));
  }
  rows.forEach(({ element }) => element.classList.toggle("now", element === row.element));
  $("#status").textContent =
    `${row.pass}, event ${number.textContent} of ${rows.at(-1).id.slice(1)}` +
    (step.textContent && `, step ${step.textContent}`) + `: ${node.textContent}`;
  $("#slider").value = current;
  $("#slider").setAttribute("aria-valuetext", $("#status").textContent);
  document.body.dataset.pass = row.pass;
  if (timer === null) history.replaceState(null, "", `#${row.id}`); // browsers ration this, so not while it plays
  paint(row);
  add(Number(row.id.slice(1)));
}

function tag(name, text, kind = "") {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = kind;
  return element;
}

function paint(row) {
  for (const box of $$("figure .node[id]")) {
    box.classList.toggle("later", later(box.id, row));
    box.classList.toggle("now", box.id === row.now);
    box.classList.toggle("with", row.others.includes(box.id));
  }
  for (const edge of $$("figure .edge")) {
    const [a, b] = edge.dataset.ends.split(" ");
    edge.classList.toggle("later", later(a, row) || later(b, row));
    edge.classList.toggle("now", (a === row.now && row.others.includes(b)) || (b === row.now && row.others.includes(a)));
  }
  const box = row.now && document.getElementById(row.now);
  if (box) center($("figure"), box);
}

function center(figure, box) {
  const [outer, inner] = [figure.getBoundingClientRect(), box.getBoundingClientRect()];
  const off = (start, size) => inner[start] + inner[size] / 2 - outer[start] - outer[size] / 2;
  if (inner.left < outer.left + 40 || inner.right > outer.right - 40) figure.scrollLeft += off("left", "width");
  if (inner.top < outer.top + 20 || inner.bottom > outer.bottom - 20) figure.scrollTop += off("top", "height");
}

// The terms of each parameter's sum that there are by now, and the last of the sums.
function add(event) {
  for (const parameter of $$(".parameter")) {
    let last = null;
    for (const term of $$("[data-e]", parameter)) {
      term.classList.toggle("later", Number(term.dataset.e) > event);
      term.classList.remove("last");
      if (Number(term.dataset.e) <= event && !(last && Number(last.dataset.e) > Number(term.dataset.e))) last = term;
    }
    last?.classList.add("last");
  }
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => (current < rows.length - 1 ? go(current + 1) : jump(current)), Number($("#speed").value)) : null;
  $("#play").textContent = on ? "Pause" : "Play";
}

const jump = i => { play(false); go(i); };
const act = {
  first: () => jump(0),
  back: () => jump(current - 1),
  next: () => jump(current + 1),
  turn: () => jump(turn),
  last: () => jump(rows.length - 1),
  play: () => {
    if (timer !== null) return jump(current);
    if (current === rows.length - 1) go(0);
    play(true);
  },
};
const keys = { ArrowLeft: "back", ArrowRight: "next", " ": "play", b: "turn", B: "turn", Home: "first", End: "last" };

for (const button of $$("nav button")) button.addEventListener("click", act[button.id]);
$("#slider").addEventListener("input", event => jump(Number(event.target.value)));
$("#speed").addEventListener("change", () => play(timer !== null));
document.addEventListener("keydown", event => {
  const at = event.target.tagName;
  if (event.ctrlKey || event.altKey || event.metaKey || at === "SELECT" || !(event.key in keys)) return;
  if (event.key === " " && (at === "BUTTON" || at === "SUMMARY")) return;
  event.preventDefault();
  act[keys[event.key]]();
});
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  const box = event.target.closest("figure .node[id]");
  const row = event.target.closest("#events > tbody > tr");
  const at = rows.findIndex(({ id, pass, now, element }) =>
    link ? `#${id}` === link.hash : box ? now === box.id && pass === document.body.dataset.pass : element === row);
  if (link) event.preventDefault();
  if (at >= 0) jump(at);
});
const linked = () => rows.findIndex(({ id }) => `#${id}` === location.hash);
addEventListener("hashchange", () => linked() >= 0 && jump(linked()));

document.body.classList.add("on");
$("details").open = false;
$("#slider").max = rows.length - 1;
go(linked());
for (const { element } of rows) element.removeAttribute("id"); // from here on a link to a row means this page's own stepping
