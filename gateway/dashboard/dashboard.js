// The operators' page: figures of each second by server-sent events, the rest by the API. No framework; uPlot draws.
"use strict";

const KEPT = 300; // seconds that the charts show
const PAGE = 50; // tenants at a time
const EVERY = 2000; // ms between two looks at what does not come by itself
const LOST_AFTER = 5000; // ms without a figure
const PATIENCE = 10000; // ms for one answer

const $ = (id) => document.getElementById(id);
const state = { token: "", ticks: [], charts: [], last: 0, since: Date.now(), sort: "requests", order: "descending", offset: 0, one: null, etag: "", logs: null, watch: null, looking: false };

// ---- what is shown, in words

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

function fill(list, rows, nothing) {
  $(list).replaceChildren(...(rows.length ? rows : [element("li", nothing)]));
}

function cards(list, of) {
  const parts = of.map(([name, value, more]) => {
    const box = element("div");
    const told = element("dd", value);
    if (more) told.append(" ", element("small", more));
    box.append(element("dt", name), told);
    return box;
  });
  $(list).replaceChildren(...parts);
}

// ---- the API

async function call(path, options = {}) {
  const headers = { Authorization: `Bearer ${state.token}`, ...options.headers };
  const signal = options.signal ?? AbortSignal.timeout(PATIENCE);
  const answer = await fetch(path, { ...options, signal, headers, cache: "no-store" });
  if (answer.status === 401) {
    ask("This token is not the gateway's.");
    throw new Error("401");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

const told = async (path) => (await call(path)).json();

// Lines of a body that goes on, as they come.
async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// Until it is told to end. A stream in which nothing comes is given up for another: its other end may be gone.
async function watch() {
  state.watch?.abort();
  state.watch = new AbortController();
  const { signal } = state.watch;
  while (!signal.aborted) {
    const stream = new AbortController();
    let alive = Date.now();
    const look = setInterval(() => { if (signal.aborted || Date.now() - alive > 2 * LOST_AFTER) stream.abort(); }, 1000);
    try {
      for await (const line of lines(await call("/v1/events", { signal: stream.signal }))) {
        alive = Date.now();
        if (line.startsWith("data:") && !signal.aborted) second(JSON.parse(line.slice(5)));
      }
    } catch { /* said by touch() */ }
    clearInterval(look);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// ---- is it alive?

function touch() {
  const silent = Date.now() - (state.last || state.since);
  let [kind, text] = ["none", "not connected"];
  if (state.token && silent > LOST_AFTER) {
    [kind, text] = ["lost", `connection lost ${state.last ? `at ${clock(state.last)}; the figures are out of date` : "to the gateway"}`];
  } else if (state.last) {
    [kind, text] = ["live", state.draining ? "draining" : "live"];
  }
  const said = $("touch");
  if (said.textContent !== text) said.textContent = text;
  said.dataset.state = kind;
  document.body.dataset.touch = kind;
}

function second(tick) {
  state.last = Date.now();
  state.draining = tick.is_draining;
  state.ticks.push(tick);
  if (state.ticks.length > KEPT) state.ticks.shift();
  touch();
  if (state.one || document.hidden) return;
  const faults = tick.faults.reduce((sum, fault) => sum + fault.count, 0);
  const hits = tick.cache_asked_per_second ? `${number((100 * tick.cache_hits_per_second) / tick.cache_asked_per_second)} % hits` : "";
  cards("cards", [
    ["Requests", `${number(tick.requests_per_second)}/s`, `${tick.in_flight} in flight`],
    ["Latency p99", ms(tick.latency.p99_ms), `p50 ${ms(tick.latency.p50_ms)}`],
    ["Faults", `${number(faults)}/s`, tick.faults.map((fault) => fault.kind).slice(0, 2).join(", ")],
    ["Fuel", `${count(tick.fuel_per_second)}/s`],
    ["Instances", number(tick.instances.now), `of ${number(tick.instances.max)}, ${tick.waiting} waiting`],
    ["Component memory", bytes(tick.memory.now), `of ${bytes(tick.memory.max)}`],
    ["Connections", number(tick.connections)],
    ["Storage p99", ms(tick.storage_latency.p99_ms), `${number(tick.storage_calls_per_second)}/s`],
    ["Kept responses", `${number(tick.cache_asked_per_second)}/s`, hits],
    ["Tenants", number(tick.tenants), [tick.problems && `${tick.problems} problems`, tick.warnings && `${tick.warnings} warnings`].filter(Boolean).join(", ")],
  ]);
  draw();
}

// ---- charts

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1e3, 1e4, 1e5, 1e6].flatMap((n) => [n, 2 * n, 5 * n])];
const DOUBLINGS = Array.from({ length: 44 }, (_, power) => 2 ** power);
const CHARTS = [
  { title: "Requests per second", incrs: WHOLE, names: ["2xx", "3xx", "4xx", "5xx"], colours: [2, 1, 3, 4], of: (t) => t.by_class_per_second.slice(1), text: count },
  { title: "Latency", names: ["p50", "p90", "p99"], colours: [1, 3, 4], of: (t) => [t.latency.p50_ms, t.latency.p90_ms, t.latency.p99_ms], text: ms },
  { title: "Instances", incrs: WHOLE, names: ["running", "waiting"], colours: [1, 4], of: (t) => [t.instances.now, t.waiting], text: count },
  { title: "Component memory", incrs: DOUBLINGS, names: ["bytes"], colours: [5], of: (t) => [t.memory.now], text: bytes },
];

function frame({ title, names, colours }) {
  const figure = element("figure");
  const caption = element("figcaption", `${title}: `);
  names.forEach((name, at) => caption.append(element("b", name, `k${colours[at]}`)));
  figure.append(caption);
  figure.setAttribute("aria-label", title);
  return figure;
}

function chart({ incrs, names, colours, text }, figure) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: Math.max(figure.clientWidth - 24, 200), height: 150, legend: { show: false }, cursor: { show: false }, pxAlign: false,
    axes: [
      { ...axis, values: (_, marks) => marks.map((at) => clock(at * 1000)) },
      { ...axis, size: 64, values: (_, marks) => marks.map(text), ...(incrs && { incrs }) },
    ],
    scales: { y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.1] } },
    series: [{}, ...names.map((name, at) => ({ label: name, stroke: colour(`--c${colours[at]}`), width: 1.5, points: { show: false } }))],
  };
  return new uPlot(options, [[], ...names.map(() => [])], figure);
}

function build() {
  state.charts.forEach((drawn) => drawn.destroy());
  const figures = CHARTS.map(frame);
  // All of them stand in their places before one is measured.
  $("charts").replaceChildren(...figures);
  state.charts = CHARTS.map((of, at) => chart(of, figures[at]));
  draw();
}

function draw() {
  const times = state.ticks.map((tick) => tick.at_ms / 1000);
  state.charts.forEach((drawn, at) => {
    const rows = state.ticks.map(CHARTS[at].of);
    drawn.setData([times, ...CHARTS[at].names.map((_, series) => rows.map((row) => row[series] ?? null))]);
  });
}

// ---- tenants

const COLUMNS = [
  ["Tenant", "id"], ["Status", "standing"], ["Hosts", null], ["Requests/s", "requests"], ["5xx/s", "errors"],
  ["Fuel/s", "fuel"], ["In flight", "in-flight"], ["Memory", "memory"], ["Problems", null],
];

function heads() {
  const made = COLUMNS.map(([name, sort]) => {
    const head = element("th");
    head.scope = "col";
    if (!sort) {
      head.textContent = name;
      return head;
    }
    const button = element("button", name);
    button.type = "button";
    button.addEventListener("click", () => {
      const names = sort === "id" || sort === "standing";
      const first = names ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      state.order = state.sort === sort && state.order === first ? other : first;
      [state.sort, state.offset] = [sort, 0];
      sorted();
      tenants();
    });
    head.append(button);
    head.dataset.sort = sort;
    return head;
  });
  $("tenants").tHead.rows[0].replaceChildren(...made);
  sorted();
}

function sorted() {
  for (const head of $("tenants").tHead.rows[0].cells) {
    if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.order);
    else head.removeAttribute("aria-sort");
  }
}

const STANDINGS = { serving: "good", suspended: "warn", stale: "warn", broken: "bad" };

function row(tenant) {
  const made = element("tr");
  const link = element("a", tenant.id);
  link.href = `#/tenants/${tenant.id}`;
  const hosts = tenant.hosts.slice(0, 2).join(", ") + (tenant.hosts.length > 2 ? ` and ${tenant.hosts.length - 2} more` : "");
  const cells = [
    link, element("span", tenant.standing, STANDINGS[tenant.standing]), hosts, number(tenant.requests_per_second, 1),
    number(tenant.errors_per_second, 1), count(tenant.fuel_per_second), `${tenant.in_flight}/${tenant.in_flight_max}`,
    `${bytes(tenant.memory)} of ${bytes(tenant.memory_max)}`, tenant.problems ? element("span", tenant.problems, "bad") : tenant.warnings ? element("span", `${tenant.warnings} warnings`, "warn") : "",
  ];
  for (const cell of cells) made.insertCell().append(cell);
  return made;
}

let asked = 0;

async function tenants() {
  const mine = ++asked;
  const query = new URLSearchParams({ sort: state.sort, order: state.order, offset: state.offset, limit: PAGE });
  if ($("search").value) query.set("search", $("search").value);
  const page = await told(`/v1/tenants?${query}`);
  if (mine !== asked) return; // a later question was asked meanwhile
  // Who stands on a link with the keyboard stays there.
  const held = document.activeElement?.closest("#tenants tbody a")?.hash;
  $("tenants").tBodies[0].replaceChildren(...page.tenants.map(row));
  if (held) $("tenants").querySelector(`tbody a[href="${held}"]`)?.focus({ preventScroll: true });
  const found = `${number(page.total)} found`;
  if ($("found").textContent !== found) $("found").textContent = found;
  const last = Math.min(state.offset + PAGE, page.total);
  $("page").textContent = page.total ? `${number(state.offset + 1)} to ${number(last)}` : "none";
  $("before").disabled = state.offset === 0;
  $("after").disabled = last >= page.total;
}

function line(parts, kind) {
  const made = element("li");
  for (const part of parts) made.append(part, " ");
  if (kind) made.classList.add(kind);
  return made;
}

const fault = (seen) => line([
  clock(seen.at_ms), element("b", seen.kind), seen.status || "message", seen.tenant ?? "", seen.route, element("small", seen.request_id),
]);

async function lists() {
  const [problems, certificates, faults, changes] = await Promise.all(
    ["/v1/problems", "/v1/certificates", "/v1/faults", "/v1/changes"].map(told));
  fill("problems", problems.slice(0, 100).map((problem) => {
    const where = `${problem.file}${problem.line ? `:${problem.line}:${problem.column}` : ""}`;
    const said = line([element("b", problem.code, problem.severity === "error" ? "bad" : "warn"), problem.summary, element("br"),
      element("small", `${where} – found ${problem.found}; wanted ${problem.wanted}${problem.hint ? `; ${problem.hint}` : ""}`)]);
    return said;
  }), "none");
  fill("certificates", certificates.slice(0, 100).map((certificate) => {
    const days = Math.floor((certificate.not_after_ms - Date.now()) / 86_400_000);
    const kind = days < 0 ? "bad" : days < 14 ? "warn" : "good";
    const end = days < 0 ? "expired" : `${days} days`;
    const doubts = certificate.doubts.map((doubt) => element("small", doubt, "warn"));
    return line([certificate.tenant, element("b", end, kind), element("small", `${certificate.names.join(", ")} (${certificate.from})`), ...doubts]);
  }), "none of the tenants' own: the development CA's are not listed");
  fill("faults", faults.slice(0, 100).map(fault), "none");
  fill("changes", changes.slice(0, 100).map((change) => line([
    clock(change.at_ms), element("b", change.action), element("small", `${change.status}, by ${change.by} from ${change.from}`),
  ])), "none since the gateway started");
}

// ---- one tenant

function held(name, level, text = number) {
  const made = line([name, element("b", `${text(level.now)} of ${text(level.max)}`)]);
  made.append(gauge(name, level.now, level.max));
  return made;
}

function gauge(name, now, max) {
  const meter = element("meter");
  [meter.max, meter.value, meter.high, meter.optimum] = [Math.max(max, 1), now, max * 0.9, 0];
  meter.setAttribute("aria-label", name);
  return meter;
}

function flow(name, rate, text = number) {
  if (!rate) return [];
  const made = line([name, element("b", `${text(rate.left)} left of ${text(rate.burst)}`), element("small", `plus ${text(rate.amount)} every ${number(rate.per_ms / 1000, 1)} s`)]);
  made.append(gauge(name, rate.burst - rate.left, rate.burst));
  return [made];
}

async function one() {
  const id = state.one;
  const answer = await call(`/v1/tenants/${id}`);
  const tenant = await answer.json();
  if (state.one !== id) return;
  state.etag = answer.headers.get("ETag");
  show(tenant);
  fill("one-faults", (await told(`/v1/faults?tenant=${id}`)).map(fault), "none");
}

function show(tenant) {
  $("one-name").textContent = tenant.id;
  const standing = element("b", tenant.standing, STANDINGS[tenant.standing]);
  $("one-standing").replaceChildren(standing, ` – ${tenant.hosts.join(", ")}`);
  const stopped = tenant.standing === "suspended";
  $("steer").textContent = stopped ? "Resume" : "Suspend";
  $("steer").dataset.call = stopped ? "resume" : "suspend";
  $("steer").className = stopped ? "" : "grave";
  const ends = tenant.certificate_not_after_ms;
  cards("one-cards", [
    ["Requests", `${number(tenant.requests_per_second, 1)}/s`, `${number(tenant.requests)} since the start`],
    ["5xx", `${number(tenant.errors_per_second, 1)}/s`],
    ["Latency p99", ms(tenant.latency.p99_ms), `p50 ${ms(tenant.latency.p50_ms)}`],
    ["Fuel", `${count(tenant.fuel_per_second)}/s`, tenant.usage ? `${count(tenant.usage.fuel_total)} in all` : ""],
    ["Storage", tenant.storage],
    ["Certificate expires", ends ? new Date(ends).toLocaleDateString("en-CA") : "–"],
  ]);
  const usage = tenant.usage;
  const kept = tenant.cache ? [held("Kept responses", tenant.cache, bytes)] : [];
  const space = tenant.stored;
  if (space) {
    kept.push(held("Data at rest", { now: space.bytes, max: space.bytes_max }, bytes), held("Keys", { now: space.keys, max: space.keys_max }));
  }
  fill("quotas", usage ? [
    held("Requests in flight", usage.in_flight), held("Connections", usage.connections), held("Memory", usage.memory, bytes),
    held("Outbound requests", usage.outbound_in_flight), ...kept, ...flow("Requests", usage.requests), ...flow("Fuel", usage.fuel, count),
    ...flow("Body bytes", usage.body_bytes, bytes), ...flow("Storage operations", usage.storage_ops),
    ...flow("Storage bytes", usage.storage_bytes, bytes), ...flow("Outbound request rate", usage.outbound), ...flow("Log bytes", usage.log_bytes, bytes),
  ] : [], "this tenant was never served");
  fill("routes", tenant.routes.map((route) => line([
    element("b", route.path), route.component, element("small", `${count(route.fuel)} fuel, ${bytes(route.memory)}, ${ms(route.time_ms)} – ${route.digest.slice(0, 12)}`),
  ])), "none");
  fill("one-problems", tenant.problems.map((problem) => element("li", problem, problem.includes("[W") ? "warn" : "bad")), "none");
}

// As long as the tenant is looked at; the gateway ends a stream after an hour, and then it is begun anew.
async function follow(id) {
  state.logs?.abort();
  state.logs = new AbortController();
  const { signal } = state.logs;
  while (!signal.aborted) {
    $("logs").textContent = "";
    await print(id, signal);
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

async function print(id, signal) {
  const shown = $("logs");
  try {
    for await (const text of lines(await call(`/v1/tenants/${id}/logs?lines=200&follow=true`, { signal }))) {
      if (!text) continue;
      const said = JSON.parse(text);
      const atEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 8;
      shown.append(`${clock(said.unix_ms)} ${said.component} ${said.stream}: ${said.text}\n`);
      while (shown.childNodes.length > 1000) shown.firstChild.remove();
      if (atEnd) shown.scrollTop = shown.scrollHeight;
    }
  } catch (error) {
    if (!signal.aborted) shown.append(`(${error.message})\n`);
  }
}

async function steer() {
  // What is asked for is for what was seen at this moment.
  const [id, what, etag] = [state.one, $("steer").dataset.call, state.etag];
  const grave = what === "suspend";
  $("sure-title").textContent = grave ? `Suspend ${id}?` : `Resume ${id}?`;
  $("sure-text").textContent = grave
    ? "Its requests get 503 from now on, and its running instances are ended. The suspension outlives a restart."
    : "Its requests are served again from now on.";
  $("sure").returnValue = ""; // Escape would leave the last answer
  $("sure").showModal();
  await new Promise((resolve) => $("sure").addEventListener("close", resolve, { once: true }));
  if ($("sure").returnValue !== "yes") return;
  try {
    const answer = await call(`/v1/tenants/${id}/${what}`, { method: "POST", headers: { "If-Match": etag } });
    state.etag = answer.headers.get("ETag");
    show(await answer.json());
    $("steered").textContent = grave ? "suspended" : "resumed";
  } catch (error) {
    $("steered").textContent = `not done: ${error.message}`;
    one().catch(() => {});
  }
}

// ---- the page

function ask(why = "") {
  state.token = "";
  sessionStorage.removeItem("token");
  state.logs?.abort();
  state.watch?.abort();
  $("refused").textContent = why;
  for (const part of ["whole", "one"]) $(part).hidden = true;
  $("leave").hidden = true;
  $("enter").hidden = false;
  $("token").focus();
  touch();
}

function enter(token) {
  state.token = token;
  state.since = Date.now();
  sessionStorage.setItem("token", token);
  $("enter").hidden = true;
  $("leave").hidden = false;
  route();
  watch();
  look();
}

// One after the other: what does not answer is not asked more often for it.
async function look() {
  if (!state.token || document.hidden || state.looking) return;
  state.looking = true;
  try {
    if (state.one) await one();
    else await Promise.all([tenants(), lists()]);
  } catch { /* said by touch(), or by ask() */ }
  state.looking = false;
}

function route() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", "#/");
    return enter(given);
  }
  if (!state.token) return ask();
  const id = location.hash.match(/^#\/tenants\/([a-z0-9-]{1,63})$/)?.[1] ?? null;
  const moved = state.one !== id;
  state.one = id;
  $("whole").hidden = id !== null;
  $("one").hidden = id === null;
  document.title = id ? `${id} – Tollgate` : "Tollgate";
  if (id && moved) {
    $("one-name").textContent = id;
    $("steered").textContent = "";
    follow(id);
  } else if (!id) {
    state.logs?.abort();
    build();
  }
  if (moved) $("main").focus();
  state.looking = false;
  look();
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
  if (state.charts.length) build();
}

$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme !== "dark";
  localStorage.setItem("theme", dark ? "dark" : "light");
  theme(dark);
});
$("leave").addEventListener("click", () => ask());
$("steer").addEventListener("click", steer);
$("enter").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value.trim());
  $("token").value = "";
});
$("find").addEventListener("submit", (event) => event.preventDefault());
let typing;
$("search").addEventListener("input", () => {
  state.offset = 0;
  clearTimeout(typing);
  typing = setTimeout(() => tenants().catch(() => {}), 150);
});
$("before").addEventListener("click", () => { state.offset = Math.max(0, state.offset - PAGE); tenants().catch(() => {}); });
$("after").addEventListener("click", () => { state.offset += PAGE; tenants().catch(() => {}); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, dialog") && !state.one) {
    event.preventDefault();
    $("search").focus();
  }
});
document.addEventListener("visibilitychange", look);
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (!state.one) build(); }, 200); });
addEventListener("hashchange", route);
setInterval(touch, 1000);
setInterval(look, EVERY);
theme((localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark");
heads();
state.token = sessionStorage.getItem("token") ?? "";
if (state.token && !location.hash.includes("token=")) enter(state.token);
else route();
