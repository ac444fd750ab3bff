/* What the pages share that are told of changes: the websocket, and how far a job is.
   Nothing depends on it: pages ask by themselves as long as the websocket does not speak. */
"use strict";

/* Listen, and connect again whenever the connection breaks. `hears` has a function for each type of
   event that the page wants; besides, `live({live})` is called when the connection breaks, and
   `refused()` when this user may not listen (any more). */
function linodListen(path, hears) {
    /* Milliseconds: the longest pause before connecting again. */
    const LONGEST = 15000, FORBIDDEN = 4403;
    let attempts = 0, timer = 0, socket = null, isOver = false;

    function send(message) {
        socket.send(JSON.stringify(message));
    }

    function hear(event) {
        if (event.type === "hello") {
            attempts = 0;
        }
        if (event.type === "ping") {
            send({pong: event.n});
        } else if (Object.hasOwn(hears, event.type)) {
            hears[event.type](event);
        }
    }

    function connect() {
        const scheme = location.protocol === "https:" ? "wss://" : "ws://";
        socket = new WebSocket(scheme + location.host + path);
        socket.onmessage = (message) => hear(JSON.parse(message.data));
        socket.onclose = (event) => {
            if (isOver) {
                return;
            }
            hears.live({live: false});
            if (event.code === FORBIDDEN) {
                hears.refused();
                return;
            }
            const pause = Math.min(LONGEST, 1000 * 2 ** attempts);
            attempts += 1;
            timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
        };
    }

    connect();
    return {
        send,
        close() {
            isOver = true;
            clearTimeout(timer);
            socket.close();
        },
    };
}

/* Show how far a job is: by its bar, and in words. */
function linodShowProgress(bar, words, {done, total, text}) {
    if (total) {
        bar.max = total;
        bar.value = done;
    } else {
        bar.removeAttribute("value");
    }
    const number = (n) => String(Number.isInteger(n) ? n : n.toFixed(2));
    const amount = total ? number(done) + " / " + number(total) : number(done);
    words.textContent = (amount + " " + (text || "")).trim();
}
