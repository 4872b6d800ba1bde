// What the link page gains where scripts run: search, checks while typing, and word to whoever opened it.
"use strict";
const main = document.querySelector("main");
const framed = window.parent !== window;
const origins = (main.dataset.origins || "").split(" ").filter(Boolean);

// The link token does not stay in the address.
if (location.search.includes("link_token")) history.replaceState(null, "", location.pathname);

// Each message goes to one exact origin, and to registered ones alone.
function tell(message) {
    if (framed) {
        const above = location.ancestorOrigins && location.ancestorOrigins[0];
        for (const origin of origins) if (!above || above === origin) window.parent.postMessage(message, origin);
    } else if (window.opener) {
        for (const origin of origins) window.opener.postMessage(message, origin);
    }
}

const ended = document.getElementById("ended");
const message = ended && JSON.parse(ended.dataset.message);
if (message) {
    const close = document.getElementById("close");
    const relayed = "relayed" in ended.dataset && window.opener;
    let told = false;
    const once = () => {
        if (told) return;
        told = true;
        if (relayed) window.opener.postMessage({ rollcall: message }, location.origin);
        else if (message !== "closed" || framed) tell(message);
    };
    // What the customer should read first is not closed by whoever opened the page.
    if ("waits" in ended.dataset) addEventListener("pagehide", once);
    else once();
    if (relayed || (window.opener && !framed) || (framed && "waits" in ended.dataset)) {
        close.hidden = false;
        close.addEventListener("click", () => { once(); if (!framed) window.close(); });
    }
    if (message === "closed" && !framed && (window.opener || relayed)) window.close();
} else if (framed) {
    // A window of our own that the vendor's pages were shown in came to its end.
    addEventListener("message", (event) => {
        if (event.origin === location.origin && event.source !== window.parent && event.data && event.data.rollcall) {
            tell(event.data.rollcall);
        }
    });
}

const search = document.getElementById("search");
if (search) {
    const cards = [...document.querySelectorAll("[data-words]")];
    search.parentElement.hidden = cards.length < 2;
    search.addEventListener("input", () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        for (const card of cards) {
            card.hidden = !words.every((word) => card.dataset.words.includes(word));
            if (!card.hidden) shown += 1;
        }
        document.getElementById("found").textContent = `${shown} of ${cards.length}`;
    });
}

const form = document.querySelector("form.fields");
if (form) {
    const button = form.querySelector("button");
    const word = button.textContent;
    form.noValidate = true;
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
        if (form.target) return;
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
