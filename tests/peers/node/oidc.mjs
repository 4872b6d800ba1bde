// The certified npm library oidc-provider, and a SCIM server that takes its access tokens alone: oidc.mjs --life SECONDS
// Prints one JSON line when it listens, and one for each line of orders; ends with its stdin.
// Orders: {"revoke": true} takes back every token given so far, {"forget": true} the client itself, {} only counts.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { life: { type: "string", default: "600" } } });
const require = createRequire(new URL("./oidc/package.json", import.meta.url));
const { Provider } = require("oidc-provider");

const CLIENT = { id: "rollcall-client", secret: "synthetic:client secret/+%" };
const given = new Set();
let known = true;
let asked = 0;
const refused = [];

const server = createServer();
server.listen(0, "127.0.0.1", () => {
    const origin = `http://127.0.0.1:${server.address().port}`;
    const provider = new Provider(origin, {
        clients: [{
            client_id: CLIENT.id, client_secret: CLIENT.secret, grant_types: ["client_credentials"], redirect_uris: [],
            response_types: [], scope: "scim.read scim.write",
        }],
        scopes: ["scim.read", "scim.write"],
        features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
        ttl: { ClientCredentials: Number(values.life) },
    });
    provider.on("client_credentials.saved", (token) => given.add(token.jti));
    const endpoint = provider.callback();
    server.on("request", async (request, response) => {
        if (!request.url.startsWith("/scim/")) {
            asked += request.url === "/token" ? 1 : 0;
            if (known) return endpoint(request, response);
            response.writeHead(401, { "content-type": "application/json" });
            return response.end('{"error":"invalid_client","error_description":"client authentication failed"}');
        }
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
        const found = token && await provider.ClientCredentials.find(token);
        if (!found) {
            refused.push(request.method);
            response.writeHead(401, { "content-type": "application/json", "www-authenticate": 'Bearer error="invalid_token"' });
            return response.end('{"detail":"the access token is not valid"}');
        }
        answer(request, Buffer.concat(chunks), found.scope ?? "", response);
    });
    console.log(JSON.stringify({ listening: `${origin}/scim/v2`, token_url: `${origin}/token`, client: CLIENT }));
    createInterface({ input: process.stdin }).on("line", async (line) => {
        const order = JSON.parse(line);
        if (order.revoke) {
            for (const id of given) await (await provider.ClientCredentials.adapter.find(id)) && provider.ClientCredentials.adapter.destroy(id);
        }
        if (order.forget) known = false;
        console.log(JSON.stringify({ asked, given: given.size, refused: refused.splice(0) }));
    });
});
process.stdin.on("end", () => process.exit(0));

const user = (id) => ({
    schemas: ["urn:ietf:params:scim:schemas:core:2.0:User"], id: String(id), userName: `user${id}@oidc.example`, active: true,
    name: { givenName: "User", familyName: String(id) }, emails: [{ value: `user${id}@oidc.example`, primary: true }],
});

function answer(request, body, scope, response) {
    const path = request.url.split("?")[0];
    const send = (status, value, headers = {}) => {
        response.writeHead(status, { "content-type": "application/scim+json", ...headers });
        response.end(typeof value === "string" || Buffer.isBuffer(value) ? value : JSON.stringify(value));
    };
    const one = /^\/scim\/v2\/Users\/(\d+)$/.exec(path);
    if (request.method === "POST" && path === "/scim/v2/echo") {
        return send(201, body, { "x-scope": scope, "content-type": "application/octet-stream" });
    }
    if (one) return Number(one[1]) <= 3 ? send(200, user(one[1])) : send(404, { status: "404" });
    if (path !== "/scim/v2/Users") return send(404, { status: "404", detail: "there is no such resource" });
    const all = [1, 2, 3].map(user);
    send(200, {
        schemas: ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], totalResults: all.length, startIndex: 1,
        itemsPerPage: all.length, Resources: all,
    });
}
