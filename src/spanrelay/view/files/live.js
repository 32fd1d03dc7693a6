"use strict";
// In a page that is served, and in no other: asks its own address again and again, and takes over what has changed.
// What is open, chosen and scrolled to stays as it is. The parser that a request has runs nothing.
(() => {
  const state = document.getElementById("state");
  const main = document.querySelector("main");
  const runs = document.getElementById("runs");
  const least = 500; // milliseconds between two questions,
  const idle = 9; // or as many times as long as the last answer took
  let tag = "";

  const openAs = (old, fresh) => {
    const parts = [...old.querySelectorAll("details")];
    [...fresh.querySelectorAll("details")].forEach((each, at) => {
      if (parts[at] && parts[at].className === each.className) each.open = parts[at].open;
    });
  };

  // The head, and the panels or charts.
  const known = {};
  const swap = (selector, page) => {
    const old = document.querySelector(selector);
    const fresh = page.querySelector(selector);
    const markup = fresh ? fresh.outerHTML : "";
    if (markup === known[selector]) return;
    known[selector] = markup;
    if (!fresh) {
      if (old) old.remove();
      return;
    }
    if (old) {
      openAs(old, fresh);
      old.replaceWith(fresh);
    } else {
      document.querySelector("header.top").after(fresh);
    }
  };

  const topSteps = (root) => [...root.querySelectorAll("main > .group > .step")];
  const takeSteps = (page) => {
    const old = topSteps(document);
    const fresh = topSteps(page);
    const atEnd = old.length > 0 && innerHeight + scrollY > document.documentElement.scrollHeight - 120;
    let changed = false;
    fresh.forEach((step, at) => {
      if (!old[at]) {
        let group = main.lastElementChild;
        if (!group || group.childElementCount >= 40) {
          group = document.createElement("div");
          group.className = "group";
          main.append(group);
        }
        group.append(step);
      } else if (old[at].textContent !== step.textContent) {
        openAs(old[at], step);
        old[at].replaceWith(step);
      } else {
        return;
      }
      changed = true;
    });
    for (const step of old.slice(fresh.length)) step.remove();
    if (changed || fresh.length < old.length) main.dispatchEvent(new Event("grown"));
    if (changed && atEnd) scrollTo(0, document.documentElement.scrollHeight);
  };

  const takeChoices = (id, page) => {
    const choice = document.getElementById(id);
    const named = choice.selectedOptions[0].textContent;
    choice.replaceChildren(...page.getElementById(id).options);
    const again = [...choice.options].find((each) => each.textContent === named);
    choice.selectedIndex = again ? again.index : 0;
  };

  const take = (page) => {
    document.title = page.title;
    swap("header.top", page);
    swap(runs ? ".charts" : ".panels", page);
    if (runs) {
      takeChoices("agent", page);
      takeChoices("model", page);
      runs.replaceChildren(...page.getElementById("runs").childNodes);
      runs.dispatchEvent(new Event("grown"));
    } else {
      takeSteps(page);
    }
  };

  const ask = () => {
    if (document.hidden) {
      document.addEventListener("visibilitychange", ask, { once: true });
      return;
    }
    const request = new XMLHttpRequest();
    const begun = performance.now();
    const again = (words) => {
      state.textContent = words;
      setTimeout(ask, Math.max(least, idle * (performance.now() - begun)));
    };
    request.open("GET", location.pathname);
    request.responseType = "document";
    if (tag) request.setRequestHeader("If-None-Match", tag);
    request.addEventListener("load", () => {
      if (request.status === 200 && request.response) {
        tag = request.getResponseHeader("ETag");
        take(request.response);
      }
      again(request.status === 404 ? "removed" : request.status === 200 || request.status === 304 ? "live" : "refused");
    });
    request.addEventListener("error", () => again("not watched any more"));
    request.send();
  };
  ask();
})();
