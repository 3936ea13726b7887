#include "runtime/report/page_parts.h"

namespace trivet::report {

const std::string_view kStyle = R"css(
:root {
  --back: #f6f8fa; --panel: #ffffff; --text: #1b2430; --muted: #5d6b7c; --line: #dde3ea; --grid: #e8ecf1;
  --right: 22 128 84; --wrong: 205 66 38; --heat: 37 99 235; --on-heat: #ffffff;
  --c0: #2563eb; --c1: #d97706; --c2: #0e8a5f; --c3: #c8321f; --c4: #7c3aed; --c5: #0b7f9b; --c6: #c02678; --c7: #5f7d0e;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --back: #10151c; --panel: #181f29; --text: #e3e9f0; --muted: #93a1b3; --line: #2c3644; --grid: #252e3a;
    --right: 52 190 130; --wrong: 240 110 84; --heat: 91 148 255; --on-heat: #0b1018;
    --c0: #5b94ff; --c1: #f0a742; --c2: #3ec490; --c3: #f2705c; --c4: #a98bff; --c5: #3fbcd9; --c6: #f272b2; --c7: #a5c64a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px clamp(12px, 3vw, 32px) 48px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 12px 4px 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 14px; }
h3 { font-size: .95rem; margin: 18px 0 8px; }
p { margin: 6px 0; }
.muted { color: var(--muted); }
.small { font-size: .85rem; }
section, header { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: clamp(14px, 2.4vw, 24px); margin: 0 0 18px; }
header .line { display: flex; flex-wrap: wrap; align-items: center; }
.state { border-radius: 99px; padding: 1px 12px; font-size: .8rem; font-weight: 600; letter-spacing: .03em; border: 1px solid currentColor; }
.state.good { color: rgb(var(--right)); }
.state.bad { color: rgb(var(--wrong)); }
.state.other { color: var(--muted); }
.reason { border-left: 4px solid rgb(var(--wrong)); background: rgb(var(--wrong) / .1); padding: 8px 12px; margin: 14px 0 0; border-radius: 4px; overflow-wrap: anywhere; white-space: pre-wrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 12px; margin: 18px 0 16px; padding: 0; }
header .figures { margin-bottom: 0; }
.figures div { border-left: 3px solid var(--c0); padding: 1px 0 1px 10px; min-width: 0; }
.figures dt { color: var(--muted); font-size: .8rem; }
.figures dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 22px; }
figure { margin: 0; position: relative; min-width: 0; break-inside: avoid; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: 4px; padding-right: 100px; }
svg { display: block; width: 100%; height: auto; }
.chart svg { touch-action: pan-y; max-width: 640px; }
.square { max-width: 420px; }
svg text { fill: var(--muted); font-size: 11.5px; }
svg text.y { text-anchor: end; }
svg text.x { text-anchor: middle; }
.grid { stroke: var(--grid); fill: none; }
.axis { stroke: var(--line); fill: none; }
.mark, .cursor { stroke: var(--muted); stroke-dasharray: 3 3; fill: none; }
.cursor { stroke-dasharray: none; opacity: .6; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; stroke-width: 1.4; }
.faint { opacity: .55; stroke-width: 1; }
.band { stroke: none; opacity: .14; }
.point { opacity: .6; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); } .s6 { stroke: var(--c6); } .s7 { stroke: var(--c7); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.f4 { fill: var(--c4); } .f5 { fill: var(--c5); } .f6 { fill: var(--c6); } .f7 { fill: var(--c7); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: .82rem; color: var(--muted); padding-left: 8px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; overflow-wrap: anywhere; }
.legend .key { width: 22px; flex: none; }
.switch { position: absolute; right: 0; top: 0; font-size: .82rem; color: var(--muted); cursor: pointer; }
.chart:has(.log:checked) .linear, .chart:has(.log:not(:checked)) .logarithmic { display: none; }
.tip { position: absolute; pointer-events: none; z-index: 2; background: var(--panel); color: var(--text); border: 1px solid var(--line); border-radius: 6px; box-shadow: 0 2px 10px rgb(0 0 0 / .18); padding: 6px 10px; font-size: .8rem; font-variant-numeric: tabular-nums; max-width: 260px; }
.tip[hidden] { display: none; }
.tip div { display: flex; gap: 10px; justify-content: space-between; }
.tip i { width: 9px; height: 9px; border-radius: 9px; display: inline-block; margin-right: 6px; flex: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--muted); font-size: .8rem; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
.dot { width: 10px; display: inline-block; }
.nowrap { white-space: nowrap; }
td.text { overflow-wrap: anywhere; min-width: 110px; }
td.best { font-weight: 700; color: rgb(var(--right)); }
.bar { display: block; height: 8px; min-width: 1px; border-radius: 3px; background: var(--c0); width: var(--w); }
td.bars { width: 24%; min-width: 90px; vertical-align: middle; }
.wide { width: 100%; }
.matrix td, .matrix th { padding: 0; border: 1px solid var(--panel); text-align: center; vertical-align: middle; }
.matrix td { min-width: 30px; height: 28px; padding: 0 4px; font-size: .8rem; background: rgb(var(--hue) / var(--h)); }
.matrix td.zero { color: var(--muted); opacity: .55; background: rgb(var(--heat) / .04); }
.matrix td.strong { color: var(--on-heat); font-weight: 600; }
.matrix .d { --hue: var(--heat); }
.matrix .e { --hue: var(--wrong); }
.matrix tbody th { text-align: right; padding-right: 8px; font-weight: 500; font-size: .8rem; max-width: 160px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.matrix .v { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 120px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; display: inline-block; padding-top: 6px; font-weight: 500; }
.pair { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start; }
.pair > * { min-width: 0; max-width: 100%; }
.pair > .square { flex: 1 1 300px; max-width: 420px; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 12px; }
.samples.with-columns { grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
.sample { border: 1px solid var(--line); border-top: 4px solid rgb(var(--right)); border-radius: 8px; padding: 8px; font-size: .8rem; overflow-wrap: anywhere; break-inside: avoid; }
.sample.wrong { border-top-color: rgb(var(--wrong)); }
.sample.plain { border-top-color: var(--c0); }
.sample img, .pixels { image-rendering: pixelated; width: 96px; display: inline-block; margin: 0 4px 6px 0; background: var(--grid); }
.sample p { margin: 0; }
.sample table { font-size: .78rem; width: 100%; margin-top: 6px; }
.sample td { padding: 1px 4px; }
.pixels { width: min(100%, 420px); border: 1px solid var(--line); }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; overflow-x: auto; font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; margin: 8px 0; }
details { margin: 8px 0; }
summary { cursor: pointer; font-weight: 600; font-size: .92rem; }
@media print {
  body { background: #fff; font-size: 12px; }
  main { max-width: none; padding: 0; }
  section, header { border: none; border-top: 1px solid var(--line); border-radius: 0; padding: 12px 0; }
  .switch { display: none; }
  .charts { grid-template-columns: 1fr 1fr; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

const std::string_view kScript = R"js(
'use strict';
// Values under the pointer. Without this script the page lacks only them.
const element = (name, text) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
};

const nearest = (points, x) => {  // points: x0, y0, x1, y1, ...; x ascending
  let low = 0, high = points.length / 2 - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[2 * middle] <= x) low = middle; else high = middle;
  }
  return Math.abs(points[2 * low] - x) <= Math.abs(points[2 * high] - x) ? low : high;
};

const show = (chart, svg, series, event) => {
  const tip = chart.querySelector('.tip');
  const [left, right, first, last] = svg.dataset.x.split(' ').map(Number);
  const box = svg.getBoundingClientRect();
  const units = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
  const x = first + (units - left) / (right - left) * (last - first);
  let snapped = null;
  for (const {points} of series) {
    if (points.length === 0) continue;
    const found = points[2 * nearest(points, x)];
    if (snapped === null || Math.abs(found - x) < Math.abs(snapped - x)) snapped = found;
  }
  if (snapped === null) return;
  tip.replaceChildren(element('strong', 'step ' + Math.round(snapped)));
  for (const {name, colour, points} of series) {
    if (points.length === 0) continue;
    const i = nearest(points, snapped);
    if (Math.abs(points[2 * i] - snapped) > (last - first) / 50) continue;
    const y = points[2 * i + 1];
    const row = element('div');
    const label = element('span');
    const dot = element('i');
    dot.style.background = 'var(--c' + colour + ')';
    label.append(dot, name);
    row.append(label, element('b', chart.dataset.percent === '1' ? (100 * y).toFixed(2) + ' %' : Number(y.toPrecision(5))));
    tip.append(row);
  }
  tip.hidden = false;
  const at = (left + (snapped - first) / (last - first) * (right - left));
  const cursor = svg.querySelector('.cursor');
  cursor.setAttribute('transform', 'translate(' + at + ' 0)');
  cursor.setAttribute('visibility', 'visible');
  const frame = chart.getBoundingClientRect();
  const px = box.left - frame.left + at / svg.viewBox.baseVal.width * box.width;
  tip.style.left = (px + tip.offsetWidth + 14 > frame.width ? Math.max(0, px - tip.offsetWidth - 12) : px + 12) + 'px';
  tip.style.top = (box.top - frame.top + 12) + 'px';
};

for (const chart of document.querySelectorAll('.chart')) {
  const series = JSON.parse(chart.dataset.series);
  for (const svg of chart.querySelectorAll('svg[data-x]')) {
    for (const kind of ['pointermove', 'pointerdown']) svg.addEventListener(kind, event => show(chart, svg, series, event));
    svg.addEventListener('pointerleave', () => {
      chart.querySelector('.tip').hidden = true;
      svg.querySelector('.cursor').setAttribute('visibility', 'hidden');
    });
  }
}

addEventListener('beforeprint', () => { for (const part of document.querySelectorAll('details')) part.open = true; });
)js";

}  // namespace trivet::report
