"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const F = DATA.frames;
const STATUS = ["accepted", "refused", "skipped"];
const ON_MAP = { ours: "#2de2e6", gnss: "#ff9f43", truth: "#ffffff", bad: "#ff5c8a", skip: "#a9b2c0" };
const indices = [...Array(F.count).keys()];
let selected = -1;
const redrawers = [];
function select(i) {
  if (i === selected) return;
  selected = i;
  for (const redraw of redrawers) redraw();
}
const known = (value) => value !== null && value !== undefined;
const fixed = (value, digits, unit) => (known(value) ? value.toFixed(digits) + (unit || "") : "–");

function told(i) {
  const lines = [`${fixed(F.t[i], 2, " s")}, ${STATUS[F.status[i]]}`];
  if (known(F.reason[i])) lines.push(F.reasons[F.reason[i]]);
  if (known(F.e[i])) {
    if (known(F.pos[i])) lines.push(`${DATA.hasTruth ? "error" : "from GNSS"} ${fixed(F.pos[i], 2, " m")}: ${fixed(F.lat[i], 2)} left, ${fixed(F.lon[i], 2)} forward, heading ${fixed(F.head[i], 2, "°")}`);
    if (known(F.prior_err[i])) lines.push(`GNSS error ${fixed(F.prior_err[i], 2, " m")}`);
    lines.push(`95 % ellipse ${fixed(F.major[i], 2)} × ${fixed(F.minor[i], 2)} m, confidence ${fixed(F.conf[i], 2)}`);
    lines.push(`east ${fixed(F.e[i], 2)}, north ${fixed(F.n[i], 2)}; ${fixed(F.seconds[i], 2, " s")}`);
  }
  lines.push(`stamp ${F.stamp[i]} ns`);
  return lines.join("\n");
}

const MAP = (() => {
  const box = document.getElementById("map"), canvas = document.getElementById("canvas");
  const tip = document.getElementById("tip"), image = document.getElementById("ortho");
  const paint = canvas.getContext("2d");
  const view = { east: 0, north: 0, scale: 1 };
  let width = 1, height = 1, pending = false;
  const shown = { ortho: true, gnss: true, truth: true, ours: true, ellipses: true, bad: true, skip: true };
  const X = (east) => width / 2 + (east - view.east) * view.scale;
  const Y = (north) => height / 2 - (north - view.north) * view.scale;

  function placeOf(i) {
    if (known(F.e[i])) return [F.e[i], F.n[i]];
    return known(F.pe[i]) ? [F.pe[i], F.pn[i]] : null;
  }
  function isShown(i) {
    return F.status[i] === 0 ? shown.ours : F.status[i] === 1 ? shown.bad : shown.skip;
  }
  function fit() {
    let places = [];
    for (const i of indices) for (const [e, n] of [[F.pe[i], F.pn[i]], [F.te[i], F.tn[i]], F.status[i] === 0 ? [F.e[i], F.n[i]] : [null, null]]) if (known(e)) places.push([e, n]);
    if (!places.length) places = [[0, 0]];
    let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [e, n] of places) { west = Math.min(west, e); east = Math.max(east, e); south = Math.min(south, n); north = Math.max(north, n); }
    view.east = (west + east) / 2; view.north = (south + north) / 2;
    view.scale = Math.min(width / (east - west + 30), height / (north - south + 30));
    draw();
  }
  function zoom(factor, x, y) {
    const scale = Math.min(Math.max(view.scale * factor, 0.02), 200), ratio = 1 / view.scale - 1 / scale;
    view.east += (x - width / 2) * ratio; view.north -= (y - height / 2) * ratio; view.scale = scale;
    draw();
  }
  function draw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; render(); });
  }
  function line(east, north, color, thick, casing) {
    paint.beginPath();
    let down = false;
    for (const i of indices) {
      if (!known(east[i])) { down = false; continue; }
      if (down) paint.lineTo(X(east[i]), Y(north[i])); else paint.moveTo(X(east[i]), Y(north[i]));
      down = true;
    }
    paint.lineJoin = "round";
    for (const [style, wide] of [["rgba(0,0,0,.65)", thick + casing], [color, thick]]) { paint.strokeStyle = style; paint.lineWidth = wide; paint.stroke(); }
  }
  function dots(east, north, color, radius, chosen) {
    paint.fillStyle = color; paint.strokeStyle = "rgba(0,0,0,.7)"; paint.lineWidth = 1;
    for (const i of indices) {
      if (!known(east[i]) || !chosen(i)) continue;
      const x = X(east[i]), y = Y(north[i]);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      paint.beginPath(); paint.arc(x, y, radius, 0, 7); paint.fill(); paint.stroke();
    }
  }
  function estimate(i, color) {
    const x = X(F.e[i]), y = Y(F.n[i]);
    if (x < -200 || y < -200 || x > width + 200 || y > height + 200) return;
    if (shown.ellipses && F.major[i] * view.scale > 3) {
      paint.beginPath(); paint.ellipse(x, y, F.major[i] * view.scale, F.minor[i] * view.scale, -F.angle[i], 0, 7);
      paint.strokeStyle = color; paint.globalAlpha = 0.8; paint.lineWidth = 1.1; paint.stroke(); paint.globalAlpha = 1;
    }
    if (view.scale > 2) {
      const long = Math.max(9, 1.6 * view.scale);
      paint.beginPath(); paint.moveTo(x, y); paint.lineTo(x + long * Math.cos(F.yaw[i]), y - long * Math.sin(F.yaw[i]));
      paint.strokeStyle = color; paint.lineWidth = 2; paint.stroke();
    }
  }
  function render() {
    const ratio = window.devicePixelRatio || 1;
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    if (shown.ortho && image && DATA.map && image.complete) {
      const m = DATA.map;
      paint.imageSmoothingEnabled = view.scale < 20;
      paint.drawImage(image, X(m.west), Y(m.north), (m.east - m.west) * view.scale, (m.north - m.south) * view.scale);
    }
    const radius = Math.min(Math.max(view.scale * 0.35, 2), 4.5);
    if (shown.truth && DATA.hasTruth) line(F.te, F.tn, ON_MAP.truth, 2, 2.5);
    if (shown.gnss) { line(F.pe, F.pn, ON_MAP.gnss, 1.2, 1.2); if (view.scale > 2) dots(F.pe, F.pn, ON_MAP.gnss, radius * 0.7, () => true); }
    if (shown.skip) dots(F.pe, F.pn, ON_MAP.skip, radius, (i) => F.status[i] === 2);
    if (shown.bad) for (const i of indices) if (F.status[i] === 1) {
      estimate(i, ON_MAP.bad);
      const x = X(F.e[i]), y = Y(F.n[i]), r = radius + 1;
      paint.beginPath(); paint.moveTo(x - r, y - r); paint.lineTo(x + r, y + r); paint.moveTo(x + r, y - r); paint.lineTo(x - r, y + r);
      paint.strokeStyle = "rgba(0,0,0,.7)"; paint.lineWidth = 4; paint.stroke(); paint.strokeStyle = ON_MAP.bad; paint.lineWidth = 2; paint.stroke();
    }
    if (shown.ours) { for (const i of indices) if (F.status[i] === 0) estimate(i, ON_MAP.ours); dots(F.e, F.n, ON_MAP.ours, radius, (i) => F.status[i] === 0); }
    if (selected >= 0 && placeOf(selected)) {
      const [e, n] = placeOf(selected);
      for (const [style, wide] of [["#000", 5], ["#ffef5a", 2.5]]) {
        paint.strokeStyle = style; paint.lineWidth = wide;
        paint.beginPath(); paint.arc(X(e), Y(n), 11, 0, 7); paint.stroke();
        if (known(F.te[selected])) { paint.beginPath(); paint.moveTo(X(e), Y(n)); paint.lineTo(X(F.te[selected]), Y(F.tn[selected])); paint.stroke(); }
      }
    }
    scaleBar(); compass();
  }
  function scaleBar() {
    const metres = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((m) => m * view.scale > 70) || 20000;
    const long = metres * view.scale, low = height - 18;
    for (const [style, wide] of [["rgba(0,0,0,.75)", 7], ["#fff", 3]]) { paint.strokeStyle = style; paint.lineWidth = wide; paint.beginPath(); paint.moveTo(16, low); paint.lineTo(16 + long, low); paint.stroke(); }
    label(`${metres} m`, 16, low - 9);
  }
  function compass() {
    for (const [style, wide] of [["rgba(0,0,0,.75)", 6], ["#fff", 2.5]]) { paint.strokeStyle = style; paint.lineWidth = wide; paint.beginPath(); paint.moveTo(26, 56); paint.lineTo(26, 30); paint.moveTo(20, 38); paint.lineTo(26, 30); paint.lineTo(32, 38); paint.stroke(); }
    label("N", 21, 24);
  }
  function label(text, x, y) {
    paint.font = "600 13px system-ui, sans-serif"; paint.lineWidth = 3.5; paint.strokeStyle = "rgba(0,0,0,.75)"; paint.strokeText(text, x, y); paint.fillStyle = "#fff"; paint.fillText(text, x, y);
  }
  function nearest(x, y) {
    let best = -1, least = 18 * 18;
    for (const i of indices) {
      const place = placeOf(i);
      if (!place || !isShown(i)) continue;
      const far = (X(place[0]) - x) ** 2 + (Y(place[1]) - y) ** 2;
      if (far < least) { least = far; best = i; }
    }
    return best;
  }
  function point(x, y) {
    const i = nearest(x, y);
    select(i);
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.textContent = told(i);
    tip.style.left = `${Math.max(6, Math.min(x + 16, width - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(6, Math.min(y + 16, height - tip.offsetHeight - 6))}px`;
  }
  const fingers = new Map();
  const at = (event) => { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, at(event)); point(...at(event)); });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), before = fingers.get(event.pointerId);
    if (!before) { point(...now); return; }
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const [ox, oy] = other[1], was = Math.hypot(before[0] - ox, before[1] - oy), is = Math.hypot(now[0] - ox, now[1] - oy);
      if (was > 0) zoom(is / was, (now[0] + ox) / 2, (now[1] + oy) / 2);
    }
    const share = other ? 0.5 : 1;
    view.east -= share * (now[0] - before[0]) / view.scale; view.north += share * (now[1] - before[1]) / view.scale;
    fingers.set(event.pointerId, now);
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0015), ...at(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / view.scale, way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (way) { view.east += way[0]; view.north += way[1]; draw(); event.preventDefault(); }
    if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.4 : 1 / 1.4, width / 2, height / 2);
  });
  document.getElementById("in").onclick = () => zoom(1.6, width / 2, height / 2);
  document.getElementById("out").onclick = () => zoom(1 / 1.6, width / 2, height / 2);
  document.getElementById("fit").onclick = fit;

  const layers = [["ortho", "orthophoto", "#5b6b52"], ["truth", "truth", ON_MAP.truth], ["gnss", "GNSS prior", ON_MAP.gnss], ["ours", "accepted", ON_MAP.ours],
    ["ellipses", "95 % ellipses", "transparent"], ["bad", "refused", ON_MAP.bad], ["skip", "skipped (at the prior)", ON_MAP.skip]];
  for (const [name, text, color] of layers) {
    if ((name === "truth" && !DATA.hasTruth) || (name === "ortho" && !DATA.map) || (name === "skip" && !DATA.counts.skipped) || (name === "bad" && !DATA.counts.refused)) continue;
    const item = document.createElement("label"), check = document.createElement("input"), sample = document.createElement("i");
    check.type = "checkbox"; check.checked = true; check.dataset.layer = name; sample.style.background = color;
    check.onchange = () => { shown[name] = check.checked; draw(); };
    item.append(check, sample, text);
    document.getElementById("layers").append(item);
  }
  if (F.step > 1) document.getElementById("thinned").textContent = `Every ${F.step}th image is drawn; figures are of all.`;
  let first = true;
  new ResizeObserver(() => {
    const ratio = window.devicePixelRatio || 1;
    width = box.clientWidth; height = box.clientHeight;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    if (first) { first = false; fit(); } else draw();
  }).observe(box);
  if (image) image.decode().then(draw, draw);
  redrawers.push(draw);
  return { view, toPixel: (e, n) => [X(e), Y(n)], zoom };
})();
