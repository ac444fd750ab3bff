/* The live page, once it is there: asks for the parts that changed and puts them in place.
   Without this file the page is whole, and shows the truth at every load. */

(() => {
    "use strict";

    const config = JSON.parse(document.getElementById("linod-data").textContent);
    const texts = config.texts;
    const QUICK = ["strip", "cards", "tasks", "log"];
    /* Milliseconds: between two readings of all parts; between two readings whatever happens;
       the longest pause after failures; how long an answer may take. */
    const ALL = 15000, GAP = 800, LONGEST = 15000, PATIENCE = 10000;

    /* Showing */

    function showLink(state, help) {
        const link = document.getElementById("linod-link");
        link.hidden = false;
        if (link.textContent !== texts[state]) {
            link.textContent = texts[state];
        }
        link.className = "linod-link is-" + state;
        link.title = help || texts[state + "_help"];
    }

    function say(level, text) {
        const item = document.createElement("li");
        item.className = level;
        item.textContent = text;
        document.getElementById("linod-said").replaceChildren(item);
    }

    /* Make `old` like `fresh` and keep every node that can be kept: focus, selection and scroll
       stay where they are. Nodes with the same data-key are the same thing. */
    function morph(old, fresh) {
        if (old.dataset && "keep" in old.dataset) {
            return;
        }
        for (const {name} of [...old.attributes]) {
            if (!fresh.hasAttribute(name)) {
                old.removeAttribute(name);
            }
        }
        for (const {name, value} of fresh.attributes) {
            if (old.getAttribute(name) !== value) {
                old.setAttribute(name, value);
            }
        }
        morphChildren(old, fresh);
    }

    function keyOf(node) {
        return node.dataset ? node.dataset.key : undefined;
    }

    function morphChildren(old, fresh) {
        const keyed = new Map();
        for (const child of old.children) {
            if (keyOf(child) !== undefined) {
                keyed.set(keyOf(child), child);
            }
        }
        let place = old.firstChild;
        for (const child of [...fresh.childNodes]) {
            const key = keyOf(child);
            let same = key === undefined ? place : keyed.get(key);
            if (same && (same.nodeName !== child.nodeName || keyOf(same) !== key)) {
                same = null;
            }
            if (!same) {
                old.insertBefore(child, place);
                continue;
            }
            if (same === place) {
                place = place.nextSibling;
            } else {
                old.insertBefore(same, place);
            }
            if (same.nodeType === Node.ELEMENT_NODE) {
                morph(same, child);
            } else if (same.nodeValue !== child.nodeValue) {
                same.nodeValue = child.nodeValue;
            }
        }
        while (place) {
            const next = place.nextSibling;
            place.remove();
            place = next;
        }
    }

    function showPart(name, html) {
        const section = document.getElementById("linod-" + name);
        const active = section.contains(document.activeElement) ? document.activeElement : null;
        const row = active && active.closest("[data-key]:not(button)");
        const isAtEnd = scrolledToEnd(section.querySelector(".log"));
        const template = document.createElement("template");
        template.innerHTML = html;
        morphChildren(section, template.content);
        if (isAtEnd) {
            scrollToEnd(section.querySelector(".log"));
        }
        if (active && document.activeElement !== active) {
            const heir = active.isConnected ? active : row && row.querySelector("button, a");
            if (heir) {
                heir.focus({preventScroll: true});
            }
        }
    }

    function scrolledToEnd(log) {
        return log && log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    }

    function scrollToEnd(log) {
        if (log) {
            log.scrollTop = log.scrollHeight;
        }
    }

    /* Times: how far away, in the reader's language; the moment itself is the title. */

    const relative = new Intl.RelativeTimeFormat(config.language, {numeric: "auto", style: "short"});
    const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

    function showDistances() {
        for (const time of document.querySelectorAll(".linod [data-relative] time")) {
            const seconds = Math.round((Date.parse(time.dateTime) - Date.now()) / 1000);
            const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) || UNITS[3];
            const text = relative.format(Math.trunc(seconds / size), unit);
            if (time.textContent !== text) {
                time.textContent = text;
            }
        }
    }

    /* Reading */

    let timer = 0, reading = false, again = false, failures = 0, isOver = false;
    let readAll = 0, readAt = 0, isLive = false;

    function plan(milliseconds) {
        clearTimeout(timer);
        if (!isOver) {
            timer = setTimeout(read, milliseconds);
        }
    }

    function planNext() {
        const {live, polling, hidden} = config.seconds;
        const seconds = isLive ? live : document.hidden ? hidden : polling;
        plan(failures ? Math.min(LONGEST, 1000 * 2 ** failures) : 1000 * seconds);
    }

    /* Read soon: as soon as the last reading is long enough ago. */
    function look(all) {
        if (all) {
            readAll = 0;
        }
        if (reading) {
            again = true;
        } else {
            plan(Math.max(0, readAt + GAP - Date.now()));
        }
    }

    function address() {
        const query = new URLSearchParams(location.search);
        const marks = Object.entries(config.marks).map(([name, mark]) => name + "." + mark);
        query.set("since", marks.join("-"));
        if (Date.now() - readAll < ALL) {
            query.set("only", QUICK.join("-"));
        } else {
            readAll = Date.now();
        }
        return config.state + "?" + query;
    }

    async function read() {
        reading = true;
        try {
            const response = await fetch(address(), {
                headers: {Accept: "application/json"},
                credentials: "same-origin",
                signal: AbortSignal.timeout(PATIENCE),
            });
            // Where every page of the site wants a login, the login page is the answer.
            if (response.status === 403 || response.redirected) {
                end();
                return;
            }
            if (!response.ok) {
                throw new Error(String(response.status));
            }
            show(await response.json());
            failures = 0;
            showLink(isLive ? "live" : "polling");
        } catch {
            failures += 1;
            readAll = 0;
            showLink("offline");
        } finally {
            reading = false;
            readAt = Date.now();
            planNext();
            if (again) {
                again = false;
                look(false);
            }
        }
    }

    function show(answer) {
        for (const [name, html] of Object.entries(answer.parts)) {
            showPart(name, html);
        }
        Object.assign(config.marks, answer.marks);
        document.title = document.title.replace(/^(\(\d+\) )?[^|]*/, answer.title + " ").trim();
        const icon = document.querySelector("link[rel=icon]");
        if (icon.getAttribute("href") !== answer.icon) {
            icon.setAttribute("href", answer.icon);
        }
        showDistances();
    }

    /* Logged out, or without the permission: nothing more comes by itself. */
    function end() {
        isOver = true;
        clearTimeout(timer);
        if (listener) {
            listener.close();
        }
        showLink("offline", texts.logged_out);
        say("error", texts.logged_out);
    }

    /* Listening: events say that something changed; what is shown comes from the site. */

    let listener = null;
    const lags = new Map();

    function setLive(value) {
        const text = value ? texts.events : texts.no_events;
        showSign("linod-channels", value ? "is-ok" : "is-off", text);
        if (isLive !== value) {
            isLive = value;
            if (!failures && !isOver) {
                showLink(value ? "live" : "polling");
            }
            look(false);
        }
    }

    const HEARD = {
        hello() {
            look(true);
        },
        live(event) {
            setLive(event.live);
        },
        job(event) {
            look(event.job.end_time !== null);
        },
        task() {
            look(false);
        },
        resync() {
            look(true);
        },
        progress(event) {
            showProgress(event.job, event.progress);
        },
        daemon(event) {
            showLag(event.daemon);
        },
        refused() {
            end();
        },
    };

    function showProgress(job, progress) {
        const item = document.querySelector("[data-job='" + CSS.escape(job) + "']");
        if (item) {
            linodShowProgress(item.querySelector("progress"), item.querySelector(".done"), progress);
        }
    }

    function showLag(daemon) {
        const now = Date.now();
        lags.set(daemon.owner, {lag: daemon.lag, at: now});
        const fresh = [...lags.values()].filter((each) => now - each.at < 5000);
        const worst = Math.round(1000 * Math.max(...fresh.map((each) => each.lag || 0)));
        const colour = worst < 1000 ? "is-ok" : "is-late";
        showSign("linod-lag", colour, texts.lag.replace("%s", worst));
    }

    /* A sign of health in the strip at the top, as the site writes the others. */
    function showSign(id, colour, text) {
        const dot = document.createElement("span");
        dot.className = "dot " + colour;
        dot.setAttribute("aria-hidden", "true");
        const item = document.getElementById(id);
        item.replaceChildren(dot, " " + text);
        item.hidden = false;
    }

    /* Doing: the buttons work without this; with it, the page stays where it is. */

    async function act(form, button) {
        button.disabled = true;
        try {
            const response = await fetch(button.formAction, {
                method: "POST",
                body: new FormData(form),
                headers: {Accept: "application/json"},
                credentials: "same-origin",
            });
            if (response.status === 404) {
                say("error", texts.gone);
            } else if (response.status === 403 || response.redirected) {
                say("error", texts.forbidden);
            } else {
                const answer = await response.json();
                say(answer.level, answer.text);
            }
        } catch {
            say("error", texts.failed);
        } finally {
            button.disabled = false;
            button.focus({preventScroll: true});
            look(true);
        }
    }

    document.addEventListener("submit", (event) => {
        if (event.target.id === "linod-act" && event.submitter) {
            event.preventDefault();
            act(event.target, event.submitter);
        }
    });

    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) {
            look(true);
        }
    });

    readAll = readAt = Date.now();
    showLink("polling");
    showDistances();
    setInterval(showDistances, 1000);
    scrollToEnd(document.querySelector(".linod .log"));
    planNext();
    if (config.websocket) {
        listener = linodListen(config.websocket, HEARD);
    }
})();
