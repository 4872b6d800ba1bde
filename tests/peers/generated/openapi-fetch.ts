// openapi-fetch with the types of openapi-typescript against a gateway: BASE TOKEN ACCOUNT. Prints one JSON line.
import createClient from "openapi-fetch";
import type { paths } from "./api.d.ts";

const [, , baseUrl = "", token = "", account = ""] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });

async function walk(limit: number, filters?: { [field: string]: unknown }) {
    const users: string[] = [];
    let cursor: string | undefined;
    do {
        const query = { integrated_account_id: account, limit, next_cursor: cursor, filters };
        const { data } = await client.GET("/unified/user-directory/users", { params: { query } });
        if (data === undefined || typeof data === "string") throw new Error(`no page: ${data}`);
        users.push(...data.result.map((user) => user.id));
        cursor = data.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return users;
}

const unknown = { integrated_account_id: crypto.randomUUID() };
const { error } = await client.GET("/unified/user-directory/users", { params: { query: unknown } });
const found = await client.GET("/integrated-account/{id}", { params: { path: { id: account } } });
console.log(JSON.stringify({
    users: await walk(7),
    inactive: await walk(2, { status: "inactive" }),
    problem: [error?.status, error?.code, error?.retryable],
    account: found.data?.id,
}));
