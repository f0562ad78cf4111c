// The operators' page: figures of each second by server-sent events, the rest by the API. No framework; `charts.js` draws.
"use strict";

const KEPT = 300; // seconds that are kept one by one
const STEP = 5000; // ms between two looks at the history
const PAGE = 50; // tenants at a time
const EVERY = 2000; // ms between two looks at what does not come by itself
const LOST_AFTER = 5000; // ms without a figure
const PATIENCE = 10000; // ms for one answer

const state = { token: "", ticks: [], last: 0, since: Date.now(), sort: "requests", order: "descending", offset: 0, one: null, steps: [], oneSteps: [], asked: 0, askedFor: null, span: "1h", etag: "", logs: null, watch: null, looking: false };

// ---- lists and cards

function fill(list, rows, nothing) {
  $(list).replaceChildren(...(rows.length ? rows : [element("li", nothing)]));
}

function cards(list, of) {
  const parts = of.map(([name, value, ...more]) => {
    const box = element("div");
    const told = element("dd", value);
    for (const text of more) if (text) told.append(" ", text instanceof Node ? text : element("small", text));
    box.append(element("dt", name), told);
    return box;
  });
  $(list).replaceChildren(...parts);
}

// Errors are red and warnings amber, here as everywhere.
function problems({ problems, warnings }) {
  const told = [];
  if (problems) told.push(element("small", some(problems, "error"), "bad"));
  if (warnings) told.push(element("small", some(warnings, "warning"), "warn"));
  return told;
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
    ["Requests", `${number(tick.requests_per_second)}/s`, `${number(tick.in_flight_peak)} in flight`],
    ["Latency p99", ms(tick.latency.p99_ms), `p50 ${ms(tick.latency.p50_ms)}`],
    ["Faults", `${number(faults)}/s`, tick.faults.map((fault) => fault.kind).slice(0, 2).join(", ")],
    ["Fuel", `${count(tick.fuel_per_second)}/s`],
    ["Instances, peak", number(tick.instances_peak), `of ${number(tick.instances.max)}, ${number(tick.waiting_peak)} waiting`],
    ["Instance memory, peak", bytes(tick.memory_peak), `of ${bytes(tick.memory.max)}`],
    ["Connections", number(tick.connections)],
    ["Storage p99", ms(tick.storage_latency.p99_ms), `${number(tick.storage_calls_per_second)}/s`],
    ["Kept responses", `${number(tick.cache_asked_per_second)}/s`, hits],
    ["Tenants", number(tick.tenants), ...problems(tick)],
  ]);
  draw();
}

// ---- charts

const charts = new Charts($("charts"), [REQUESTS, LATENCY, INSTANCES, MEMORY]);
const tenantsCharts = new Charts($("one-charts"), [REQUESTS, LATENCY, IN_FLIGHT, MEMORY]);

function draw() {
  const span = SPANS[state.span];
  if (state.one) tenantsCharts.draw(state.oneSteps, span);
  else charts.draw(span === SPANS["5m"] ? joined(state.steps, state.ticks.map(ofTick)) : state.steps, span);
}

function build() {
  (state.one ? tenantsCharts : charts).build();
  draw();
}

function span(name) {
  state.span = name;
  localStorage.setItem("span", name);
  for (const button of document.querySelectorAll("[data-span]")) button.setAttribute("aria-pressed", String(button.dataset.span === name));
  draw();
}

// Steps that ended since the last one that is known.
async function past() {
  const id = state.one;
  const known = id ? state.oneSteps : state.steps;
  // A step is ten seconds; so often, and no more, is one asked for.
  if (Date.now() - state.asked < STEP && state.askedFor === id) return;
  [state.asked, state.askedFor] = [Date.now(), id];
  const after = known.length ? Math.round(known.at(-1).at * 1000) : 0;
  const kept = await told(`/v1/${id ? `tenants/${id}/` : ""}history?after_ms=${after}`);
  if (state.one !== id) return;
  const steps = [...known, ...kept.steps.map(ofStep)].slice(-kept.steps_max);
  if (id) {
    state.oneSteps = steps;
    $("one-kept").textContent = kept.is_kept ? "" : "No history is kept: this tenant is not among the 64 busiest.";
  } else {
    state.steps = steps;
  }
  draw();
}

// ---- tenants

const COLUMNS = [
  ["Tenant", "id"], ["Status", "standing"], ["Hosts", null], ["Requests/s", "requests"], ["5xx/s", "errors"],
  ["Fuel/s", "fuel"], ["In flight, peak", "in-flight"], ["Memory, peak", "memory"], ["Problems", null],
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
    number(tenant.errors_per_second, 1), count(tenant.fuel_per_second), `${number(tenant.in_flight_peak)} of ${number(tenant.in_flight_max)}`,
    `${bytes(tenant.memory_peak)} of ${bytes(tenant.memory_max)}`, problems(tenant),
  ];
  for (const cell of cells) made.insertCell().append(...[cell].flat());
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
  past().catch(() => {});
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
    held("Requests in flight, peak", { now: tenant.in_flight_peak, max: usage.in_flight.max }), held("Connections", usage.connections),
    held("Memory, peak", { now: tenant.memory_peak, max: usage.memory.max }, bytes),
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
    else await Promise.all([tenants(), lists(), past()]);
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
    $("one-kept").textContent = "";
    state.oneSteps = [];
    build();
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
  if (state.token) build();
}

$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme !== "dark";
  localStorage.setItem("theme", dark ? "dark" : "light");
  theme(dark);
});
for (const button of document.querySelectorAll("[data-span]")) button.addEventListener("click", () => span(button.dataset.span));
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
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (state.token) build(); }, 200); });
addEventListener("hashchange", route);
setInterval(touch, 1000);
setInterval(look, EVERY);
theme((localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark");
span(localStorage.getItem("span") in SPANS ? localStorage.getItem("span") : "1h");
heads();
state.token = sessionStorage.getItem("token") ?? "";
if (state.token && !location.hash.includes("token=")) enter(state.token);
else route();
