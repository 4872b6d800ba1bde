// What the link page gains where scripts run: search, checks while typing, and word to whoever opened it.
"use strict";
const main = document.querySelector("main");
const framed = window.parent !== window;
const origins = (main.dataset.origins || "").split(" ").filter(Boolean);

// The link token does not stay in the address, and neither does what a vendor sent along.
if (location.search.includes("link_token")) history.replaceState(null, "", location.pathname);
else if (location.pathname.endsWith("/callback")) history.replaceState(null, "", document.body.dataset.place || "/connect-account");

// Each message goes to one exact origin, and to registered ones alone.
function tell(message) {
    if (framed) {
        const above = location.ancestorOrigins && location.ancestorOrigins[0];
        for (const origin of origins) if (!above || above === origin) window.parent.postMessage(message, origin);
    } else if (window.opener) {
        for (const origin of origins) window.opener.postMessage(message, origin);
    }
}

// A word to the page of ours that opened this window for a vendor. It goes to our own origin, and says nothing but that.
const opener = "relayed" in main.dataset || main.id === "failed" ? window.opener : null;
const relay = (word) => opener && opener.postMessage({ rollcall: word }, location.origin);

const close = document.getElementById("close");
const ended = document.getElementById("ended");
const message = ended && JSON.parse(ended.dataset.message);
if (message) {
    const waits = "waits" in ended.dataset;
    let told = false;
    const once = () => {
        if (told) return;
        told = true;
        if (opener) relay("ended");
        else if (message !== "closed" || framed) tell(message);
    };
    // What the customer should read first is not closed by whoever opened the page; a window of its own stays by itself.
    if (waits && !opener) addEventListener("pagehide", once);
    else once();
    if ((window.opener && !framed) || (framed && waits)) {
        close.hidden = false;
        close.addEventListener("click", () => { once(); if (!framed) window.close(); });
    }
    if (opener && !waits) window.close();
    if (message === "closed" && !framed && window.opener) window.close();
} else if (opener) {
    relay(main.dataset.why);
    close.hidden = false;
    close.addEventListener("click", () => window.close());
}

// Vendors refuse frames, and may cut the tie to whoever opened their window: they get a window of their own wherever somebody
// waits for the result. This page looks whether it came to an end, and sooner when that window says so.
const away = document.getElementById("away");
const apart = away && (framed || (window.opener && origins.length > 0));
const look = document.querySelector("#look");
const looking = document.getElementById("looking");
const EVERY = 2000;
let until = 0;
let gone = false;

function goOn() {
    if (gone) return;
    gone = true;
    look.submit();
}

async function watch() {
    const body = new URLSearchParams(new FormData(look));
    const answer = await fetch(look.action, { method: "POST", body, redirect: "manual" }).catch(() => null);
    const isOver = answer && (answer.type === "opaqueredirect" || answer.status === 200 || answer.status === 410);
    if (isOver) goOn();
    else if (Date.now() < until) setTimeout(watch, EVERY);
}

function leave() {
    away.classList.remove("bad");
    away.textContent = away.dataset.said;
    looking.hidden = false;
    const isWatched = Date.now() < until;
    until = Date.now() + 600_000;
    if (!isWatched) setTimeout(watch, EVERY);
}

if (apart) {
    looking.hidden = true;
    addEventListener("message", (event) => {
        if (event.origin !== location.origin || event.source === window.parent || !event.data || !event.data.rollcall) return;
        if (event.data.rollcall === "ended") return goOn();
        away.classList.add("bad");
        away.textContent = `Nothing was connected. ${event.data.rollcall}`;
    });
}

const search = document.getElementById("search");
if (search) {
    const cards = [...document.querySelectorAll("[data-words]")];
    search.parentElement.hidden = cards.length < 2;
    const found = document.getElementById("found");
    const none = document.getElementById("none");
    const narrow = () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        for (const card of cards) {
            card.hidden = !words.every((word) => card.dataset.words.includes(word));
            if (!card.hidden) shown += 1;
        }
        found.textContent = shown ? `${shown} of ${cards.length}` : `Nothing found for “${search.value.trim()}”.`;
        found.classList.toggle("unseen", shown > 0);
        none.hidden = shown > 0;
    };
    search.addEventListener("input", narrow);
    none.querySelector("button").addEventListener("click", () => {
        search.value = "";
        narrow();
        search.focus();
    });
}

const form = document.querySelector("form.fields");
if (form) {
    const button = document.querySelector("button[form=fields]");
    const word = button.textContent;
    form.noValidate = true;
    if (apart) {
        form.target = "_blank";
        form.setAttribute("rel", "opener");
        form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "apart", value: "yes" }));
    }
    const inputs = [...form.querySelectorAll("input[name^='f.'],select,textarea")];
    const check = (input) => {
        const { validity } = input;
        const label = input.labels[0].firstChild.textContent.trim();
        let wrong = "";
        if (validity.valueMissing) wrong = `${label} is missing.`;
        else if (!validity.valid) wrong = input.dataset.takes ? `${input.dataset.takes}.` : input.validationMessage;
        document.getElementById(input.id.replace("f-", "e-")).textContent = wrong;
        if (wrong) input.setAttribute("aria-invalid", "true");
        else input.removeAttribute("aria-invalid");
        return !wrong;
    };
    for (const input of inputs) {
        input.addEventListener("change", () => check(input));
        input.addEventListener("input", () => input.hasAttribute("aria-invalid") && check(input));
    }
    form.addEventListener("submit", (event) => {
        const wrong = inputs.filter((input) => !check(input));
        if (wrong.length) {
            event.preventDefault();
            const fold = wrong[0].closest("details");
            if (fold) fold.open = true;
            wrong[0].focus();
            return;
        }
        if (apart) return leave();
        button.disabled = true;
        button.textContent = button.dataset.busy;
    });
    // A page that comes back from the browser's memory can be sent again.
    addEventListener("pageshow", () => {
        button.disabled = false;
        button.textContent = word;
    });
    const alert = form.querySelector(".alert");
    if (alert && !form.querySelector("[aria-invalid]")) alert.focus();
}
