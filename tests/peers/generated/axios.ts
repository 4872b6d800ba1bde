// The TypeScript client of openapi-generator over axios against a gateway: BASE TOKEN ACCOUNT. Prints one JSON line.
import { isAxiosError } from "axios";
import { AccountsApi, Configuration, DirectoryApi, type Problem } from "./client";

async function main(basePath: string, accessToken: string, account: string) {
    const configuration = new Configuration({ basePath, accessToken });
    const directory = new DirectoryApi(configuration);
    const walk = async (limit: number, filters?: { [field: string]: unknown }) => {
        const users: string[] = [];
        let cursor: string | undefined;
        do {
            const query = [undefined, undefined, undefined, undefined, limit, cursor] as const;
            const rest = [undefined, undefined, undefined, undefined, filters] as const;
            const { data } = await directory.listUsers(account, ...query, ...rest);
            users.push(...data.result.map((user) => user.id));
            cursor = data.next_cursor ?? undefined;
        } while (cursor !== undefined);
        return users;
    };
    const problem: Problem = await directory.listUsers(crypto.randomUUID()).then(
        () => Promise.reject(new Error("no such account, yet a list")),
        (error) => (isAxiosError(error) && error.response ? error.response.data : Promise.reject(error)),
    );
    console.log(JSON.stringify({
        users: await walk(7),
        inactive: await walk(2, { status: "inactive" }),
        problem: [problem.status, problem.code, problem.retryable],
        account: (await new AccountsApi(configuration).getIntegratedAccount(account)).data.id,
    }));
}

const [, , base = "", token = "", account = ""] = process.argv;
main(base, token, account).catch((error) => {
    console.error(error);
    process.exit(1);
});
