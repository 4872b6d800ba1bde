// A vendor's own SDK, pointed at an address: sdks.mjs okta|graph ADDRESS TOKEN. Prints one JSON line with what it got.
import { createRequire } from "node:module";

const [, , sdk, address, token] = process.argv;
const require = createRequire(new URL("./sdks/package.json", import.meta.url));

async function okta() {
    const { Client } = require("@okta/okta-sdk-nodejs");
    const client = new Client({ orgUrl: address, token, testing: { disableHttpsCheck: true }, cacheMiddleware: null });
    const users = [];
    for await (const user of await client.userApi.listUsers({ limit: 2 })) users.push(user.id);
    const got = await client.userApi.getUser({ userId: "u 1+x@vendor.example" });
    const created = await client.userApi.createUser({ body: { profile: { login: "new@vendor.example", firstName: "Grüße" } } });
    const missing = await client.userApi.getUser({ userId: "nobody" }).catch((error) => [error.status, error.errorCode]);
    return { users, got: got.id, created: created.profile.firstName, missing };
}

async function graph() {
    const { Client, PageIterator } = require("@microsoft/microsoft-graph-client");
    const client = Client.init({
        authProvider: (done) => done(null, token),
        baseUrl: address,
        customHosts: new Set([new URL(address).hostname]),
    });
    const first = await client.api("/users").header("ConsistencyLevel", "eventual").top(2).get();
    const users = [];
    const pages = new PageIterator(client, first, (user) => users.push(user.id));
    await pages.iterate();
    const created = await client.api("/users").post({ displayName: "Grüße" });
    const photo = await client.api("/me/photo/$value").responseType("arraybuffer").get();
    const missing = await client.api("/users/nobody").get().catch((error) => [error.statusCode, error.code]);
    return { users, delta: pages.getDeltaLink(), created: created.displayName, photo: [...new Uint8Array(photo)], missing };
}

console.log(JSON.stringify(await { okta, graph }[sdk]()));
