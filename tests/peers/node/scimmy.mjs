// A SCIM server made of the npm library scimmy: scimmy.mjs --express 4|5 --port 0 --users N --token T
// Prints one JSON line when it listens; ends with its stdin.
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const { values } = parseArgs({
    options: {
        express: { type: "string", default: "5" },
        port: { type: "string", default: "0" },
        users: { type: "string", default: "0" },
        token: { type: "string", default: "synthetic-scim-token" },
    },
});
const require = createRequire(new URL(`./express${values.express}/package.json`, import.meta.url));
const express = require("express");
const scimmy = require("scimmy");
const SCIMMY = scimmy.default ?? scimmy;
const routers = require("scimmy-routers");
const SCIMMYRouters = routers.default ?? routers;

const store = { User: new Map(), Group: new Map() };
const serve = (kind) => ({
    egress: (resource) => {
        const all = [...store[kind].values()];
        const found = resource.id ? all.filter((item) => item.id === resource.id) : resource.filter ? resource.filter.match(all) : all;
        if (resource.id && found.length === 0) throw new SCIMMY.Types.Error(404, null, `Resource ${resource.id} not found`);
        return resource.id ? found[0] : found;
    },
    ingress: (resource, data) => {
        const id = resource.id ?? String(store[kind].size + 1);
        const item = { ...JSON.parse(JSON.stringify(data)), id };
        store[kind].set(id, item);
        return item;
    },
    degress: (resource) => void store[kind].delete(resource.id),
});
for (const kind of ["User", "Group"]) {
    const { egress, ingress, degress } = serve(kind);
    SCIMMY.Resources.declare(SCIMMY.Resources[kind]).egress(egress).ingress(ingress).degress(degress);
}
for (let at = 1; at <= Number(values.users); at++) {
    const email = `user${String(at).padStart(5, "0")}@scimmy.example`;
    store.User.set(String(at), {
        id: String(at), userName: email, displayName: `User ${at}`, active: at % 7 !== 0,
        name: { givenName: "User", familyName: String(at) }, emails: [{ value: email, primary: true, type: "work" }],
    });
}
store.Group.set("g1", { id: "g1", displayName: "Everybody", members: [...store.User.values()].slice(0, 5).map((user) => ({ value: user.id, display: user.displayName })) });

const app = express();
app.use("/scim", new SCIMMYRouters({
    type: "bearer",
    baseUri: (request) => `${request.protocol}://${request.headers.host}`,
    handler: (request) => {
        if (request.header("Authorization") !== `Bearer ${values.token}`) throw new Error("Authorization not detected!");
        return "tester";
    },
}));
const server = app.listen(Number(values.port), "127.0.0.1", () => {
    const base = `http://127.0.0.1:${server.address().port}/scim`;
    console.log(JSON.stringify({ listening: base, token: values.token, express: values.express }));
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
