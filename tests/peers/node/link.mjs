// Drives the link page in Chromium: link.mjs BASE TOKEN SERVICE_URL API_KEY. Prints one JSON line with what held; anything
// that does not ends it with an error. With LINK_SHOTS=FOLDER pictures of the pages are left there.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const [, , base, apiToken, service, key] = process.argv;
const require = createRequire(new URL("./link/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const truto = readFileSync(require.resolve("@truto/truto-link-sdk"), "utf8");
const shots = process.env.LINK_SHOTS;

const page = `<!doctype html><html lang="en"><title>App</title><h1>App</h1><button id="go">Connect</button>
<script type="module">
window.heard = [];
addEventListener("message", (event) => window.heard.push(event.data));
const settle = (promise) => promise.then((value) => ({ value }), (error) => ({ error: error.error_type ?? String(error) }));
window.truto = async (...all) => settle((await import("/truto.js")).default(...all));
window.ours = async (...all) => settle((await import("${base}/rollcall-link.js")).link(...all));
document.getElementById("go").addEventListener("click", () => { window.outcome = window.start(); });
</script>`;

function site() {
    const server = createServer((request, answer) => {
        const isSdk = request.url === "/truto.js";
        answer.setHeader("content-type", isSdk ? "text/javascript" : "text/html");
        answer.end(isSdk ? truto : page);
    });
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const app = await site();
const evil = await site();
const at = (server) => `http://127.0.0.1:${server.address().port}`;

const made = [];
async function linkToken(more = {}) {
    const body = JSON.stringify({ tenant_id: "browser", origins: [at(app)], ...more });
    const headers = { authorization: `Bearer ${apiToken}`, "content-type": "application/json" };
    const answer = await fetch(`${base}/link-token`, { method: "POST", headers, body });
    const said = await answer.json();
    assert.equal(answer.status, 201, JSON.stringify(said));
    made.push(said.link_token);
    return said;
}

const port = new URL(base).port;
const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", `--host-resolver-rules=MAP localhost:5173 127.0.0.1:${port}`],
});

// A context in which nothing breaks the pages' policy, and no token goes on in a header or to another place.
async function visit(options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    context.setDefaultTimeout(20_000);
    context.wrong = [];
    context.on("console", (line) => {
        if (/Content Security Policy|Refused to/.test(line.text())) context.wrong.push(line.text());
    });
    context.on("weberror", (error) => context.wrong.push(String(error.error())));
    context.on("request", (request) => {
        const { referer = "" } = request.headers();
        if (made.some((token) => referer.includes(token))) context.wrong.push(`referer of ${request.url()}`);
        const own = [base, at(app), at(evil), "http://localhost:5173", "data:", "about:", "blob:"];
        if (!own.some((place) => request.url().startsWith(place))) context.wrong.push(`asked for ${request.url()}`);
    });
    return context;
}

async function leave(context) {
    assert.deepEqual(context.wrong, []);
    await context.close();
}

async function isClean(tab, name) {
    await tab.evaluate(axe).catch(() => {});
    const found = await tab.evaluate(async () => {
        const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
        const { violations } = await window.axe.run(document);
        return { wide, violations: violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`) };
    });
    assert.deepEqual(found, { wide: false, violations: [] }, name);
    if (shots) await tab.screenshot({ path: `${shots}/${name.replaceAll(" ", "-")}.png`, fullPage: true });
}

async function fillIn(tab, secret = key) {
    await tab.getByLabel("Service address").fill(service);
    await tab.getByLabel("API key").fill(secret);
    await tab.getByRole("button", { name: /Connect|Check again/ }).click();
}

async function link(tab) {
    await fillIn(tab);
    await tab.getByRole("heading", { name: "Keeper Security is connected" }).waitFor();
}

const preset = "&integration=keeper&auth_format=service_mode";
const checks = {};

for (const width of [375, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
        checks[`form at ${width} ${colorScheme}`] = async (name) => {
            const context = await visit({ viewport: { width, height: 800 }, colorScheme, bypassCSP: false });
            const tab = await context.newPage();
            const { link_url, link_token } = await linkToken();
            await tab.goto(link_url);
            assert.ok(!tab.url().includes(link_token), tab.url());
            await isClean(tab, `${name} picker`);
            await tab.getByLabel("Search").fill("password manager");
            assert.equal(await tab.locator(".cards li:visible").count(), 1);
            await tab.getByText("Keeper Security").click();
            await isClean(tab, `${name} ways`);
            await tab.getByText("Commander Service Mode").click();
            await isClean(tab, `${name} form`);
            await link(tab);
            await isClean(tab, `${name} done`);
            await leave(context);
        };
    }
}

checks["mistakes stand beside their fields"] = async (name) => {
    const context = await visit();
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url + preset);
    await tab.getByLabel("Service address").fill("nonsense");
    await tab.getByLabel("API key").focus();
    await tab.getByText("An address that begins with https://").waitFor();
    await tab.getByRole("button", { name: "Connect" }).click();
    assert.equal(await tab.evaluate(() => document.activeElement.id), "f-service_url");
    await fillIn(tab, "not-the-key");
    await tab.getByRole("alert").getByText("Nothing was connected").waitFor();
    assert.equal(await tab.getByLabel("Service address").inputValue(), service);
    assert.equal(await tab.getByLabel("API key").inputValue(), "");
    await isClean(tab, `${name} refused`);
    await tab.getByLabel("Service address").fill("https://a b");
    await tab.getByLabel("API key").fill("x");
    await tab.evaluate(() => document.querySelector("form.fields").submit());
    await tab.locator("#e-service_url").getByText("Service address takes").waitFor();
    assert.equal(await tab.evaluate(() => document.activeElement.id), "f-service_url");
    await isClean(tab, `${name} mistaken`);
    await link(tab);
    await leave(context);
};

checks["without script"] = async () => {
    const context = await visit({ javaScriptEnabled: false, viewport: { width: 375, height: 800 } });
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url);
    await tab.getByText("Keeper Security").click();
    await tab.getByText("Commander Service Mode").click();
    await fillIn(tab, "not-the-key");
    await tab.getByRole("button", { name: "Check again" }).waitFor();
    await link(tab);
    await leave(context);
};

checks["keyboard alone"] = async () => {
    const context = await visit();
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url);
    const tabTo = async (matches) => {
        for (let step = 0; step < 40; step += 1) {
            await tab.keyboard.press("Tab");
            if (await tab.evaluate(matches)) return;
        }
        assert.fail(`not reached: ${matches}`);
    };
    await tabTo(() => document.activeElement.textContent.includes("Keeper"));
    await tab.keyboard.press("Enter");
    await tab.getByText("Choose the way that fits").waitFor();
    await tabTo(() => document.activeElement.textContent.includes("Commander Service Mode"));
    await tab.keyboard.press("Enter");
    await tab.getByLabel("Service address").waitFor();
    await tabTo(() => document.activeElement.id === "f-service_url");
    await tab.keyboard.type(service);
    await tabTo(() => document.activeElement.id === "f-api_key");
    await tab.keyboard.type(key);
    await tab.keyboard.press("Enter");
    await tab.getByRole("heading", { name: "Keeper Security is connected" }).waitFor();
    await leave(context);
};

checks["first paint and weight"] = async () => {
    const context = await visit();
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url + preset);
    let best = Infinity;
    for (let round = 0; round < 8 && best >= 100; round += 1) {
        await tab.reload();
        await tab.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
        best = Math.min(best, await tab.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    }
    assert.ok(best < 100, `first paint after ${best} ms`);
    const weight = await tab.evaluate(() => {
        const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
        return entries.reduce((sum, entry) => sum + entry.decodedBodySize, 0);
    });
    assert.ok(weight > 5_000 && weight < 60_000, `${weight} bytes`);
    await leave(context);
};

// A page of the app whose button starts something; what comes of it.
async function start(context, code, argument, origin = at(app)) {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.waitForFunction(() => window.ours);
    await tab.evaluate(([text, value]) => { window.start = () => new Function("value", `return ${text}`)(value); }, [code, argument]);
    return tab;
}

const outcome = (tab) => tab.evaluate(() => window.outcome);

function isLinked(said) {
    assert.equal(said.value?.integration, "keeper", JSON.stringify(said));
    assert.match(said.value.integrated_account_id, /^[0-9a-f-]{36}$/);
    assert.ok(!JSON.stringify(said).includes(key));
}

async function inPopup(code, argument) {
    const context = await visit();
    const tab = await start(context, code, argument);
    const [popup] = await Promise.all([context.waitForEvent("page"), tab.click("#go")]);
    await fillIn(popup);
    isLinked(await outcome(tab));
    await leave(context);
}

const scheme = { integration: "keeper", authFormat: "service_mode" };

checks["truto popup"] = async () => {
    const { link_token } = await linkToken();
    await inPopup("window.truto(value[0], value[1])", [link_token, { ...scheme, baseUrl: base, iframe: false }]);
};

checks["truto same window"] = async () => {
    const context = await visit();
    const { link_token } = await linkToken({ redirect_uri: `${at(app)}/back?a=b` });
    const value = [link_token, { ...scheme, baseUrl: base, sameWindow: true }];
    const tab = await start(context, "void import('/truto.js').then((sdk) => sdk.default(value[0], value[1]))", value);
    await tab.click("#go");
    await fillIn(tab);
    await tab.waitForURL(`${at(app)}/back?**`);
    const back = new URL(tab.url()).searchParams;
    assert.deepEqual([back.get("a"), back.get("result"), back.get("integration")], ["b", "success", "keeper"]);
    assert.match(back.get("integrated_account_id"), /^[0-9a-f-]{36}$/);
    await leave(context);
};

checks["truto frame"] = async () => {
    const context = await visit();
    const { link_token } = await linkToken();
    const value = [link_token, { ...scheme, baseUrl: "http://localhost:5173" }];
    const tab = await start(context, "window.truto(value[0], value[1])", value);
    await tab.click("#go");
    await fillIn(tab.frameLocator("#truto-link-iframe"));
    isLinked(await outcome(tab));
    assert.equal(await tab.locator("iframe").count(), 0);
    await leave(context);
};

checks["rollcall popup"] = async () => {
    await inPopup("window.ours(value[0], value[1])", [(await linkToken()).link_token, scheme]);
};

checks["rollcall frame"] = async () => {
    const context = await visit();
    const { link_token } = await linkToken();
    const tab = await start(context, "window.ours(value[0], value[1])", [link_token, { mode: "iframe" }]);
    await tab.click("#go");
    const frame = tab.frameLocator("iframe");
    await frame.getByText("Keeper Security").click();
    await frame.getByText("Commander Service Mode").click();
    assert.ok(tab.frames().every((one) => !one.url().includes(link_token)), "the token stays in the frame's address");
    await fillIn(frame, "not-the-key");
    await frame.getByRole("button", { name: "Check again" }).waitFor();
    await fillIn(frame);
    isLinked(await outcome(tab));
    assert.equal(await tab.locator("iframe").count(), 0);
    await leave(context);
};

checks.closed = async () => {
    const context = await visit();
    for (const mode of ["iframe", "popup"]) {
        const { link_token } = await linkToken();
        const tab = await start(context, "window.ours(value[0], value[1])", [link_token, { mode }]);
        const opened = mode === "popup" ? context.waitForEvent("page") : tab.frameLocator("iframe");
        await tab.click("#go");
        await (await opened).getByRole("button", { name: "Cancel" }).click();
        assert.deepEqual(await outcome(tab), { error: "closed" }, mode);
    }
    await leave(context);
};

checks["used token"] = async () => {
    const context = await visit();
    const { link_token, id } = await linkToken();
    const headers = { authorization: `Bearer ${apiToken}` };
    assert.equal((await fetch(`${base}/link-token/${id}`, { method: "DELETE", headers })).status, 200);
    for (const mode of ["iframe", "popup"]) {
        const tab = await start(context, "window.ours(value[0], value[1])", [link_token, { mode }]);
        await tab.click("#go");
        assert.deepEqual(await outcome(tab), { error: "invalid_token" }, mode);
    }
    await leave(context);
};

checks["hostile opener"] = async () => {
    const context = await visit();
    const { link_url } = await linkToken();
    const tab = await start(context, "void window.open(value)", link_url + preset, at(evil));
    const [popup] = await Promise.all([context.waitForEvent("page"), tab.click("#go")]);
    context.wrong.length = 0;
    await link(popup);
    await popup.waitForTimeout(300);
    assert.deepEqual(await tab.evaluate(() => window.heard), []);
    await leave(context);
};

checks["hostile frame"] = async () => {
    const context = await visit();
    const { link_url } = await linkToken();
    for (const more of ["", "&iframe=true"]) {
        const code = "void document.body.append(Object.assign(document.createElement('iframe'), { src: value }))";
        const tab = await start(context, code, link_url + preset + more, at(evil));
        const refused = context.waitForEvent("console", (line) => /frame-ancestors/.test(line.text()));
        await tab.click("#go");
        await refused;
        assert.equal(await tab.frameLocator("iframe").getByLabel("API key").count(), 0);
        assert.deepEqual(await tab.evaluate(() => window.heard), []);
    }
    // The refusals were wanted.
    context.wrong = context.wrong.filter((line) => !/frame-ancestors/.test(line));
    await leave(context);
};

const passed = [];
for (const [name, check] of Object.entries(checks)) {
    try {
        await check(name);
    } catch (error) {
        console.error(`${name}: ${error.stack}`);
        process.exit(1);
    }
    passed.push(name);
}
console.log(JSON.stringify({ passed, tokens: made }));
await browser.close();
app.close();
evil.close();
process.exit(0);
