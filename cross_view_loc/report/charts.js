(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const S = DATA.spread, truth = DATA.hasTruth;
  const make = (name, attributes, parent) => {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (parent) parent.append(node);
    return node;
  };
  const of = (column, status) => indices.map((i) => (status === undefined || F.status[i] === status ? column[i] : null));
  const finite = (values) => values.filter(known);
  function round(span, count) {
    const raw = span / count, base = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].map((f) => f * base).find((step) => step >= raw);
  }
  function quantile(values, q) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor(q * (sorted.length - 1))] : 0;
  }
  /* One chart: series of {x, y, kind: line | dots | band, color, low, high}; values beyond the frame sit on its edge. */
  function chart(id, { series, yLow, yHigh, xLow, xHigh, lines = [], byTime = true, none = "nothing to show" }) {
    const host = document.getElementById(id);
    const isEmpty = !series.some((each) => each.kind !== "band" && finite(each.y).length);
    function draw() {
      host.replaceChildren();
      const width = host.clientWidth, height = host.clientHeight, svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, host);
      if (isEmpty) { make("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "none" }, svg).textContent = none; return; }
      const left = 44, right = width - 10, top = 8, bottom = height - 22;
      const px = (x) => left + ((Math.min(Math.max(x, xLow), xHigh) - xLow) / (xHigh - xLow || 1)) * (right - left);
      const py = (y) => bottom - ((Math.min(Math.max(y, yLow), yHigh) - yLow) / (yHigh - yLow || 1)) * (bottom - top);
      for (const [low, high, isX] of [[yLow, yHigh, false], [xLow, xHigh, true]]) {
        const step = round(high - low || 1, isX ? Math.max(3, width / 90) : 5);
        for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) {
          const text = String(+v.toFixed(6));
          if (isX) make("text", { x: px(v), y: height - 5, "text-anchor": "middle" }, svg).textContent = text;
          else { make("line", { x1: left, x2: right, y1: py(v), y2: py(v), stroke: "var(--grid)" }, svg); make("text", { x: left - 7, y: py(v) + 4, "text-anchor": "end" }, svg).textContent = text; }
        }
      }
      for (const { y, text, from, to } of lines) {
        if (from) { make("line", { x1: px(from[0]), y1: py(from[1]), x2: px(to[0]), y2: py(to[1]), stroke: "var(--faint)", "stroke-dasharray": "5 4" }, svg); continue; }
        if (y > yHigh) continue;
        make("line", { x1: left, x2: right, y1: py(y), y2: py(y), stroke: "var(--faint)", "stroke-dasharray": "5 4" }, svg);
        if (text) make("text", { x: right, y: py(y) - 5, "text-anchor": "end" }, svg).textContent = text;
      }
      for (const { x, y, kind, color, low, high } of series) {
        if (kind === "band") {
          let path = "";
          for (let i = 0; i < x.length; i++) if (known(low[i]) && known(high[i])) path += `M${px(x[i]).toFixed(1)} ${py(low[i]).toFixed(1)}V${py(high[i]).toFixed(1)}`;
          const wide = Math.min(Math.max((right - left) / Math.max(x.length, 1), 1.5), 5);
          make("path", { d: path, stroke: color, "stroke-width": wide, fill: "none" }, svg);
          continue;
        }
        let path = "", down = false;
        for (let i = 0; i < x.length; i++) {
          if (!known(y[i]) || !known(x[i])) { down = kind === "line" && !byTime ? down : false; continue; }
          const spot = `${px(x[i]).toFixed(1)} ${py(y[i]).toFixed(1)}`;
          path += kind === "dots" ? `M${spot}h0` : `${down ? "L" : "M"}${spot}`;
          down = true;
        }
        make("path", { d: path, fill: "none", stroke: color, "stroke-width": kind === "dots" ? 4.5 : 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" }, svg);
      }
      if (byTime && selected >= 0) make("line", { x1: px(F.t[selected]), x2: px(F.t[selected]), y1: top, y2: bottom, stroke: "var(--text)", "stroke-opacity": 0.55 }, svg);
      host.at = (x) => xLow + ((x - left) / (right - left)) * (xHigh - xLow);
    }
    if (byTime && !isEmpty) {
      const tip = document.getElementById("tip");
      host.addEventListener("pointermove", (event) => {
        const time = host.at(event.clientX - host.getBoundingClientRect().left);
        let best = 0;
        for (const i of indices) if (Math.abs(F.t[i] - time) < Math.abs(F.t[best] - time)) best = i;
        select(best);
        host.title = told(best);
        tip.hidden = true;
      });
      redrawers.push(draw);
    }
    new ResizeObserver(draw).observe(host);
  }
  const T = F.t, xLow = 0, xHigh = Math.max(...T, 1e-3);
  const C = { ours: "var(--ours)", gnss: "var(--gnss)", bad: "var(--bad)", band: "var(--band)", skip: "var(--skip)" };
  const caption = (id, text, keys) => {
    const node = document.getElementById(id);
    node.textContent = text;
    for (const [name, color] of keys) { const dot = document.createElement("span"); dot.className = "key"; dot.style.background = color; node.append(dot, name); }
  };
  if (!truth) for (const id of ["c-lat", "c-lon", "c-head"]) document.getElementById(id).previousElementSibling.append(", against the prior");
  const both = (column) => [{ x: T, y: of(column, 1), kind: "dots", color: C.bad }, { x: T, y: of(column, 0), kind: "dots", color: C.ours }];
  const top = (values, q, least) => Math.max(quantile(finite(values), q) * 1.25, least);

  document.getElementById("errors-title").textContent = truth ? "Errors" : "Against the GNSS prior, not errors: there is no truth";
  if (!truth) document.getElementById("worth-title").textContent = "Whether estimates and GNSS agree within what both claim";
  const what = truth ? "Position error" : "Distance from GNSS prior";
  caption("c-time-title", `${what} in metres over time in seconds; what is higher sits on the edge`, [["accepted", C.ours], ["refused", C.bad], ...(truth ? [["GNSS", C.gnss]] : [["95 % of GNSS by its own deviation", C.gnss]])]);
  const gnss = truth ? F.prior_err : F.pstd.map((std) => (known(std) ? 2.448 * std : null));
  chart("c-time", { series: [{ x: T, y: gnss, kind: "line", color: C.gnss }, ...both(F.pos)], xLow, xHigh, yLow: 0, yHigh: top([...of(F.pos, 0), ...gnss], 0.99, 0.5) });

  const share = [...Array(101).keys()].map((k) => k / 100);
  const curves = [[S.prior, C.gnss, "GNSS"], [S.all, C.bad, "all"], [S.accepted, C.ours, "accepted"]].filter(([values]) => values.length);
  caption("c-cdf-title", `Share of images with less ${truth ? "error" : "distance"}, metres`, curves.map(([, color, name]) => [name, color]));
  chart("c-cdf", { series: curves.map(([values, color]) => ({ x: values, y: share, kind: "line", color })), byTime: false, xLow: 0, xHigh: Math.max(0.5, ...curves.map(([values]) => values[95] * 1.15)), yLow: 0, yHigh: 1 });

  for (const [id, column, deviation] of [["c-lat", F.lat, F.s_lat], ["c-lon", F.lon, F.s_lon], ["c-head", F.head, F.s_head]]) {
    const high = Math.max(top(column.map((v) => (known(v) ? Math.abs(v) : null)), 0.98, 0.3), top(of(deviation, 0).map((s) => (known(s) ? 2 * s : null)), 0.9, 0.1));
    const band = { x: T, y: deviation, kind: "band", color: C.band, low: of(deviation, 0).map((s) => (known(s) ? -2 * s : null)), high: of(deviation, 0).map((s) => (known(s) ? 2 * s : null)) };
    chart(id, { series: [band, ...both(column)], xLow, xHigh, yLow: -high, yHigh: high, lines: [{ y: 0 }], none: "no heading to compare with" });
  }

  caption("c-nees-title", `${truth ? "NEES (3 degrees of freedom)" : "Squared distance from GNSS in deviations of both (2 degrees of freedom)"}: ${known(S.within95) ? `${Math.round(S.within95 * 100)} % of ${S.held} accepted below the 95 % line` : "not known"}`, []);
  chart("c-nees", { series: both(F.d2), xLow, xHigh, yLow: 0, yHigh: Math.max(S.limit95 * 1.6, Math.min(top(of(F.d2, 0), 0.97, 1), S.limit95 * 5)), lines: [{ y: S.limit95, text: "95 %" }], none: "GNSS does not say how good it is" });
  const p = [...Array(51).keys()].map((k) => k / 50);
  chart("c-cover", { series: [{ x: p, y: S.coverage, kind: "line", color: C.ours }], byTime: false, xLow: 0, xHigh: 1, yLow: 0, yHigh: 1, lines: [{ from: [0, 0], to: [1, 1] }] });
  chart("c-conf", { series: both(F.conf), xLow, xHigh, yLow: 0, yHigh: 1 });
  chart("c-cost", { series: both(F.seconds), xLow, xHigh, yLow: 0, yHigh: top(F.seconds, 0.99, 0.05) });

  const gate = document.getElementById("gate"), total = DATA.counts.accepted + DATA.counts.refused + DATA.counts.skipped || 1;
  const colors = { accepted: C.ours, refused: C.bad, skipped: C.skip }, stack = document.createElement("div"), words = document.createElement("p");
  stack.className = "stack";
  words.className = "note";
  for (const name of STATUS) {
    const part = document.createElement("div"), dot = document.createElement("span");
    part.style.cssText = `width:${(100 * DATA.counts[name]) / total}%;background:${colors[name]}`;
    stack.append(part);
    dot.className = "key"; dot.style.background = colors[name];
    words.append(dot, `${DATA.counts[name]} ${name}`);
  }
  gate.append(stack, words);
  const most = Math.max(...DATA.reasons.map((each) => each.count), 1);
  for (const { status, reason, count } of DATA.reasons.slice(0, 20)) {
    const row = document.createElement("div"), cells = ["span", "span", "span"].map((name) => document.createElement(name)), bar = document.createElement("i");
    row.className = "reason";
    cells[0].textContent = `${status}: ${reason}`; cells[1].textContent = `${count}×`;
    bar.style.cssText = `width:${(100 * count) / most}%;background:${colors[status]}`;
    cells[2].append(bar); row.append(...cells); gate.append(row);
  }
  document.documentElement.dataset.drawn = "yes";
})();
