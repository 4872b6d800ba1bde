// Goes through a vendor's consent pages in Chromium: consent.mjs PORT TOKEN VENDOR BLIND, where the gateway listens at PORT with
// the public address http://localhost:5173, VENDOR is what oidc.mjs said when it listened, and BLIND a vendor that shows nothing.
// Prints one JSON line with what held; anything that does not ends it with an error.
import assert from "node:assert/strict";
import { at, closes, framing, isClean, outcome, stand } from "./page.mjs";

const [, , port, apiToken, ready, blind] = process.argv;
const vendor = JSON.parse(ready);
const origin = new URL(vendor.listening).origin;
const base = framing;
const { app, evil, call, linkToken, visit: visitAny, leave, start, end } =
    await stand({ base, port, apiToken, others: [origin, "https://fonts.googleapis.com/"] });

const preset = "&integration=scim&auth_format=oauth2";
const scheme = { integration: "scim", authFormat: "oauth2" };
const fields = {
    "SCIM address": vendor.listening, "Authorization endpoint": vendor.authorize_url, "Token endpoint": vendor.token_url,
    "Client ID": vendor.browser.id, "Client secret": vendor.browser.secret, Scopes: "openid scim.read",
};
const checks = {};

async function visit(options = {}) {
    const context = await visitAny(options);
    await context.route("https://fonts.googleapis.com/**", (route) => route.abort());
    return context;
}

const cuts = (word) => fetch(`${origin}/apart/${word}`, { method: "PUT" });

async function fill(tab, given = fields) {
    for (const [label, value] of Object.entries(given)) await tab.getByLabel(new RegExp(`^${label}`)).fill(value);
}

const go = (tab) => tab.getByRole("button", { name: "Continue" }).click();

// Signs in and agrees, or goes away, on the vendor's pages.
async function atVendor(tab, agrees = true) {
    await tab.waitForURL(`${origin}/interaction/**`);
    if (!agrees) return tab.getByText("[ Cancel ]").click();
    await tab.getByPlaceholder("Enter any login").fill("ada");
    await tab.getByPlaceholder("and password").fill("any");
    await tab.getByRole("button", { name: "Sign-in" }).click();
    await tab.getByRole("button", { name: "Continue" }).click();
}

// The window that opens by itself when the form is sent.
async function inWindow(context, act) {
    const [opened] = await Promise.all([context.waitForEvent("page"), act()]);
    return opened;
}

async function works(id) {
    assert.match(id, /^[0-9a-f-]{36}$/);
    const { status, said } = await call("GET", `/unified/user-directory/users?integrated_account_id=${id}`);
    assert.deepEqual([status, said.result?.length], [200, 3], JSON.stringify(said));
}

// The app heard of success once, and of nothing that is secret; the account works.
async function isLinked(tab) {
    const said = await outcome(tab);
    assert.equal(said.value?.integration, "scim", JSON.stringify(said));
    await works(said.value.integrated_account_id);
    await tab.waitForTimeout(2_500);
    const heard = await tab.evaluate(() => window.heard);
    assert.equal(heard.filter((one) => one.is_truto).length, 1, JSON.stringify(heard));
    assert.deepEqual(Object.keys(heard[0]).sort(), ["integrated_account_id", "integration", "is_truto", "result"]);
}

for (const width of [375, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
        checks[`every page at ${width} ${colorScheme}`] = async (name) => {
            const context = await visit({ viewport: { width, height: 800 }, colorScheme });
            const tab = await context.newPage();
            const { link_url, link_token, id } = await linkToken();
            await tab.goto(link_url);
            await isClean(tab, `${name} 1 picker`);
            await tab.getByText("SCIM 2.0").click();
            await isClean(tab, `${name} 2 ways`);
            await tab.getByText("OAuth 2 consent").click();
            await tab.getByText(`${base}/connect/scim/callback`).waitFor();
            await isClean(tab, `${name} 3 form`);
            await go(tab);
            assert.equal(await tab.locator("[aria-invalid]").count(), 5);
            await isClean(tab, `${name} 4 form with errors`);
            await fill(tab);
            // The page that leads on is looked at: it stays when it does not come to the vendor, and is gone on from by hand.
            await context.route(`${origin}/auth?**`, (route) => route.abort("aborted"), { times: 1 });
            await go(tab);
            await tab.getByRole("heading", { name: "On to SCIM 2.0" }).waitFor();
            await isClean(tab, `${name} 5 hand-over`);
            await tab.getByRole("link", { name: "Continue" }).click();
            await atVendor(tab, false);
            await tab.getByRole("alert").getByText("Access was declined").waitFor();
            await isClean(tab, `${name} 6 declined`);
            await fill(tab, { "Client secret": vendor.browser.secret });
            await go(tab);
            await atVendor(tab);
            await tab.getByRole("heading", { name: "SCIM 2.0 is connected" }).waitFor();
            await tab.waitForURL(`${base}/connect-account?link=${id}`);
            await isClean(tab, `${name} 7 success`);
            await tab.reload();
            await tab.getByRole("heading", { name: "SCIM 2.0 is connected" }).waitFor();

            const other = await (await visit({ viewport: { width, height: 800 }, colorScheme })).newPage();
            await other.goto(`${base}/connect-account?link_token=${link_token}`);
            await isClean(other, `${name} 8 used token`);
            await other.goto(`${base}/connect-account?link=${id}`);
            await isClean(other, `${name} 9 other browser`);
            await other.goto((await linkToken({ integrations: ["my-vendor"] })).link_url);
            await fill(other, { Address: blind, "API key": "blind" });
            await other.getByRole("button", { name: "Connect" }).click();
            await other.getByText("0 customers visible").waitFor();
            await isClean(other, `${name} 10 nothing visible`);
            await other.getByRole("button", { name: "Cancel" }).click();
            await isClean(other, `${name} 11 cancelled`);
            await leave(other.context());

            // In a frame without a script the other window has to be looked after by hand.
            const still = await visit({ viewport: { width, height: 800 }, colorScheme });
            const page = await start(still, "window.ours(value[0], value[1])", [(await linkToken()).link_token, { ...scheme, mode: "iframe" }]);
            await page.click("#go");
            const frame = page.frameLocator("iframe");
            await frame.getByLabel("SCIM address").waitFor();
            const inner = page.frames()[1];
            await isClean(inner, `${name} 12 frame`);
            await inner.evaluate(() => document.getElementById("look").submit());
            await frame.getByRole("heading", { name: "Not connected yet" }).waitFor();
            await isClean(page.frames()[1], `${name} 13 not yet`);
            await leave(still);
            await leave(context);
        };
    }
}

checks["same window, by keyboard, to the app's address"] = async () => {
    const context = await visit();
    const tab = await context.newPage();
    await tab.goto((await linkToken({ redirect_uri: `${at(app)}/back?a=b` })).link_url + preset);
    await fill(tab);
    await tab.getByLabel("Client secret").press("Enter");
    await atVendor(tab);
    await tab.waitForURL(`${at(app)}/back?**`);
    const back = new URL(tab.url()).searchParams;
    assert.deepEqual([...back.keys()].sort(), ["a", "integrated_account_id", "integration", "result"]);
    await works(back.get("integrated_account_id"));
    await leave(context);
};

checks["without script"] = async () => {
    const context = await visit({ javaScriptEnabled: false, viewport: { width: 375, height: 800 } });
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url + preset);
    await fill(tab);
    await go(tab);
    await atVendor(tab, false);
    await tab.getByText("Access was declined").waitFor();
    assert.equal(await tab.getByLabel("Token endpoint").inputValue(), vendor.token_url);
    assert.equal(await tab.getByLabel("Client secret").inputValue(), "");
    await fill(tab, { "Client secret": vendor.browser.secret });
    await go(tab);
    await atVendor(tab);
    await tab.getByRole("heading", { name: "SCIM 2.0 is connected" }).waitFor();
    await leave(context);
};

checks["forms of another site"] = async () => {
    const context = await visit();
    const tab = await context.newPage();
    await tab.goto((await linkToken()).link_url + preset);
    const session = await tab.locator("#fields [name=session]").inputValue();
    for (const step of ["submit", "cancel", "look", "open"]) {
        const other = await context.newPage();
        await other.goto(at(evil));
        await other.evaluate(([action, given]) => {
            const form = Object.assign(document.createElement("form"), { method: "post", action });
            for (const [name, value] of given) form.append(Object.assign(document.createElement("input"), { name, value }));
            document.body.append(form);
            form.submit();
        }, [`${base}/connect-account`, Object.entries({ session, step, integration: "scim", method: "oauth2" })]);
        await other.getByText("was not sent by a page of this gateway").waitFor();
        await other.close();
    }
    await fill(tab);
    await go(tab);
    await atVendor(tab);
    await tab.getByRole("heading", { name: "SCIM 2.0 is connected" }).waitFor();
    await leave(context);
};

const truto = (options) => async () => ["window.truto(value[0], value[1])", [(await linkToken()).link_token, { ...scheme, baseUrl: base, ...options }]];
const ours = (options) => async () => ["window.ours(value[0], value[1])", [(await linkToken()).link_token, { ...scheme, ...options }]];
const ways = {
    "truto popup": [truto({ iframe: false }), false],
    "truto frame": [truto({}), true],
    "rollcall popup": [ours({}), false],
    "rollcall frame": [ours({ mode: "iframe" }), true],
};

for (const [way, [begin, framed]] of Object.entries(ways)) {
    for (const cut of ["no", "yes"]) {
        checks[`${way}, tie cut: ${cut}`] = async () => {
            await cuts(cut);
            const context = await visit();
            const tab = await start(context, ...await begin());
            const shown = framed
                ? (await tab.click("#go"), tab.frameLocator("iframe"))
                : await inWindow(context, () => tab.click("#go"));
            await fill(shown);
            const first = await inWindow(context, () => go(shown));
            await shown.getByText("Go on in the window that opened").waitFor();
            await isClean(framed ? tab.frames()[1] : shown, `${way} meanwhile`);
            // Until it has come to the vendor a look into it would be cut short.
            await first.waitForURL(`${origin}/interaction/**`);
            assert.equal(await first.evaluate(() => window.parent === window), true);
            await atVendor(first, false);
            await first.getByText("Access was declined").waitFor();
            if (cut === "no") await shown.getByText("Nothing was connected. Access was declined").waitFor();
            await first.close();
            const second = await inWindow(context, () => go(shown));
            await atVendor(second);
            if (cut === "yes") {
                await second.getByRole("heading", { name: "SCIM 2.0 is connected" }).waitFor();
                assert.equal(await second.evaluate(() => window.opener), null);
                await second.waitForURL(`${base}/connect-account?link=*`);
            }
            await isLinked(tab);
            // What the vendor lacks stands in its window until the customer has read it.
            if (cut === "no") {
                await second.getByText("Good to know").waitFor();
                await closes(second, "Done");
            }
            assert.equal(framed ? await tab.locator("iframe").count() : shown.isClosed() ? 0 : 1, 0);
            await cuts("no");
            await leave(context);
        };
    }
}

await end(checks);
