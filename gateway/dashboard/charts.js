// The charts: the last hour in steps of ten seconds, or the last five minutes in seconds where the page was open. uPlot draws.
"use strict";

const SPANS = { "5m": 300, "1h": 3600 }; // seconds
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1e3, 1e4, 1e5, 1e6].flatMap((n) => [n, 2 * n, 5 * n])];
const DOUBLINGS = Array.from({ length: 44 }, (_, power) => 2 ** power);

// Each is drawn from points: `at` in seconds since 1970, and what is named here.
const REQUESTS = { title: "Requests per second", incrs: WHOLE, names: ["2xx", "3xx", "4xx", "5xx"], colours: [2, 1, 3, 4], of: (point) => point.classes, text: count };
const LATENCY = { title: "Latency", names: ["p50", "p90", "p99"], colours: [1, 3, 4], of: (point) => point.latency, text: ms, mark: (n) => (n < 1000 ? `${number(n, 2)} ms` : `${number(n / 1000, 1)} s`) };
const IN_FLIGHT = { title: "Requests in flight, peak", incrs: WHOLE, names: ["in flight"], colours: [1], of: (point) => [point.inFlight], text: count };
const INSTANCES = { title: "Instances, peak", incrs: WHOLE, names: ["running", "waiting"], colours: [1, 3], of: (point) => [point.instances, point.waiting], text: count };
const MEMORY = { title: "Instance memory, peak", incrs: DOUBLINGS, names: ["in use"], colours: [5], of: (point) => [point.memory], text: bytes };

const latencies = ({ p50_ms, p90_ms, p99_ms }) => [p50_ms, p90_ms, p99_ms];

// A second that the gateway told, a step of its history, and a step of a tenant's, as points.
const ofTick = (tick) => ({
  at: tick.at_ms / 1000, classes: tick.by_class_per_second.slice(1), latency: latencies(tick.latency),
  instances: tick.instances_peak, waiting: tick.waiting_peak, memory: tick.memory_peak, inFlight: tick.in_flight_peak,
});
const ofStep = (step) => ({
  at: step.at_ms / 1000, classes: step.requests_by_class.slice(1).map((requests) => (1000 * requests) / step.took_ms), latency: latencies(step.latency),
  instances: step.instances_peak, waiting: step.waiting_peak, memory: step.memory_peak, inFlight: step.in_flight_peak,
});

// Seconds where there are any, and steps for the time before.
function joined(steps, ticks) {
  const first = ticks[0]?.at ?? Infinity;
  return [...steps.filter((step) => step.at < first), ...ticks];
}

// Values with nothing on either side: a line alone would not show them.
function lonely(drawn, series) {
  const values = drawn.data[series];
  const is = (at) => values[at] != null;
  const found = [];
  for (let at = 0; at < values.length; at += 1) if (is(at) && !is(at - 1) && !is(at + 1)) found.push(at);
  return found;
}

class Charts {
  constructor(place, of) {
    [this.place, this.of, this.drawn, this.points, this.span] = [place, of, [], [], SPANS["1h"]];
  }

  // Anew, as after a change of theme or width.
  build() {
    this.drawn.forEach((drawn) => drawn.destroy());
    const figures = this.of.map(frame);
    // All of them stand in their places before one is measured.
    this.place.replaceChildren(...figures);
    this.drawn = this.of.map((of, at) => chart(of, figures[at]));
    this.draw(this.points, this.span);
  }

  draw(points, span) {
    [this.points, this.span] = [points, span];
    const end = points.at(-1)?.at ?? Date.now() / 1000;
    const shown = points.filter((point) => point.at > end - span);
    // A first point without values, so that axes and grid are there from end to end whatever is known.
    const times = [end - span, ...shown.map((point) => point.at)];
    if (!shown.length) times.push(end);
    this.drawn.forEach((drawn, at) => {
      const rows = shown.map(this.of[at].of);
      drawn.setData([times, ...this.of[at].names.map((_, series) => {
        const values = rows.map((row) => row[series] ?? null);
        return [null, ...(values.length ? values : [null])];
      })]);
      legend(drawn, this.of[at]);
    });
  }
}

function frame({ title, names, colours }) {
  const figure = element("figure");
  const caption = element("figcaption", `${title} `);
  names.forEach((name, at) => caption.append(element("b", name, `k${colours[at]}`), element("span", "–")));
  figure.append(caption);
  figure.setAttribute("aria-label", title);
  return figure;
}

// Beside each name: what is under the pointer, or else what is newest.
function legend(drawn, { text }) {
  const at = drawn.cursor.idx ?? drawn.data[0].length - 1;
  // While it is made it stands nowhere yet.
  const said = drawn.root.parentElement?.querySelectorAll("figcaption span");
  said?.forEach((span, series) => {
    const value = drawn.data[series + 1][at];
    span.textContent = value == null ? "–" : text(value);
  });
}

function chart(of, figure) {
  const { incrs, names, colours, text, mark } = of;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const line = (name, at) => ({
    label: name, stroke: colour(`--c${colours[at]}`), width: 1.5, points: { show: true, size: 4, filter: lonely },
  });
  const options = {
    width: Math.max(figure.clientWidth - 24, 200), height: 144, legend: { show: false }, pxAlign: false, padding: [8, 20, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    axes: [
      { ...axis, size: 26, gap: 8, space: 70, values: (_, marks) => marks.map((at) => clock(at * 1000).slice(0, 5)) },
      { ...axis, size: 60, space: 24, values: (_, marks) => marks.map(mark ?? text), ...(incrs && { incrs }) },
    ],
    scales: {
      x: { range: (drawn) => [drawn.data[0][0], drawn.data[0].at(-1)] },
      y: { range: (_, __, max) => [0, Math.max(max ?? 0, 1) * 1.1] },
    },
    series: [{}, ...names.map(line)],
    hooks: { setCursor: [(drawn) => legend(drawn, of)] },
  };
  return new uPlot(options, [[0, 1], ...names.map(() => [null, null])], figure);
}
