"use strict";
// Filters and order of the lines of a folder. Without it all lines are there, the newest first.
(() => {
  const list = document.getElementById("runs");
  const lines = [...list.children];
  const part = (id) => document.getElementById(id);
  const bar = part("bar");
  const find = part("find");
  const found = part("found");
  const faults = part("faults");
  const order = part("order");
  const chosen = [part("agent"), part("model")];
  const texts = lines.map((line) => line.textContent.toLowerCase());
  bar.hidden = false;

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [agent, model] = chosen.map((choice) => (choice ? choice.value : ""));
    let count = 0;
    lines.forEach((line, at) => {
      const fits =
        words.every((word) => texts[at].includes(word)) &&
        (!agent || line.dataset.a === agent) &&
        (!model || line.dataset.m === model) &&
        (!faults.checked || Number(line.dataset.errors) > 0 || !line.dataset.steps);
      line.hidden = !fits;
      count += fits;
    });
    found.textContent = count === lines.length ? `${count}` : `${count} of ${lines.length}`;
  };

  const sort = () => {
    const by = order.value;
    const sorted = [...lines];
    if (by !== "at") sorted.sort((one, other) => (Number(other.dataset[by]) || 0) - (Number(one.dataset[by]) || 0));
    list.append(...sorted);
  };

  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  for (const choice of [...chosen, faults]) if (choice) choice.addEventListener("change", filter);
  order.addEventListener("change", sort);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(event.target.tagName)) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape" && event.target === find) {
      find.value = "";
      filter();
    }
  });
  filter();
})();
