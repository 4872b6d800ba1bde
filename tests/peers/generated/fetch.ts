// The TypeScript client of openapi-generator over fetch against a gateway: BASE TOKEN ACCOUNT. Prints one JSON line.
import { AccountsApi, Configuration, DirectoryApi, ProblemFromJSON, ResponseError } from "./client";

async function main(basePath: string, accessToken: string, account: string) {
    const configuration = new Configuration({ basePath, accessToken });
    const directory = new DirectoryApi(configuration);
    const walk = async (limit: number, filters?: { [field: string]: unknown }) => {
        const users: string[] = [];
        let nextCursor: string | undefined;
        do {
            const page = await directory.listUsers({ integratedAccountId: account, limit, nextCursor, filters });
            users.push(...page.result.map((user) => user.id));
            nextCursor = page.nextCursor ?? undefined;
        } while (nextCursor !== undefined);
        return users;
    };
    const refused = directory.listUsers({ integratedAccountId: crypto.randomUUID() });
    const problem = await refused.then(
        () => Promise.reject(new Error("no such account, yet a list")),
        async (error) => ProblemFromJSON(await (error as ResponseError).response.json()),
    );
    console.log(JSON.stringify({
        users: await walk(7),
        inactive: await walk(2, { status: "inactive" }),
        problem: [problem.status, problem.code, problem.retryable],
        account: (await new AccountsApi(configuration).getIntegratedAccount({ id: account })).id,
    }));
}

const [, , base = "", token = "", account = ""] = process.argv;
main(base, token, account).catch((error) => {
    console.error(error);
    process.exit(1);
});
