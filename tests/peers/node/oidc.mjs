// The certified npm library oidc-provider, and a SCIM server that takes its access tokens alone: oidc.mjs --life SECONDS
// Prints one JSON line when it listens, and one for each line of orders; ends with its stdin.
// `sent` in its answers are the clients and scopes that browsers came with, `used` the grants that clients came with.
// Orders: {"revoke": true} takes back every access token given so far, {"forget": true} the client itself, {} only counts;
// {"agree": URL} goes the way of a browser: signs in, agrees, and says where it is sent back to.
// After PUT /apart/yes its pages cut the tie to the window that opened theirs (COOP), until PUT /apart/no.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { answer } from "./users.mjs";

const { values } = parseArgs({ options: { life: { type: "string", default: "600" } } });
const require = createRequire(new URL("./oidc/package.json", import.meta.url));
const { Provider } = require("oidc-provider");

const CLIENT = { id: "rollcall-client", secret: "synthetic:client secret/+%" };
const BROWSER = { id: "rollcall-browser", secret: "synthetic-browser-secret" };
const OTHER = { id: "rollcall-other-app", secret: "synthetic-other-app-secret" };
const KEY = generateKeyPairSync("rsa", { modulusLength: 2048 });
const SIGNER = { id: "rollcall-signer", key: KEY.privateKey.export({ type: "pkcs8", format: "pem" }) };
const given = new Set();
let known = true;
let apart = false;
let asked = 0;
let ended = 0;
const refused = [];
const sent = [];
const used = [];

const server = createServer();
server.listen(0, "127.0.0.1", () => {
    const origin = `http://127.0.0.1:${server.address().port}`;
    const provider = new Provider(origin, {
        clients: [{
            client_id: CLIENT.id, client_secret: CLIENT.secret, grant_types: ["client_credentials"], redirect_uris: [],
            response_types: [], scope: "scim.read scim.write",
        }, {
            client_id: SIGNER.id, grant_types: ["client_credentials"], redirect_uris: [], response_types: [], scope: "scim.read",
            token_endpoint_auth_method: "private_key_jwt",
            jwks: { keys: [{ ...KEY.publicKey.export({ format: "jwk" }), kid: "k1", alg: "RS256", use: "sig" }] },
        }, {
            client_id: BROWSER.id, client_secret: BROWSER.secret, grant_types: ["authorization_code", "refresh_token"],
            redirect_uris: ["http://127.0.0.1/"], response_types: ["code"], scope: "openid scim.read scim.write",
        }, {
            client_id: OTHER.id, client_secret: OTHER.secret, grant_types: ["authorization_code", "refresh_token"],
            redirect_uris: ["http://127.0.0.1/"], response_types: ["code"], scope: "openid scim.read scim.write",
        }],
        scopes: ["openid", "scim.read", "scim.write"],
        features: { clientCredentials: { enabled: true }, devInteractions: { enabled: true }, revocation: { enabled: true } },
        issueRefreshToken: async () => true,
        pkce: { required: () => true },
        rotateRefreshToken: true,
        ttl: {
            ClientCredentials: Number(values.life), AccessToken: Number(values.life), RefreshToken: 86400, Grant: 86400,
            Interaction: 600, Session: 86400, IdToken: 600,
        },
    });
    // The gateway's port is not known yet.
    provider.Client.prototype.redirectUriAllowed = () => true;
    provider.on("client_credentials.saved", (token) => given.add(token.jti));
    provider.on("access_token.saved", (token) => given.add(token.jti));
    const exchanged = (outcome) => (ctx) => {
        used.push(`${outcome} ${ctx.oidc.params?.grant_type} ${ctx.oidc.client?.clientId}`);
    };
    provider.on("grant.success", exchanged("given"));
    provider.on("grant.error", exchanged("refused"));
    provider.on("grant.revoked", () => { ended += 1; });
    const endpoint = provider.callback();
    server.on("request", async (request, response) => {
        if (request.method === "PUT" && request.url.startsWith("/apart/")) {
            apart = request.url.endsWith("/yes");
            return response.end();
        }
        if (!request.url.startsWith("/scim/")) {
            // As vendors do: nobody frames their pages, and many cut the tie to whoever opened the window.
            response.setHeader("x-frame-options", "DENY");
            if (apart) response.setHeader("cross-origin-opener-policy", "same-origin");
            asked += request.url === "/token" ? 1 : 0;
            if (request.url.startsWith("/auth?")) {
                const query = new URL(request.url, origin).searchParams;
                sent.push({ client: query.get("client_id"), scope: query.get("scope") });
            }
            if (known) return endpoint(request, response);
            response.writeHead(401, { "content-type": "application/json" });
            return response.end('{"error":"invalid_client","error_description":"client authentication failed"}');
        }
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
        const found = token && (await provider.ClientCredentials.find(token) ?? await provider.AccessToken.find(token));
        if (!found) {
            refused.push(request.method);
            response.writeHead(401, { "content-type": "application/json", "www-authenticate": 'Bearer error="invalid_token"' });
            return response.end('{"detail":"the access token is not valid"}');
        }
        answer(request, Buffer.concat(chunks), found.scope ?? "", response);
    });
    console.log(JSON.stringify({ listening: `${origin}/scim/v2`, token_url: `${origin}/token`, authorize_url: `${origin}/auth`, client: CLIENT, browser: BROWSER, other: OTHER, signer: SIGNER }));
    createInterface({ input: process.stdin }).on("line", async (line) => {
        const order = JSON.parse(line);
        if (order.revoke) {
            for (const id of given) {
                for (const kind of [provider.ClientCredentials, provider.AccessToken]) {
                    if (await kind.adapter.find(id)) await kind.adapter.destroy(id);
                }
            }
        }
        if (order.forget) known = false;
        const came = order.agree ? await agree(order.agree) : undefined;
        console.log(JSON.stringify({ asked, given: given.size, ended, refused: refused.splice(0), sent: sent.splice(0), used: used.splice(0), came }));
    });
});
process.stdin.on("end", () => process.exit(0));

// What a person does in a browser: signs in, agrees, until the server sends the browser elsewhere.
async function agree(start) {
    const cookies = new Map();
    const home = new URL(start).origin;
    let next = { url: start, options: {} };
    for (let step = 0; step < 12; step += 1) {
        const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
        const headers = { ...next.options.headers, cookie };
        const reply = await fetch(next.url, { ...next.options, headers, redirect: "manual" });
        for (const line of reply.headers.getSetCookie()) {
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
            cookies.set(name, value);
        }
        const location = reply.headers.get("location");
        if (location) {
            const url = new URL(location, next.url);
            if (url.origin !== home) return url.href;
            next = { url: url.href, options: {} };
            continue;
        }
        const page = await reply.text();
        const prompt = /name="prompt" value="([a-z]+)"/.exec(page)?.[1];
        if (!prompt) return `${reply.status} ${page.slice(0, 300)}`;
        const body = new URLSearchParams({ prompt, login: "ada", password: "any" });
        next = { url: next.url, options: { method: "POST", body, headers: {} } };
    }
    return "too many steps";
}
