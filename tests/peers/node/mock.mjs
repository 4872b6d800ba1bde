// The npm package oauth2-mock-server, and a SCIM server that takes its signed access tokens alone.
// Prints one JSON line when it listens, and one for each line of orders; ends with its stdin.
// Orders: {"bend": {"drop": [names], "put": {name: value}, "status": N}} changes the token answers from now on, {"revoke": true}
// refuses every access token given so far, {"agree": URL} goes the way of a browser. The line tells what was asked for since.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { answer } from "./users.mjs";

const require = createRequire(new URL("./oidc/package.json", import.meta.url));
const { OAuth2Server, Events } = await import(pathToFileURL(require.resolve("oauth2-mock-server")));
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(require.resolve("jose")));

const provider = new OAuth2Server();
await provider.issuer.keys.generate("RS256");
await provider.start(0, "127.0.0.1");
const issuer = `http://127.0.0.1:${provider.address().port}`;
provider.issuer.url = issuer;
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

let bend = {};
let round = 0;
const asked = [];
const ended = [];
provider.service.on(Events.BeforeTokenSigning, (token) => { token.payload.round = round; });
provider.service.on(Events.BeforeResponse, (reply, request) => {
    const { grant_type: grant, refresh_token: shown, scope } = request.body;
    asked.push({ grant, shown, scope });
    for (const name of bend.drop ?? []) delete reply.body[name];
    Object.assign(reply.body, bend.put);
    reply.statusCode = bend.status ?? reply.statusCode;
});
provider.service.on(Events.BeforeRevoke, async (_reply, request) => {
    let form = "";
    for await (const chunk of request) form += chunk;
    ended.push(Object.fromEntries(new URLSearchParams(form)));
});

const resource = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    const found = await jwtVerify(token ?? "", keys, { issuer }).catch(() => undefined);
    if (found?.payload.round !== round) {
        response.writeHead(401, { "content-type": "application/json" });
        return response.end('{"detail":"the access token is not valid"}');
    }
    answer(request, Buffer.concat(chunks), found.payload.scope ?? "", response);
});
resource.listen(0, "127.0.0.1", () => {
    console.log(JSON.stringify({
        listening: `http://127.0.0.1:${resource.address().port}/scim/v2`, token_url: `${issuer}/token`, authorize_url: `${issuer}/authorize`,
        revoke_url: `${issuer}/revoke`, browser: { id: "any-client", secret: "synthetic-any-secret" },
    }));
});

createInterface({ input: process.stdin }).on("line", async (line) => {
    const order = JSON.parse(line);
    bend = order.bend ?? bend;
    round += order.revoke ? 1 : 0;
    const came = order.agree && (await fetch(order.agree, { redirect: "manual" })).headers.get("location");
    console.log(JSON.stringify({ asked: asked.splice(0), ended: ended.splice(0), came }));
});
process.stdin.on("end", () => process.exit(0));
