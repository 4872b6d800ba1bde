/** How the link page is shown, and what it begins with. */
export interface LinkOptions {
    /** The gateway's address; where this module was loaded from when left out. */
    baseUrl?: string;
    /** The connector to begin with. */
    integration?: string;
    /** Narrows the choice of connectors; the link token says which are allowed. */
    integrations?: string[];
    /** The way to connect to begin with. */
    authFormat?: string;
    /** A window of its own (the default), or a frame over this page; the link token must name this page's origin. */
    mode?: "popup" | "iframe";
    /** Width of the window. */
    width?: number;
    /** Height of the window. */
    height?: number;
}

/** What was linked. */
export interface Linked {
    /** The connector. */
    integration: string;
    /** The account, for every call about it. */
    integrated_account_id: string;
}

/** Why nothing was linked. */
export interface LinkError extends Error {
    /** `blocked`: no window could be opened. `closed`: the person went away. Else what went wrong. */
    error_type:
        | "blocked"
        | "closed"
        | "invalid_token"
        | "invalid_integration"
        | "connection_error"
        | "post_install_error"
        | "validation_error"
        | "rapid_form_error";
    /** The connector, where one was chosen. */
    integration?: string;
}

/** Shows the link page. Rejects with a {@link LinkError}. */
export function link(linkToken: string, options?: LinkOptions): Promise<Linked>;
