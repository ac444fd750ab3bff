// The page of a job, as long as the job is not at its end: shows what it is told over the websocket,
// and asks once a second what is new as long as it is told nothing.
"use strict";
document.addEventListener("DOMContentLoaded", function () {
  const head = document.getElementById("linod-job-state");
  if (!head) return;
  const log = document.getElementById("linod-log");
  const follow = document.getElementById("linod-follow");
  const link = document.getElementById("linod-link");
  const {job, websocket} = head.dataset;
  const lineHead = new RegExp(head.dataset.head);
  const EVERY = 1000, SLOWEST = 10000, PATIENCE = 10000, KEPT = 20000;
  let last = Number(head.dataset.last), open = head.dataset.open === "1";
  let failures = 0, timer = 0, asking = false, again = false, level = "info";
  // Whether events arrive, and whether one of them was about this job: a job that no daemon runs
  // (BackgroundTask.run()) is never spoken of.
  let isLive = false, isToldOf = false, listener = null;

  function setText(id, text) {
    const element = document.getElementById(id);
    if (element && element.textContent !== text) element.textContent = text;
  }

  function showState(news) {
    const state = document.querySelector("#linod-state .linod-state");
    const dot = document.createElement("span");
    dot.className = "linod-dot";
    dot.setAttribute("aria-hidden", "true");
    if (state.textContent !== news.text) state.replaceChildren(dot, news.text);
    state.className = "linod-state linod-" + news.state;
    setText("linod-duration", news.duration === "-" ? "" : news.duration);
    const cancel = document.getElementById("linod-cancel");
    if (cancel && (!news.open || news.asked_to_stop)) cancel.remove();
  }

  function showProgress(progress) {
    const box = document.getElementById("linod-progress");
    box.hidden = !progress;
    if (progress) linodShowProgress(box.querySelector("progress"), box.querySelector("span"), progress);
  }

  function showLines(lines) {
    if (!log || !lines || !lines.length) return;
    const fresh = document.createDocumentFragment();
    for (const [lineLevel, text] of lines) {
      level = lineLevel;
      const line = document.createElement("span");
      line.className = "linod-" + lineLevel;
      line.textContent = text + "\n";
      fresh.append(line);
    }
    log.append(fresh);
    while (log.childElementCount > KEPT) log.firstElementChild.remove();
    document.getElementById("linod-nothing").hidden = true;
    if (follow && follow.checked) log.scrollTop = log.scrollHeight;
  }

  function showError(error) {
    const box = document.getElementById("linod-error");
    if (!box || !error) return;
    box.querySelector("pre").textContent = error;
    box.hidden = false;
  }

  function plan(more) {
    window.clearTimeout(timer);
    if (!open && !more) {
      if (listener) listener.close();
      setText("linod-link", "");
      return;
    }
    const usual = isLive && isToldOf ? SLOWEST : EVERY;
    timer = window.setTimeout(ask, more ? 0 : Math.min(usual * 2 ** failures, SLOWEST));
  }

  async function ask() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    again = false;
    let more = false;
    try {
      const answer = await fetch(head.dataset.address + "?after=" + last, {
        credentials: "same-origin", headers: {Accept: "application/json"}, redirect: "error",
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const news = await answer.json();
      showState(news);
      showProgress(news.progress);
      showLines(news.lines);
      showError(news.error);
      last = news.last === undefined ? last : news.last;
      open = news.open;
      more = Boolean(news.more) || again;
      failures = 0;
      setText("linod-silence", "");
    } catch (error) {
      failures += 1;
      setText("linod-silence", head.dataset.silent);
    } finally {
      asking = false;
    }
    plan(more);
  }

  // A piece of the log is shown at once when it is the next one; in every other case the page asks.
  function hearLog(event) {
    if (event.n <= last) return;
    if (asking || event.cut || event.n !== last + 1) {
      ask();
      return;
    }
    showLines(event.lines.map(function (text) {
      const found = lineHead.exec(text);
      level = found ? found[1].toLowerCase() : level;
      return [level, text];
    }));
    last = event.n;
  }

  // What concerns this job; from then on the page asks less often.
  function told(show) {
    isToldOf = true;
    show();
  }

  function setLive(value) {
    isLive = value;
    if (!value) isToldOf = false;
    setText("linod-link", value ? link.dataset.live : link.dataset.polling);
    if (open) plan(false);
  }

  const HEARD = {
    hello: function (event) {
      // Once subscribed, the page asks for what was said before.
      if (event.logs) listener.send({subscribe: {job}});
      else ask();
    },
    live: function (event) { setLive(event.live); },
    subscribed: function () { ask(); },
    resync: function () { ask(); },
    job: function (event) { if (event.job.id === job) told(ask); },
    progress: function (event) {
      if (event.job === job) told(function () { showProgress(event.progress); });
    },
    log: function (event) { told(function () { hearLog(event); }); },
    refused: function () { },  // the page still asks, and is told what its user may see
  };

  if (log) log.scrollTop = log.scrollHeight;
  if (!open) return;
  for (const element of document.querySelectorAll(".linod-script")) element.hidden = false;
  if (follow) {
    // Whoever scrolls back wants to read; whoever returns to the end wants to follow.
    log.addEventListener("scroll", function () {
      follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    });
    follow.addEventListener("change", function () {
      if (follow.checked) log.scrollTop = log.scrollHeight;
    });
  }
  document.addEventListener("visibilitychange", function () {
    window.clearTimeout(timer);
    if (!document.hidden && open) ask();
  });
  ask();
  if (websocket) listener = linodListen(websocket, HEARD);
});
