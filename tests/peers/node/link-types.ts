// A program of an app's that uses all that rollcall-link.d.ts exports. It is compiled, strictly, and never runs.
import { link, type LinkError, type LinkOptions, type Linked } from "./rollcall-link.js";

const inFrame: LinkOptions = {
    baseUrl: "https://rollcall.example.com",
    integration: "scim",
    integrations: ["scim", "keeper"],
    authFormat: "bearer",
    mode: "iframe",
};
const inWindow: LinkOptions = { mode: "popup", width: 700, height: 800 };

type Ending = "linked" | "went away" | "try again" | "mistaken";

// Every reason there is: a new one, or one that is gone, does not compile.
function ending(error: LinkError): Ending {
    const text: string = error.message + (error.integration ?? "");
    switch (error.error_type) {
        case "blocked":
        case "closed":
            return "went away";
        case "connection_error":
        case "post_install_error":
        case "validation_error":
        case "rapid_form_error":
            return text === "" ? "mistaken" : "try again";
        case "invalid_token":
        case "invalid_integration":
            return "mistaken";
        default: {
            const none: never = error.error_type;
            return none;
        }
    }
}

export async function connect(linkToken: string, framed: boolean): Promise<Ending> {
    try {
        const linked: Linked = await link(linkToken, framed ? inFrame : inWindow);
        const said: string = linked.integration + linked.integrated_account_id;
        return said === "" ? "mistaken" : "linked";
    } catch (error) {
        return ending(error as LinkError);
    }
}

export const plain: Promise<Linked> = link("lnk_x");

// @ts-expect-error A token is needed.
void link();
// @ts-expect-error There are two modes.
void link("lnk_x", { mode: "tab" });
// @ts-expect-error That is written `authFormat`.
void link("lnk_x", { auth_format: "bearer" });
// @ts-expect-error The account's id has a longer name.
export const id = plain.then((linked) => linked.id);
