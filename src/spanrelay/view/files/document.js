"use strict";
// What a page can do beside being read: search, keys, folding. It changes which parts are open and marked, and nothing
// else; without it every text is there.
(() => {
  const main = document.getElementById("conversation");
  if (!main) return;
  const bar = document.getElementById("bar");
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const bad = document.getElementById("bad");
  const fold = document.getElementById("fold");
  let steps = [];
  let faults = [];
  const most = 5000; // matches that are marked
  bar.hidden = false;
  const gather = () => {
    steps = [...main.getElementsByClassName("step")];
    faults = [...main.querySelectorAll(".mark.error, .mark.refused")];
    bad.hidden = faults.length === 0;
  };
  gather();

  const isFolded = (element) => {
    const details = element.parentElement.closest("details:not([open])");
    return details !== null;
  };

  const unfold = (element) => {
    for (let each = element.parentElement; each && each !== main; each = each.parentElement) {
      if (each.tagName === "DETAILS") each.open = true;
    }
  };

  // Steps that have not been drawn yet have a height that is guessed, so a place is looked for until it stays.
  const reveal = (element, block) => {
    unfold(element);
    let tries = 0;
    let last = null;
    const look = () => {
      element.scrollIntoView({ block });
      const top = Math.round(element.getBoundingClientRect().top);
      if (top !== last && tries < 12) {
        tries += 1;
        last = top;
        requestAnimationFrame(look);
      }
    };
    look();
  };

  // ── steps
  let now = null;
  const choose = (step, block = "start") => {
    if (now) {
      now.classList.remove("now");
      now.removeAttribute("aria-current");
    }
    now = step;
    if (!step) return;
    step.classList.add("now");
    step.setAttribute("aria-current", "true");
    step.focus({ preventScroll: true });
    reveal(step, block);
  };

  const inSight = () => {
    const height = bar.getBoundingClientRect().bottom + 4;
    for (let y = height; y < innerHeight; y += 24) {
      const element = document.elementFromPoint(main.getBoundingClientRect().left + 60, y);
      const step = element && element.closest(".step");
      if (step) return step;
    }
    return steps[0];
  };

  const move = (by) => {
    let at = now ? steps.indexOf(now) + by : steps.indexOf(inSight());
    while (steps[at] && isFolded(steps[at])) at += by;
    if (steps[at]) choose(steps[at]);
  };

  const toggle = () => {
    const step = now || inSight();
    if (!step) return;
    if (!now) choose(step);
    const parts = [...step.querySelectorAll("details:not(.rest)")].filter((each) => each.closest(".step") === step);
    const open = parts.some((each) => !each.open);
    for (const each of parts) each.open = open;
  };

  fold.addEventListener("click", () => {
    const open = fold.dataset.open !== "yes";
    for (const each of main.querySelectorAll("details:not(.rest)")) each.open = open;
    fold.dataset.open = open ? "yes" : "no";
    fold.textContent = open ? "Fold all" : "Unfold all";
  });

  let fault = -1;
  const nextFault = () => {
    if (!faults.length) return;
    fault = (fault + 1) % faults.length;
    unfold(faults[fault]);
    choose(faults[fault].closest(".step"));
    found.textContent = `fault ${fault + 1} of ${faults.length}`;
  };
  bad.addEventListener("click", nextFault);

  // ── search
  let ranges = [];
  let here = -1;
  let texts = null;
  const marked = (name, list) => {
    if (!globalThis.CSS || !CSS.highlights || !globalThis.Highlight) return;
    if (list.length) CSS.highlights.set(name, new Highlight(...list));
    else CSS.highlights.delete(name);
  };

  const allTexts = () => {
    if (texts) return texts;
    texts = [];
    const walker = document.createTreeWalker(main, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) => {
      if (node.nodeType === Node.TEXT_NODE) {
        return node.data.trim() ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_REJECT;
      }
      // The beginning of a folded text stands in the whole once more.
      return /\b(head|more|rest)\b/.test(node.className) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_SKIP;
    });
    while (walker.nextNode()) texts.push(walker.currentNode);
    return texts;
  };

  const search = () => {
    ranges = [];
    here = -1;
    const words = find.value;
    if (words) {
      const wanted = new RegExp(words.replace(/[.*+?^${}()|[\]\\\/]/g, "\\$&"), "giu");
      look: for (const node of allTexts()) {
        for (const match of node.data.matchAll(wanted)) {
          const range = new Range();
          range.setStart(node, match.index);
          range.setEnd(node, match.index + match[0].length);
          ranges.push(range);
          if (ranges.length >= most) break look;
        }
      }
    }
    marked("found", ranges);
    marked("here", []);
    found.textContent = !words ? "" : ranges.length ? `${count()} found` : "nothing found";
  };

  const count = () => (ranges.length < most ? String(ranges.length) : `${most} or more`);

  const go = (by) => {
    if (!ranges.length) return;
    here = (here + by + ranges.length) % ranges.length;
    const range = ranges[here];
    const element = range.startContainer.parentElement;
    marked("here", [range]);
    found.textContent = `${here + 1} of ${count()}`;
    unfold(element);
    const step = element.closest(".step");
    if (step) step.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => {
      const box = range.getBoundingClientRect();
      const top = bar.getBoundingClientRect().bottom;
      if (box.top < top || box.bottom > innerHeight) scrollBy(0, box.top - innerHeight / 3);
    });
  };

  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(waiting);
      if (here < 0) search();
      go(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      find.value = "";
      search();
      find.blur();
    }
  });

  // ── keys
  const keys = {
    j: () => move(1),
    k: () => move(-1),
    e: toggle,
    x: nextFault,
    n: () => go(1),
    N: () => go(-1),
    "/": () => {
      find.focus();
      find.select();
    },
    Escape: () => choose(null),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    let act = keys[event.key];
    if (now && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      // A step that does not fit is scrolled through before the next is chosen.
      const box = now.getBoundingClientRect();
      const down = event.key === "ArrowDown";
      const more = down ? box.bottom > innerHeight : box.top < bar.getBoundingClientRect().bottom - 2;
      if (!more) act = down ? keys.j : keys.k;
    }
    if (!act) return;
    event.preventDefault();
    act();
  });

  main.addEventListener("grown", () => {
    gather();
    texts = null;
    if (now && !now.isConnected) {
      now = document.getElementById(now.id);
      if (now) now.classList.add("now");
    }
    if (find.value) search();
  });

  const follow = () => {
    const step = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (step && step.classList.contains("step")) choose(step);
  };
  addEventListener("hashchange", follow);
  follow();
})();
