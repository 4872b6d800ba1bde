// What the scripts that drive the link page in Chromium have in common: sites that open it, browsers that watch it, and looks at it.
// Pictures of the pages are left in the folder LINK_SHOTS names, when it names one.
import { readFileSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(new URL("./link/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const truto = readFileSync(require.resolve("@truto/truto-link-sdk"), "utf8");
const shots = process.env.LINK_SHOTS;

// `localhost:5173`, the one other place that Truto's SDK listens to in frames, leads to the gateway.
export const framing = "http://localhost:5173";

const page = (base) => `<!doctype html><html lang="en"><title>App</title><h1>App</h1><button id="go">Connect</button>
<script type="module">
window.heard = [];
addEventListener("message", (event) => window.heard.push(event.data));
const settle = (promise) => promise.then((value) => ({ value }), (error) => ({ error: error.error_type ?? String(error) }));
window.truto = async (...all) => settle((await import("/truto.js")).default(...all));
window.ours = async (...all) => settle((await import("${base}/rollcall-link.js")).link(...all));
document.getElementById("go").addEventListener("click", () => { window.outcome = window.start(); });
</script>`;

function site(base) {
    const server = createServer((request, answer) => {
        const isSdk = request.url === "/truto.js";
        answer.setHeader("content-type", isSdk ? "text/javascript" : "text/html");
        answer.end(isSdk ? truto : page(base));
    });
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

export const at = (server) => `http://127.0.0.1:${server.address().port}`;

// A browser, a site that may open the page at `base`, and one that may not. The gateway listens on `port`; `others` are pages
// of vendors.
export async function stand({ base, port, apiToken, others = [] }) {
    const [app, evil] = [await site(base), await site(base)];
    const made = [];
    const browser = await chromium.launch({
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", `--host-resolver-rules=MAP localhost:5173 127.0.0.1:${port}`],
    });

    function call(method, path, body) {
        const headers = { host: new URL(base).host, authorization: `Bearer ${apiToken}`, "content-type": "application/json" };
        return new Promise((resolve, reject) => {
            const sent = ask({ host: "127.0.0.1", port, method, path, headers }, async (answer) => {
                const chunks = [];
                for await (const chunk of answer) chunks.push(chunk);
                resolve({ status: answer.statusCode, said: JSON.parse(Buffer.concat(chunks)) });
            });
            sent.on("error", reject);
            sent.end(body && JSON.stringify(body));
        });
    }

    async function linkToken(more = {}) {
        const { status, said } = await call("POST", "/link-token", { tenant_id: "browser", origins: [at(app)], ...more });
        assert.equal(status, 201, JSON.stringify(said));
        made.push(said.link_token);
        return said;
    }

    // A context in which nothing breaks the pages' policy, and no token goes on in a header or to another place.
    async function visit(options = {}) {
        const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
        context.setDefaultTimeout(20_000);
        context.wrong = [];
        const isVendors = (url) => others.some((place) => url.startsWith(place));
        context.on("console", (line) => {
            if (!isVendors(line.location().url) && /Content Security Policy|Refused to/.test(line.text())) context.wrong.push(line.text());
        });
        context.on("weberror", (error) => context.wrong.push(String(error.error())));
        context.on("request", (request) => {
            const { referer = "" } = request.headers();
            if (made.some((token) => referer.includes(token))) context.wrong.push(`referer of ${request.url()}`);
            const own = [base, at(app), at(evil), framing, "data:", "about:", "blob:", ...others];
            if (!own.some((place) => request.url().startsWith(place))) context.wrong.push(`asked for ${request.url()}`);
        });
        return context;
    }

    async function leave(context) {
        assert.deepEqual(context.wrong, []);
        await context.close();
    }

    // A page of the app whose button starts something; what comes of it.
    async function start(context, code, argument, origin = at(app)) {
        const tab = await context.newPage();
        await tab.goto(origin);
        await tab.waitForFunction(() => window.ours);
        await tab.evaluate(([text, value]) => { window.start = () => new Function("value", `return ${text}`)(value); }, [code, argument]);
        return tab;
    }

    async function end(checks) {
        const passed = [];
        for (const [name, check] of Object.entries(checks)) {
            const told = await check(name).catch((error) => {
                console.error(`${name}: ${error.stack}`);
                process.exit(1);
            });
            passed.push(name);
            if (told) console.error(`${name}: ${told}`);
        }
        console.log(JSON.stringify({ passed, tokens: made }));
        await browser.close();
        process.exit(0);
    }

    return { app, evil, call, linkToken, visit, leave, start, end };
}

// What came of it. An app that hears nothing would wait for ever.
export const outcome = (tab) => tab.evaluate(() => {
    const never = new Promise((_, reject) => setTimeout(() => reject(new Error("the app heard nothing")), 30_000));
    return Promise.race([window.outcome, never]);
});

// A button that closes its window. The window may be gone before the click has come back, which is then no mistake.
export async function closes(tab, name) {
    const closed = tab.waitForEvent("close");
    await tab.getByRole("button", { name }).click().catch(() => {});
    await closed;
}

// Of a tab or a frame: no rule of axe is broken, nothing is wider than the window, and a picture of it is left.
export async function isClean(tab, name) {
    await tab.evaluate(axe).catch(() => {});
    const found = await tab.evaluate(async () => {
        const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
        const { violations } = await window.axe.run(document);
        return { wide, violations: violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`) };
    });
    assert.deepEqual(found, { wide: false, violations: [] }, name);
    const shown = tab.page?.() ?? tab;
    if (shots) await shown.screenshot({ path: `${shots}/${name.replaceAll(" ", "-")}.png`, fullPage: true });
}
