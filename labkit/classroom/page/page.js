// Asks for figures every two seconds and writes them as text: a name is never taken for HTML.
"use strict";

const EVERY_MS = 2000;
const AWAY_S = 300;
const SIGNS = { right: "✓", wrong: "✗", hint: "?", solution: "=", "not attempted": "○", opened: "○" };
const order = new Intl.Collator(undefined, { numeric: true });
const only = document.getElementById("only");
const state = document.getElementById("state");
let last = null;

function row(cells, stalls) {
  const made = document.createElement("tr");
  if (stalls) made.className = "stalls";
  cells.forEach((text, place) => {
    const cell = document.createElement(place ? "td" : "th");
    if (!place) cell.scope = "row";
    cell.dir = "auto";
    cell.textContent = text;
    made.append(cell);
  });
  return made;
}

function fill(id, rows, empty) {
  const body = document.querySelector(`#${id} tbody`);
  body.replaceChildren(...(rows.length ? rows : [row([empty])]));
}

function ago(seconds) {
  if (seconds < 10) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

function place(s) {
  const what = s.what && `${SIGNS[s.what]} ${s.what}`;
  return [s.exercise, what, s.stalls ? "(stalls)" : ""].filter(Boolean).join(" ");
}

function shown(s, now) {
  if (only.value === "stalls") return s.stalls;
  return only.value === "all" || now - s.seen >= AWAY_S;
}

function draw(sum) {
  last = sum;
  document.getElementById("stall").textContent = sum.stall;
  const hard = [...sum.exercises].sort((a, b) => b.stalls - a.stalls || b.wrong - a.wrong);
  fill("exercises", hard.map(e => row([
    `${e.lab} ${e.exercise}`, e.stalls, `${e.right} of ${e.tried}`, e.attempts ?? "–", e.wrong, e.hint, e.solution,
  ], e.stalls > 0)), "Nobody has tried one yet.");
  const people = sum.students.filter(s => shown(s, sum.now)).sort((a, b) => order.compare(a.name, b.name));
  fill("students", people.map(s => row([
    s.name, s.lab || "–", place(s) || "–", s.attempts, s.solved, s.minutes.toFixed(0), ago(sum.now - s.seen),
  ], s.stalls)), sum.students.length ? "Nobody." : "Nobody has joined yet.");
  fill("labs", sum.labs.map(l => row([
    l.lab, l.here, l.students, l.minutes.toFixed(1), l.solved,
  ])), "No lab is open.");
  const stalls = sum.students.filter(s => s.stalls).length;
  say(`${sum.students.length} students, ${sum.active} of them active in the last 5 minutes, ${stalls} stall.`);
}

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

async function look() {
  try {
    const answer = await fetch("summary", { credentials: "same-origin" });
    if (answer.status === 401) return say("This page's token is old: open the address that serve printed.");
    if (!answer.ok) throw new Error(answer.status);
    draw(await answer.json());
  } catch (error) {
    say(`No answer since ${new Date((last?.now ?? 0) * 1000).toLocaleTimeString()}; asking again. What is below is old.`);
  }
}

only.addEventListener("change", () => last && draw(last));
look();
setInterval(look, EVERY_MS);
