"use strict";

// What the server sends: an array of events as JSON, or a state with a picture as bytes (four bytes
// that give the length of the state, the state as JSON, the picture). What it gets: controls.

const COLOURS = ["#009e73", "#d55e00", "#0072b2", "#cc79a7", "#e69f00", "#56b4e9"];
const MEAN_OF = 20;
const CHART_MILLISECONDS = 300;
const RECONNECT_MILLISECONDS = 1000;
const MINUS = "\u2212";

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const token = query.get("token");
const withToken = (path) => (token ? `${path}?token=${encodeURIComponent(token)}` : path);

function number(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", MINUS);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// One training ------------------------------------------------------------------------------------

class Run {
  constructor(index) {
    this.index = index;
    this.colour = COLOURS[index % COLOURS.length];
    this.known = {};
    this.points = [];
    this.recent = [];
    this.count = 0;
    this.controls = {};
    this.low = Infinity;
    this.high = -Infinity;
    this.bars = [];
    this.isDecoding = false;
    this.isFilming = false;
    const copy = byId("run").content.cloneNode(true);
    this.element = copy.querySelector("article");
    this.element.style.setProperty("--own", this.colour);
    this.parts = {};
    for (const part of copy.querySelectorAll("[data-is]")) this.parts[part.dataset.is] = part;
    byId("runs").append(copy);
    byId("runs").classList.toggle("several", byId("runs").children.length > 1);
    this.listen();
  }

  get name() {
    return this.known.name ?? `Training ${this.index}`;
  }

  listen() {
    for (const button of this.element.querySelectorAll("button[data-control]")) {
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-disabled") === "true") {
          this.say(button.title);
        } else {
          this.use(button.dataset.control, button.dataset.value);
        }
      });
    }
    this.parts.slider.addEventListener("input", () => {
      const rate = Number(this.parts.slider.value);
      setText(this.parts.rate, number(rate));
      send(this.index, "exploration", rate);
    });
    this.parts.environment.addEventListener("change", () => {
      const value = this.parts.environment.value;
      send(this.index, "environment", value === "" ? null : Number(value));
    });
  }

  // A control by its name: what it does depends on how it stands.
  use(control, value) {
    const now = this.controls;
    if (this.known.reasons?.[control]) {
      this.say(this.known.reasons[control]);
    } else if (control === "pause") {
      send(this.index, "pause", !now.paused);
    } else if (control === "learning") {
      send(this.index, "learning", !now.learning);
    } else if (control === "speed") {
      send(this.index, "speed", Number(value));
    } else if (control === "exploration") {
      send(this.index, "exploration", now.exploration === null ? Number(this.parts.slider.value) : null);
    } else {
      if (control === "film") {
        this.isFilming = true;
        this.say(`Filming the ${this.known.n_envs > 1 ? "next" : "last"} episode …`);
      }
      send(this.index, control, null);
    }
  }

  say(text) {
    setText(this.parts.notice, text);
  }

  take(event) {
    if (event.snapshot) {
      const { points, recent, count, controls, ...known } = event.snapshot;
      this.known = known;
      Object.assign(this, { points, recent, count });
      this.controls = controls ?? {};
      this.describe();
      this.showControls();
      chart.isStale = true;
    }
    if (event.episodes) {
      // Where several episodes are one point, the next snapshot has them.
      if (this.known.per_point === 1) this.points.push(...event.episodes);
      this.recent = this.recent.concat(event.episodes).slice(-100);
      this.count = event.count;
      chart.isStale = true;
    }
    if (event.outcome) {
      setText(this.parts.td_error, "td_error" in event.outcome ? number(event.outcome.td_error) : "–");
    }
    if (event.vitals) this.showVitals(event.vitals);
    if (event.notice) this.say(event.notice);
    if (event.controls) {
      this.controls = event.controls;
      this.showControls();
    }
    if ("film" in event && this.isFilming) {
      this.isFilming = false;
      if (event.film) this.download();
    }
    let isNew = false;
    for (const key of ["settings", "reasons", "name", "ended", "failed", "raised", "blind", "compiling"]) {
      if (key in event) {
        this.known[key] = event[key];
        isNew = true;
      }
    }
    if (isNew) {
      this.describe();
      this.showControls();
    }
  }

  download() {
    const link = document.createElement("a");
    link.href = withToken(`film/${this.index}.mp4`);
    link.download = ""; // the server names it
    link.click();
    this.say("The episode was filmed.");
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
    this.showStatus();
    describePage();
  }

  showStatus() {
    let [text, tone] = ["Training", "good"];
    if (this.known.ended) [text, tone] = [this.known.failed ? "Ended by an error" : "Ended", this.known.failed ? "bad" : ""];
    else if (this.known.raised) [text, tone] = ["The environment failed", "bad"];
    else if (this.controls.looking) [text, tone] = ["Greedy look, training waits", ""];
    else if (this.controls.paused) [text, tone] = ["Paused", ""];
    else if (this.known.compiling) [text, tone] = ["Compiling, once on this machine", ""];
    else if (this.quiet > 3) [text, tone] = [`No step for ${Math.round(this.quiet)} s`, ""];
    else if (this.controls.learning === false) [text, tone] = ["Learning is off", "bad"];
    setText(this.parts.status, text);
    this.parts.status.dataset.tone = tone;
    const said = this.known.ended ?? this.known.raised ?? this.known.blind;
    if (said && said !== this.said) {
      this.said = said;
      this.say(said);
    }
    const over = this.controls.looking ? "Greedy look" : this.controls.paused ? "Paused" : "";
    this.parts.over.hidden = !over;
    setText(this.parts.over, over);
  }

  showControls() {
    const now = this.controls;
    const reasons = this.known.reasons ?? {};
    const pressed = {
      pause: now.paused,
      learning: now.learning !== false,
      look: now.looking,
      exploration: now.exploration !== null && now.exploration !== undefined,
      disturb: now.disturbing || undefined,
    };
    for (const button of this.element.querySelectorAll("button[data-control]")) {
      const control = button.dataset.control;
      const reason = this.known.ended ? "Training is over." : reasons[control];
      button.setAttribute("aria-disabled", String(Boolean(reason)));
      button.dataset.title ??= button.title;
      button.title = reason ?? button.dataset.title;
      if (control === "speed") button.setAttribute("aria-pressed", String(Number(button.dataset.value) === now.speed));
      else if (pressed[control] !== undefined) button.setAttribute("aria-pressed", String(pressed[control]));
      else button.removeAttribute("aria-pressed");
    }
    setText(this.parts["pause-label"], now.paused ? "Go on" : "Pause");
    setText(this.parts.hold, pressed.exploration ? "Release ε" : "Hold ε");
    const isFixed = Boolean(reasons.exploration ?? this.known.ended);
    this.parts.slider.disabled = isFixed;
    const slider = this.parts.slider.closest(".slider");
    slider.setAttribute("aria-disabled", String(isFixed));
    slider.title = reasons.exploration ?? "";
    if (pressed.exploration && document.activeElement !== this.parts.slider) this.parts.slider.value = now.exploration;
    if (now.environment !== undefined) this.parts.environment.value = now.environment ?? "";
    this.showStatus();
  }

  showVitals(vitals) {
    this.quiet = vitals.quiet;
    setText(this.parts.speed, this.known.ended ? "" : `${number(vitals.speed, 0)} steps/s`);
    setText(this.parts.memory, vitals.memory ? `${number(vitals.memory, 0)} MiB` : "");
    this.showStatus();
  }

  showState(state, picture) {
    if (state.steps === undefined) return;
    this.state = state;
    setText(this.parts.steps, `${number(state.steps, 0)} steps`);
    setText(this.parts.episode, number(state.episode, 0));
    setText(this.parts.length, number(state.length, 0));
    setText(this.parts.return, number(state.return, 1));
    const rate = state.exploration_rate;
    if (document.activeElement !== this.parts.slider) {
      setText(this.parts.rate, number(rate));
      if (rate !== null && this.controls.exploration === null) this.parts.slider.value = rate;
    }
    this.showValues(state);
    if (picture.byteLength) this.draw(picture);
  }

  showValues(state) {
    const values = state.values;
    this.parts["no-values"].hidden = Boolean(values);
    this.parts.kind.hidden = !values;
    this.element.querySelector(".key").hidden = !values;
    if (!values) {
      this.parts.values.replaceChildren();
      this.bars = [];
      const reasons = this.known.reasons ?? {};
      if (!reasons.save) setText(this.parts["no-values"], "This model has neither Q-values nor probabilities to show.");
      return;
    }
    if (this.bars.length !== values.length || this.barsOf !== this.known.action_names) this.makeBars(values.length);
    const isQ = state.kind === "Q";
    setText(this.parts.kind, isQ ? "Q-values" : "Probability of each action");
    const [low, high] = isQ ? this.follow(values) : [0, 1];
    const place = (value) => (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low || 1);
    const origin = low <= 0 && high >= 0 ? 0 : low;
    values.forEach((value, index) => {
      const bar = this.bars[index];
      bar.row.classList.toggle("greedy", index === state.greedy);
      bar.row.classList.toggle("taken", index === state.action);
      const [left, right] = value === null ? [0, 0] : [place(origin), place(value)].sort((a, b) => a - b);
      bar.fill.style.left = `${left}%`;
      bar.fill.style.width = `${right - left}%`;
      bar.zero.style.left = `${place(origin)}%`;
      bar.zero.hidden = !(low < 0 && high > 0);
      setText(bar.number, number(value));
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
    this.bars = [];
    this.element.querySelector(".values").classList.toggle("many", count > 6);
    const rows = [];
    for (let index = 0; index < count; index++) {
      const row = document.createElement("li");
      const make = (name, parent = row) => {
        const element = document.createElement("span");
        element.className = name;
        parent.append(element);
        return element;
      };
      make("mark");
      make("name").textContent = this.known.action_names?.[index] ?? `action ${index}`;
      const track = make("track");
      this.bars.push({ row, fill: make("fill", track), zero: make("zero", track), number: make("number") });
      rows.push(row);
    }
    this.parts.values.replaceChildren(...rows);
  }

  async draw(picture) {
    if (this.isDecoding) return; // a newer one will come
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
      canvas.dataset.pictures = this.pictures;
    } finally {
      this.isDecoding = false;
    }
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
  byId("settings").replaceChildren(
    ...runs.map((run) => {
      const section = document.createElement("section");
      const heading = document.createElement("h3");
      heading.textContent = run.name;
      const list = document.createElement("dl");
      const known = run.known;
      const settings = {
        environment: known.environment,
        environments: known.n_envs,
        ...known.settings,
        ...known.versions,
        "models are saved in": known.folder,
      };
      for (const [name, value] of Object.entries(settings)) {
        const pair = document.createElement("div");
        const term = document.createElement("dt");
        const description = document.createElement("dd");
        term.textContent = name;
        description.textContent = String(value);
        pair.append(term, description);
        list.append(pair);
      }
      section.append(heading, list);
      return section;
    }),
  );
}

// The curve ---------------------------------------------------------------------------------------

const chart = {
  plot: null,
  isStale: true,
  axis: "steps",
  layout: "",

  columns(run) {
    const place = this.axis === "steps" ? 0 : 1;
    const x = [];
    const returns = [];
    const means = [];
    const changed = [];
    let sum = 0;
    run.points.forEach((point, index) => {
      sum += point[2];
      if (index >= MEAN_OF) sum -= run.points[index - MEAN_OF][2];
      // Two episodes that end at one time, of several environments, must not share a place.
      const at = point[place];
      x.push(x.length && at <= x[x.length - 1] ? x[x.length - 1] + 1e-6 : at);
      returns.push(point[2]);
      means.push(sum / Math.min(index + 1, MEAN_OF));
      changed.push(point[4] ? point[2] : null);
    });
    return [x, returns, means, changed];
  },

  draw() {
    if (!this.isStale || typeof uPlot === "undefined") return;
    this.isStale = false;
    const drawn = runs.filter((run) => run.points.length);
    byId("no-episode").hidden = drawn.length > 0;
    if (!drawn.length) return;
    const tables = drawn.map((run) => this.columns(run));
    const data = tables.length === 1 ? tables[0] : uPlot.join(tables);
    const layout = [this.axis, ...drawn.map((run) => run.index)].join();
    if (layout !== this.layout) {
      this.layout = layout;
      this.make(drawn, data);
    } else {
      this.plot.setData(data);
    }
    this.showLegend(drawn, tables);
    if (byId("episodes").open) this.showTable();
  },

  make(drawn, data) {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const thresholds = [...new Set(drawn.map((run) => run.known.threshold).filter((value) => value !== null && value !== undefined))];
    const series = drawn.flatMap((run) => [
      { stroke: run.colour, paths: () => null, points: { show: true, size: 4, width: 0, fill: `${run.colour}66` } },
      { stroke: run.colour, width: 2, spanGaps: true, points: { show: false } },
      { stroke: colour("--ink"), paths: () => null, points: { show: true, size: 8, width: 1.5, fill: "transparent", stroke: colour("--ink") } },
    ]);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const compact = (u, splits) => splits.map((value) => (Math.abs(value) >= 10000 ? `${number(value / 1000, 0)}k` : number(value, 0)));
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        cursor: { points: { show: false }, drag: { x: true, y: false } },
        scales: {
          x: { time: false },
          y: {
            range: (u, low, high) => {
              const all = [low, high, ...thresholds].filter(Number.isFinite);
              const [least, most] = [Math.min(...all), Math.max(...all)];
              const room = 0.06 * (most - least || 1);
              return [least - room, most + room];
            },
          },
        },
        axes: [
          { ...axis, values: compact },
          { ...axis, values: compact, size: 56 },
        ],
        series: [{}, ...series],
        hooks: {
          draw: [(u) => thresholds.forEach((value) => drawThreshold(u, value, colour("--soft")))],
        },
      },
      data,
      byId("chart"),
    );
  },

  size() {
    return { width: Math.max(byId("chart").clientWidth, 200), height: innerWidth < 860 ? 220 : 230 };
  },

  showLegend(drawn, tables) {
    byId("legend").replaceChildren(
      ...drawn.map((run, index) => {
        const item = document.createElement("li");
        const dot = document.createElement("span");
        const value = document.createElement("b");
        dot.className = "dot";
        dot.style.setProperty("--own", run.colour);
        const mean = tables[index][2].at(-1);
        value.textContent = number(mean, 1);
        const per = run.known.per_point > 1 ? `, ${run.known.per_point} a point` : "";
        item.append(dot, `${runs.length > 1 ? `${run.name}, ` : ""}mean of ${MEAN_OF}`, value, `${number(run.count, 0)} episodes${per}`);
        return item;
      }),
    );
  },

  showTable() {
    const rows = runs.flatMap((run) =>
      run.recent.map((episode, index) => [run.name, run.count - run.recent.length + index, episode]),
    );
    byId("rows").replaceChildren(
      ...rows.reverse().map(([name, index, [steps, seconds, value, length, changed]]) => {
        const row = document.createElement("tr");
        const cells = [name, number(index, 0), number(steps, 0), number(seconds, 1), number(value, 1), number(length, 0), changed];
        row.append(
          ...cells.map((text) => {
            const cell = document.createElement("td");
            cell.textContent = text;
            return cell;
          }),
        );
        return row;
      }),
    );
  },
};

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

setInterval(() => chart.draw(), CHART_MILLISECONDS);
addEventListener("resize", () => chart.plot?.setSize(chart.size()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  chart.layout = "";
  chart.isStale = true;
});
byId("episodes").addEventListener("toggle", () => chart.showTable());
for (const button of document.querySelectorAll("[data-axis]")) {
  button.addEventListener("click", () => {
    chart.axis = button.dataset.axis;
    chart.isStale = true;
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

function showConnection(text, tone) {
  const pill = byId("connection");
  setText(pill, text);
  pill.dataset.tone = tone;
}

function connect() {
  socket = new WebSocket(withToken(`ws://${location.host}/socket`));
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    showConnection("Live", "good");
    tellVisibility();
  });
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      for (const event of JSON.parse(data)) runOf(event.run).take(event);
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const { run, state } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    runOf(run).showState(state, new Uint8Array(data, 4 + length));
  });
  socket.addEventListener("close", () => {
    // What was seen so far stays on the page.
    const isOver = runs.length && runs.every((run) => run.known.ended);
    showConnection(isOver ? "Training is over" : "Connection lost, the curve stays", isOver ? "" : "bad");
    setTimeout(connect, RECONNECT_MILLISECONDS);
  });
}

// A page in a tab behind others needs no pictures.
function tellVisibility() {
  send(null, "pictures", document.visibilityState === "visible");
}
document.addEventListener("visibilitychange", tellVisibility);

// The keyboard ------------------------------------------------------------------------------------

const KEYS = {
  " ": ["pause"],
  ".": ["step"],
  1: ["speed", 1],
  2: ["speed", 10],
  3: ["speed", 0],
  h: ["exploration"],
  l: ["learning"],
  g: ["look"],
  d: ["disturb"],
  r: ["reset"],
  s: ["save"],
  f: ["film"],
};

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
  const meant = KEYS[event.key.toLowerCase()];
  if (!meant) return;
  event.preventDefault();
  const inside = runs.filter((run) => run.element.contains(focused));
  for (const run of inside.length ? inside : runs) run.use(...meant);
});
byId("help-button").addEventListener("click", () => byId("help").showModal());

connect();
