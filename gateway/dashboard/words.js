// What is shown, in words, and how it gets onto the page.
"use strict";

const $ = (id) => document.getElementById(id);

const number = (n, digits = 0) => (n ?? 0).toLocaleString("en", { maximumFractionDigits: digits });
const ms = (n) => (n == null ? "–" : n < 10 ? `${n.toFixed(2)} ms` : n < 1000 ? `${n.toFixed(0)} ms` : `${(n / 1000).toFixed(2)} s`);
const scaled = (n, step, units) => {
  let at = 0;
  while (n >= step && at < units.length - 1) { n /= step; at += 1; }
  return `${number(n, n < 10 && at ? 1 : 0)}${units[at]}`;
};
const bytes = (n) => scaled(n ?? 0, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
const count = (n) => scaled(n ?? 0, 1000, ["", " K", " M", " G", " T"]);
const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const some = (n, name) => `${number(n)} ${name}${n === 1 ? "" : "s"}`;
