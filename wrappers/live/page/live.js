"use strict";

// What the server sends: an array of events as JSON, or a state with a picture as bytes (four bytes
// that give the length of the state, the state as JSON, the picture). What it gets: controls. The
// first event is the table of controls (protocol.py), from which buttons and keys are made.

const COLOURS = ["#009e73", "#d55e00", "#0072b2", "#cc79a7", "#e69f00", "#56b4e9"];
const MEAN_OF = 20;
const CHART_MILLISECONDS = 300;
const RECONNECT_MILLISECONDS = 1000;
const QUIET_SECONDS = 3;
const MINUS = "\u2212";

const byId = (id) => document.getElementById(id);

function number(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", MINUS);
}

// Ticks: never rounded to another number than they stand for.
function compact(value) {
  const [scale, unit] = Math.abs(value) >= 1e6 ? [1e6, "M"] : Math.abs(value) >= 1e3 ? [1e3, "k"] : [1, ""];
  return (value / scale).toLocaleString("en", { maximumFractionDigits: 4 }).replace("-", MINUS) + unit;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Controls ----------------------------------------------------------------------------------------

let table = [];
const keys = {}; // by key: a control and its value

// Of each button of a control: its value, label, key and title.
const buttonsOf = ({ choices, label, key, title }) => (choices.length ? choices : [[undefined, label, key, title]]);

function learnControls(controls) {
  if (table.length) return;
  table = controls;
  for (const control of table) {
    for (const [value, label, key, title] of buttonsOf(control).filter((button) => button[2])) {
      keys[key] = [control, value];
      const cells = [make("kbd", { textContent: nameOf(key) }), make("b", { textContent: label }), title];
      byId("keys").append(make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
    }
  }
}

const nameOf = (key) => (key === " " ? "space" : key.toUpperCase());

// One training ------------------------------------------------------------------------------------

class Run {
  constructor(index) {
    this.index = index;
    this.colour = COLOURS[index % COLOURS.length];
    this.known = {};
    this.points = [];
    this.spread = [];
    this.recent = [];
    this.count = 0;
    this.controls = {};
    this.buttons = [];
    this.low = Infinity;
    this.high = -Infinity;
    this.bars = [];
    this.isDecoding = false;
    const copy = byId("run").content.cloneNode(true);
    this.element = copy.querySelector("article");
    this.element.style.setProperty("--own", this.colour);
    this.parts = {};
    for (const part of copy.querySelectorAll("[data-is]")) this.parts[part.dataset.is] = part;
    this.makeControls();
    byId("nobody").hidden = true;
    byId("runs").append(copy);
    byId("runs").classList.toggle("several", byId("runs").children.length > 1);
  }

  get name() {
    return this.known.name ?? `Training ${this.index}`;
  }

  makeControls() {
    const groups = {};
    for (const control of table.filter((each) => each.group)) {
      const group = (groups[control.group] ??= make("div", { className: "group", role: "group", ariaLabel: control.group }));
      const buttons = buttonsOf(control).map(([value, label, key, title]) => {
        const text = make("span", { textContent: label });
        const element = make("button", { type: "button", title }, text, make("kbd", { textContent: nameOf(key) }));
        element.dataset.control = control.name;
        if (value !== undefined) element.dataset.value = value;
        element.addEventListener("click", () => this.use(control, value));
        this.buttons.push({ control, element, text, value, title });
        return element;
      });
      if (control.kind === "rate") group.append(this.makeSlider(control));
      const segments = { className: "segments", role: "group", ariaLabel: control.label };
      group.append(...(control.kind === "choice" ? [make("div", segments, ...buttons)] : buttons));
    }
    this.parts.controls.append(...Object.values(groups));
    this.parts.environment.addEventListener("change", ({ target }) => {
      send(this.index, "environment", target.value === "" ? null : Number(target.value));
    });
  }

  makeSlider(control) {
    this.slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, ariaLabel: "Exploration rate" });
    this.rate = make("output", { textContent: "–" });
    this.slider.dataset.is = "slider";
    this.rate.dataset.is = "rate";
    this.slider.addEventListener("input", () => {
      setText(this.rate, number(Number(this.slider.value)));
      send(this.index, control.name, Number(this.slider.value));
    });
    return make("label", { className: "slider" }, make("span", {}, "ε ", this.rate), this.slider);
  }

  // Why a control cannot work now; undefined if it can.
  reasonAgainst(control) {
    const reason = this.known.reasons?.[control.name];
    if (control.kind === "page") return this.pictures ? undefined : "There is no picture to film yet.";
    if (this.known.ended) return "Training is over.";
    if (!this.known.is_connected || (reason && !this.hasBegun)) return "The training has not started yet.";
    return reason;
  }

  // What a control does depends on how it stands.
  use(control, value) {
    const reason = this.reasonAgainst(control);
    const now = this.controls[control.name];
    if (reason) this.say(reason);
    else if (control.kind === "page") this.film();
    else if (control.kind === "flag") send(this.index, control.name, !now);
    else if (control.kind === "rate") send(this.index, control.name, now === null ? Number(this.slider.value) : null);
    else send(this.index, control.name, value ?? null);
  }

  say(text) {
    setText(this.parts.notice, text);
  }

  take({ run, snapshot, episodes, points, count, spread, td_error, vitals, notice, controls, ...known }) {
    if (snapshot) {
      ({ controls, ...known } = snapshot);
      for (const key of ["points", "recent", "count", "spread"]) {
        this[key] = known[key];
        delete known[key];
      }
      this.known = {};
    }
    if (episodes) {
      this.points.push(...points);
      this.recent = this.recent.concat(episodes).slice(-100);
      this.count = count;
    }
    if (!snapshot && spread) this.spread.push(...spread);
    if (snapshot || episodes || spread) for (const chart of charts) chart.isStale = true;
    if (td_error !== undefined) setText(this.parts.td_error, number(td_error));
    if (notice) this.say(notice);
    if (controls) this.controls = controls;
    Object.assign(this.known, known);
    if (vitals) {
      this.quiet = vitals.quiet;
      setText(this.parts.speed, this.state ? `${number(vitals.speed, 0)} steps/s` : "");
      setText(this.parts.memory, vitals.memory ? `${number(vitals.memory, 0)} MiB` : "");
    }
    if (Object.keys(known).length) this.describe();
    this.showPhase();
    if (controls || Object.keys(known).length) this.showControls();
  }

  describe() {
    setText(this.parts.name, this.name);
    this.parts.picture.setAttribute("aria-label", `${this.known.environment}, as ${this.name} plays it`);
    const many = this.known.n_envs > 1;
    this.element.querySelector(".choose").hidden = !many;
    const select = this.parts.environment;
    if (many && !select.options.length) {
      select.append(new Option("all environments", ""));
      for (let index = 0; index < this.known.n_envs; index++) select.append(new Option(`environment ${index}`, index));
    }
    if (this.known.ended) this.recorder?.stop();
    describePage();
  }

  get hasBegun() {
    return this.state?.steps > 0 || this.count > 0;
  }

  // What goes on: a name, the badge, its tone, and what to say of it.
  get phase() {
    const { known, controls } = this;
    const quiet = Math.round(this.quiet ?? 0);
    if (known.failed) return ["failed", "Ended by an error", "bad", known.ended];
    if (known.ended) return ["ended", "Ended", "", known.ended];
    if (known.raised) return ["raised", "The environment failed", "bad", known.raised];
    if (!known.is_connected) return ["starting", "Starting", "busy", "Its process is starting."];
    if (known.compiling) {
      return ["compiling", `Compiling, ${quiet} s`, "busy", "The learner is compiled for this machine. It takes about ten seconds, then training begins."];
    }
    if (controls.look) return ["look", "Greedy look", "", "How it would act now. Training waits."];
    if (controls.pause) return ["paused", "Paused", "", ""];
    if (!this.hasBegun) return ["waiting", "Waiting", "busy", "The training is about to begin."];
    if (quiet > QUIET_SECONDS) return ["quiet", `No step for ${quiet} s`, "busy", "An update or a step takes its time."];
    if (known.plays) return ["playing", "Playing a saved model", "good", ""];
    if (controls.learning === false) return ["frozen", "Learning is off", "bad", ""];
    return ["training", "Training", "good", ""];
  }

  showPhase() {
    const [phase, text, tone, why] = this.phase;
    this.element.dataset.phase = phase;
    setText(this.parts.status, text);
    this.parts.status.dataset.tone = tone;
    const { over } = this.parts;
    over.hidden = ["training", "playing", "frozen"].includes(phase);
    over.dataset.tone = tone;
    setText(over, why || text);
    if (this.known.blind && this.known.blind !== this.said) this.say((this.said = this.known.blind));
    let missing = "The model has neither Q-values nor probabilities to show.";
    if (!this.hasBegun) missing = "Q-values are shown when training has begun.";
    else if (!this.known.settings?.algorithm) missing = this.known.reasons?.save ?? "";
    setText(this.parts["no-values"], missing);
  }

  showControls() {
    const now = this.controls;
    for (const { control, element, text, value, title } of this.buttons) {
      const reason = this.reasonAgainst(control);
      const state = control.kind === "page" ? Boolean(this.recorder) : now[control.name];
      const isOn = control.kind === "choice" ? state === value : control.kind === "rate" ? typeof state === "number" : state;
      element.setAttribute("aria-disabled", String(Boolean(reason)));
      element.title = reason ?? title;
      if (typeof isOn === "boolean") element.setAttribute("aria-pressed", String(isOn));
      if (control.pressed) setText(text, isOn ? control.pressed : control.label);
      if (control.kind === "rate") {
        this.slider.disabled = Boolean(reason);
        this.slider.parentElement.setAttribute("aria-disabled", String(Boolean(reason)));
        this.slider.parentElement.title = reason ?? "";
        if (isOn && document.activeElement !== this.slider) this.slider.value = state;
      }
    }
    this.parts.environment.value = now.environment ?? "";
  }

  showState(state, picture) {
    const hadBegun = this.hasBegun;
    this.state = state;
    this.quiet = 0;
    setText(this.parts.steps, `${number(state.steps, 0)} steps`);
    setText(this.parts.episode, number(state.episode, 0));
    setText(this.parts.length, number(state.length, 0));
    setText(this.parts.return, number(state.return, 1));
    const rate = state.exploration_rate;
    if (document.activeElement !== this.slider) {
      setText(this.rate, number(rate));
      if (rate !== null && this.controls.exploration === null) this.slider.value = rate;
    }
    this.showValues(state);
    if (picture.byteLength) this.draw(picture);
    if (!hadBegun) this.showControls();
    this.showPhase();
  }

  showValues(state) {
    const { values, possible } = state;
    this.parts["no-values"].hidden = Boolean(values);
    this.parts.kind.parentElement.hidden = !values;
    if (!values) {
      this.parts.values.replaceChildren();
      this.bars = [];
      return;
    }
    if (this.bars.length !== values.length || this.barsOf !== this.known.action_names) this.makeBars(values.length);
    const isQ = state.kind === "Q";
    setText(this.parts.kind, isQ ? "Q-values" : "Probability of each action");
    const isPossible = (index) => possible?.[index] !== false;
    const [low, high] = isQ ? this.follow(values.filter((_, index) => isPossible(index))) : [0, 1];
    const place = (value) => (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low || 1);
    const origin = low <= 0 && high >= 0 ? 0 : low;
    values.forEach((value, index) => {
      const bar = this.bars[index];
      bar.row.classList.toggle("greedy", index === state.greedy);
      bar.row.classList.toggle("taken", index === state.action);
      bar.row.classList.toggle("impossible", !isPossible(index));
      const [left, right] = value === null ? [0, 0] : [place(origin), place(value)].sort((a, b) => a - b);
      bar.fill.style.left = `${left}%`;
      bar.fill.style.width = `${right - left}%`;
      bar.zero.style.left = `${place(origin)}%`;
      bar.zero.hidden = !(low < 0 && high > 0);
      setText(bar.number, isPossible(index) ? number(value) : "impossible");
    });
  }

  // The axis follows the values at once outwards and slowly inwards, as in the recorded videos.
  follow(values) {
    const finite = values.filter((value) => value !== null);
    if (finite.length) {
      const low = Math.min(...finite);
      const high = Math.max(...finite);
      this.low = low < this.low ? low : this.low + 0.02 * (low - this.low);
      this.high = high > this.high ? high : this.high + 0.02 * (high - this.high);
    }
    if (this.low > this.high) return [0, 1];
    let [low, high] = [this.low, this.high];
    const spread = Math.max(high - low, 1e-6 * Math.max(Math.abs(low), Math.abs(high)), 1e-9);
    if (low > 0 && low < 2 * spread) low = 0;
    else if (high < 0 && high > -2 * spread) high = 0;
    if (low > 0 || high < 0) low -= 0.25 * spread;
    return [low, Math.max(high, low + spread)];
  }

  makeBars(count) {
    this.barsOf = this.known.action_names;
    this.element.querySelector(".values").classList.toggle("many", count > 6);
    const part = (className, ...children) => make("span", { className }, ...children);
    this.bars = Array.from({ length: count }, (_, index) => {
      const [fill, zero, value] = [part("fill"), part("zero"), part("number")];
      const name = part("name", this.known.action_names?.[index] ?? `action ${index}`);
      const row = make("li", {}, part("mark"), name, part("track", fill, zero), value);
      return { row, fill, zero, number: value };
    });
    this.parts.values.replaceChildren(...this.bars.map((bar) => bar.row));
  }

  async draw(picture) {
    this.newest = picture;
    if (this.isDecoding) return;
    this.isDecoding = true;
    try {
      const bitmap = await createImageBitmap(new Blob([picture]));
      const canvas = this.parts.picture;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
        canvas.style.setProperty("--ratio", bitmap.width / bitmap.height);
        canvas.classList.toggle("few-pixels", bitmap.width < 300);
      }
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
      this.pictures = (this.pictures ?? 0) + 1;
      if (this.pictures === 1) this.showControls();
    } finally {
      this.isDecoding = false;
    }
    if (this.newest !== picture) this.draw(this.newest); // in a pause no other one comes
  }

  // What is on the page, from one press to the next, as a file.
  film() {
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    const pieces = [];
    const mimeType = ["video/mp4", "video/webm"].find((type) => MediaRecorder.isTypeSupported(type));
    this.recorder = new MediaRecorder(this.parts.picture.captureStream(), { mimeType, videoBitsPerSecond: 4e6 });
    this.recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
    this.recorder.addEventListener("stop", () => {
      this.recorder = null;
      const file = `${this.known.environment}_${this.name}`.replace(/[^A-Za-z0-9._-]/g, "_");
      const href = URL.createObjectURL(new Blob(pieces, { type: mimeType }));
      make("a", { href, download: `${file}.${mimeType.slice(6)}` }).click();
      this.showControls();
    });
    this.recorder.start();
    this.showControls();
  }
}

const runs = [];

function runOf(index) {
  while (runs.length <= index) runs.push(new Run(runs.length));
  return runs[index];
}

function describePage() {
  const environments = [...new Set(runs.map((run) => run.known.environment).filter(Boolean))];
  const names = runs.map((run) => run.name).join(", ");
  setText(byId("title"), environments.join(", ") || "Training, live");
  document.title = environments.length ? `${names} on ${environments.join(", ")}` : "Training, live";
  showConnection();
  byId("settings").replaceChildren(
    ...runs.map(({ name, known }) => {
      const settings = {
        environment: known.environment,
        environments: known.n_envs ?? "",
        ...known.settings,
        ...known.versions,
        "models are saved in": known.folder ?? "",
      };
      const pairs = Object.entries(settings).map(([term, text]) =>
        make("div", {}, make("dt", { textContent: term }), make("dd", { textContent: text })),
      );
      return make("section", {}, make("h3", { textContent: name }), make("dl", {}, ...pairs));
    }),
  );
}

// The curves --------------------------------------------------------------------------------------

let axis = "steps";

function places(points) {
  const x = [];
  for (const point of points) {
    const at = point[axis === "steps" ? 0 : 1];
    // Two episodes that end at one time, of several environments, must not share a place.
    x.push(x.length && at <= x[x.length - 1] ? x[x.length - 1] + 1e-6 : at);
  }
  return x;
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const NO_LINE = { paths: () => null };

const RETURNS = {
  points: (run) => run.points,
  columns({ points }) {
    let sum = 0;
    const means = points.map((point, index) => {
      sum += point[2] - (index >= MEAN_OF ? points[index - MEAN_OF][2] : 0);
      return sum / Math.min(index + 1, MEAN_OF);
    });
    return [points.map((point) => point[2]), means, points.map((point) => (point[4] ? point[2] : null))];
  },
  series: ({ colour }) => [
    { ...NO_LINE, points: { show: true, size: 4, width: 0, fill: `${colour}66` } },
    { stroke: colour, width: 2, spanGaps: true, points: { show: false } },
    { ...NO_LINE, points: { show: true, size: 8, width: 1.5, fill: "transparent", stroke: colourOf("--ink") } },
  ],
  bands: () => [],
  thresholds: () => [...new Set(runs.map((run) => run.known.threshold ?? null))].filter((value) => value !== null),
  legend({ count, known }, [, means]) {
    const per = known.per_point > 1 ? `, ${known.per_point} a point` : "";
    return [`mean of ${MEAN_OF}`, number(means.at(-1), 1), `${number(count, 0)} episodes${per}`];
  },
};

const SPREAD = {
  points: (run) => run.spread,
  columns: ({ spread }) => [spread.map((point) => point[2]), spread.map((point) => point[3])],
  series: ({ colour }) => [2, 1].map((width) => ({ stroke: colour, width, spanGaps: true, points: { show: false } })),
  bands: ({ colour }, first) => [{ series: [first, first + 1], fill: `${colour}2e` }],
  thresholds: () => [],
  legend: (_, [highest, lowest]) => ["", `${number(lowest.at(-1), 1)} to ${number(highest.at(-1), 1)}`, ""],
};

class Chart {
  constructor(id, kind) {
    this.kind = kind;
    this.isStale = true;
    this.layout = "";
    this.section = byId(id);
    this.place = this.section.querySelector(".plot");
  }

  draw() {
    if (!this.isStale || typeof uPlot === "undefined") return;
    this.isStale = false;
    const drawn = runs.filter((run) => this.kind.points(run).length);
    this.section.querySelector(".empty").hidden = drawn.length > 0;
    if (!drawn.length) return;
    const columns = drawn.map((run) => this.kind.columns(run));
    const tables = drawn.map((run, index) => [places(this.kind.points(run)), ...columns[index]]);
    const data = tables.length === 1 ? tables[0] : uPlot.join(tables);
    const layout = [axis, ...drawn.map((run) => run.index), ...this.kind.thresholds()].join();
    if (layout !== this.layout) {
      this.layout = layout;
      this.make(drawn, data);
    } else {
      this.plot.setData(data);
    }
    this.section.querySelector(".legend").replaceChildren(
      ...drawn.map((run, index) => {
        const dot = make("span", { className: "dot" });
        dot.style.setProperty("--own", run.colour);
        const [before, value, after] = this.kind.legend(run, columns[index]);
        return make("li", {}, dot, `${runs.length > 1 ? `${run.name} ` : ""}${before}`, make("b", { textContent: value }), after);
      }),
    );
    if (this.kind === RETURNS && byId("episodes").open) showTable();
  }

  make(drawn, data) {
    this.plot?.destroy();
    const thresholds = this.kind.thresholds();
    const series = drawn.map((run) => this.kind.series(run));
    const first = (index) => 1 + series.slice(0, index).flat().length;
    const style = { stroke: colourOf("--soft"), grid: { stroke: colourOf("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const axisStyle = { ...style, values: (_, splits) => splits.map(compact) };
    const range = (_, low, high) => {
      const all = [low, high, ...thresholds].filter(Number.isFinite);
      const [least, most] = [Math.min(...all), Math.max(...all)];
      const room = 0.06 * (most - least || 1);
      return [least - room, most + room];
    };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { points: { show: false }, drag: { x: true, y: false } },
        scales: { x: { time: false }, y: { range } },
        axes: [{ ...axisStyle, size: 30 }, { ...axisStyle, size: 52 }],
        series: [{}, ...series.flat()],
        bands: drawn.flatMap((run, index) => this.kind.bands(run, first(index))),
        hooks: { draw: [(u) => thresholds.forEach((value) => drawThreshold(u, value, colourOf("--soft")))] },
      },
      data,
      this.place,
    );
  }

  size() {
    // What is above takes what it needs; the curves take what is left of the screen.
    const top = this.place.getBoundingClientRect().top + scrollY;
    const height = Math.min(Math.max(innerHeight - top - 50, 170), 340);
    return { width: Math.max(this.place.clientWidth, 200), height: innerWidth < 860 ? 220 : height };
  }
}

const charts = [new Chart("returns", RETURNS), new Chart("spread", SPREAD)];

function showTable() {
  const rows = runs.flatMap((run) =>
    run.recent.map((episode, index) => [run.name, run.count - run.recent.length + index, episode]),
  );
  byId("rows").replaceChildren(
    ...rows.reverse().map(([name, index, [steps, seconds, value, length, changed]]) => {
      const cells = [name, number(index, 0), number(steps, 0), number(seconds, 1), number(value, 1), number(length, 0), changed];
      return make("tr", {}, ...cells.map((text) => make("td", { textContent: text })));
    }),
  );
}

function drawThreshold(u, value, colour) {
  const { ctx, bbox } = u;
  const y = u.valToPos(value, "y", true);
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 5 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  ctx.fillText(`solved: ${number(value, 0)}`, bbox.left + 6 * devicePixelRatio, y - 2 * devicePixelRatio);
  ctx.restore();
}

function redraw() {
  for (const chart of charts) Object.assign(chart, { layout: "", isStale: true });
}

setInterval(() => charts.forEach((chart) => chart.draw()), CHART_MILLISECONDS);
new ResizeObserver(() => charts.forEach((chart) => chart.plot?.setSize(chart.size()))).observe(byId("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
byId("episodes").addEventListener("toggle", showTable);
for (const button of document.querySelectorAll("[data-axis]")) {
  button.addEventListener("click", () => {
    axis = button.dataset.axis;
    redraw();
    for (const each of document.querySelectorAll("[data-axis]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
  });
}

// The connection ----------------------------------------------------------------------------------

let socket = null;

function send(run, control, value) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ run, control, value }));
}

function showConnection() {
  let [text, tone] = ["Live", "good"];
  if (runs.length && runs.every((run) => run.known.ended)) [text, tone] = ["Over", ""];
  else if (socket?.readyState === WebSocket.CLOSED) [text, tone] = ["Connection lost, the curve stays", "bad"];
  else if (!runs.some((run) => run.known.is_connected)) [text, tone] = ["Waiting", "busy"];
  setText(byId("connection"), text);
  byId("connection").dataset.tone = tone;
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket${location.search}`); // with the token
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    showConnection();
    tellVisibility();
  });
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      for (const event of JSON.parse(data)) {
        if (event.table) learnControls(event.table);
        else runOf(event.run).take(event);
      }
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const { run, state } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    runOf(run).showState(state, new Uint8Array(data, 4 + length));
  });
  socket.addEventListener("close", () => {
    showConnection(); // what was seen so far stays on the page
    setTimeout(connect, RECONNECT_MILLISECONDS);
  });
}

// A page in a tab behind others needs no pictures.
function tellVisibility() {
  send(null, "pictures", document.visibilityState === "visible");
}
document.addEventListener("visibilitychange", tellVisibility);

// The keyboard ------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const focused = document.activeElement;
  if (focused.matches("input, select")) return;
  if (event.key === "?") {
    byId("help").showModal();
    return;
  }
  // Space and Enter press what has the focus.
  if (event.key === " " && focused.matches("button, summary, a")) return;
  const meant = keys[event.key.toLowerCase()];
  if (!meant) return;
  event.preventDefault();
  const inside = runs.filter((run) => run.element.contains(focused));
  for (const run of inside.length ? inside : runs) run.use(...meant);
});
byId("help-button").addEventListener("click", () => byId("help").showModal());

connect();
