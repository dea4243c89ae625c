"use strict";
// Drawing of curves, for the runs explorer and the page of `rdp watch`. Data becomes text nodes and attributes, never
// markup.
const drawing = (() => {
  const minus = (text) => text.replace("-", "\u2212");

  /** Creates an element with attributes and children; strings become text nodes. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const SVG = "http://www.w3.org/2000/svg";

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** Round tick values from at or below the lowest value to at or above the highest. */
  function ticks(low, high) {
    const span = high - low || Math.abs(high) || 1;
    const power = 10 ** Math.floor(Math.log10(span / 3));
    const step = power * [1, 2, 5, 10].find((factor) => span / (factor * power) <= 4.5);
    const first = Math.floor(low / step + 1e-9);
    const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(10)));
  }

  /** A curve over epochs, on an axis up to the epoch `to`, with title and text description. */
  function curve(title, epochs, values, name, id, width, to) {
    const [height, left, right, top, bottom] = [250, 56, 14, 30, 44];
    const marks = ticks(Math.min(...values), Math.max(...values));
    const [low, high] = [marks[0], marks.at(-1)];
    const from = epochs[0];
    const x = (epoch) => left + ((width - left - right) * (epoch - from)) / (to - from || 1);
    const y = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
    const description = epochs.length === 1
      ? `${title} of ${name}: ${values[0]} in epoch ${from}.`
      : `${title} of ${name}: ${values[0]} in epoch ${from}, ${values.at(-1)} in epoch ${epochs.at(-1)}; `
        + `between ${Math.min(...values)} and ${Math.max(...values)}.`;
    const image = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": `${id}-title ${id}-description` });
    image.append(draw("title", { id: `${id}-title` }, title), draw("desc", { id: `${id}-description` }, description));
    image.append(draw("text", { class: "heading", x: left, y: 18 }, title));
    for (const mark of marks) {
      image.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }));
      image.append(draw("text", { class: "mark", x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, minus(String(mark))));
    }
    const steps = to === from ? [from] : ticks(from, to).filter((t) => t >= from && t <= to && Number.isInteger(t));
    for (const epoch of steps) {
      image.append(draw("text", { class: "mark", x: x(epoch), y: height - bottom + 18, "text-anchor": "middle" }, String(epoch)));
    }
    const middle = (left + width - right) / 2;
    image.append(draw("text", { class: "mark", x: middle, y: height - 6, "text-anchor": "middle" }, "epoch"));
    const path = epochs.map((epoch, i) => `${i ? "L" : "M"}${x(epoch).toFixed(1)} ${y(values[i]).toFixed(1)}`).join("");
    image.append(draw("path", { class: "line", d: path }));
    if (epochs.length <= 30) {
      epochs.forEach((epoch, i) => image.append(draw("circle", { class: "dot", cx: x(epoch), cy: y(values[i]), r: 2.6 })));
    }
    return make("figure", { class: "curve" }, image);
  }

  /** The curves of a run, for each measure that it has: a figure each, `width` pixels wide. */
  function curves(data, run, name, width, to = 0) {
    return Object.entries(data.measures).flatMap(([measure, title], i) => {
      const [schedule, values] = data.curves[measure][run];
      if (!values) return [];
      const epochs = data.epochs[schedule];
      return [curve(title, epochs, values, name, `curve-${run}-${i}`, width, Math.max(to, epochs.at(-1)))];
    });
  }

  return { make, minus, curves };
})();
