// The users behind the OAuth providers, as a SCIM server shows them to who may look.
const user = (id) => ({
    schemas: ["urn:ietf:params:scim:schemas:core:2.0:User"], id: String(id), userName: `user${id}@oidc.example`, active: true,
    name: { givenName: "User", familyName: String(id) }, emails: [{ value: `user${id}@oidc.example`, primary: true }],
});

export function answer(request, body, scope, response) {
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
