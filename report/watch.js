"use strict";
// The page of `rdp watch`: draws the curves and reloads the page, which keeps its place.
(() => {
  const WIDTH = 300; // of a curve in pixels, about that of its column
  const data = JSON.parse(document.getElementById("data").textContent);
  for (const place of document.querySelectorAll("[data-curves]")) {
    const run = Number(place.dataset.curves);
    place.append(...drawing.curves(data, run, place.dataset.name, WIDTH, data.ends[run]));
  }
  if (!document.body.dataset.every) return; // all runs are done
  const every = Number(document.body.dataset.every);
  const age = Date.now() / 1000 - Number(document.body.dataset.updated);
  document.getElementById("late").hidden = age < 3 * every + 10;
  setTimeout(() => location.reload(), 1000 * every);
})();
