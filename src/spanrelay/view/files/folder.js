"use strict";
// Filters and order of the lines of a folder. Without it all lines are there, the newest first.
(() => {
  const list = document.getElementById("runs");
  let lines = [...list.getElementsByTagName("li")];
  const part = (id) => document.getElementById(id);
  const bar = part("bar");
  const find = part("find");
  const found = part("found");
  const faults = part("faults");
  const chosen = [part("agent"), part("model")];
  let texts = lines.map((line) => line.textContent.toLowerCase());
  bar.hidden = false;

  const order = part("order");
  const size = 100; // lines of which a browser draws all or none

  const fits = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [agent, model] = chosen.map((choice) => (choice ? choice.value : ""));
    return (at) =>
      (!agent || lines[at].dataset.a === agent) &&
      (!model || lines[at].dataset.m === model) &&
      (!faults.checked || Number(lines[at].dataset.errors) > 0 || !lines[at].dataset.steps) &&
      words.every((word) => texts[at].includes(word));
  };

  const show = () => {
    const by = order.value;
    const places = [...lines.keys()].filter(fits());
    if (by !== "at") {
      const weight = (at) => Number(lines[at].dataset[by]) || 0;
      places.sort((one, other) => weight(other) - weight(one) || one - other);
    }
    const parts = [];
    for (let at = 0; at < places.length; at += size) {
      const some = document.createElement("ol");
      some.className = "runs";
      some.append(...places.slice(at, at + size).map((place) => lines[place]));
      parts.push(some);
    }
    list.replaceChildren(...parts);
    found.textContent = places.length === lines.length ? `${lines.length}` : `${places.length} of ${lines.length}`;
  };

  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 120);
  });
  for (const choice of [...chosen, faults]) if (choice) choice.addEventListener("change", show);
  order.addEventListener("change", show);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(event.target.tagName)) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape" && event.target === find) {
      find.value = "";
      show();
    }
  });
  list.addEventListener("grown", () => {
    lines = [...list.getElementsByTagName("li")];
    texts = lines.map((line) => line.textContent.toLowerCase());
    if (lines.length) show();
  });
  found.textContent = `${lines.length}`;
})();
