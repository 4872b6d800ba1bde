// Shows Rollcall's link page in a window or a frame and says what was linked. See rollcall-link.d.ts.
const home = new URL(import.meta.url).origin;

function failure(errorType, text, more) {
    return Object.assign(new Error(text), more, { error_type: errorType });
}

function address(base, linkToken, options) {
    const url = new URL("/connect-account", base);
    url.searchParams.set("link_token", linkToken);
    if (options.integration) url.searchParams.set("integration", options.integration);
    if (options.integrations) url.searchParams.set("integrations", options.integrations.join(","));
    if (options.authFormat) url.searchParams.set("auth_format", options.authFormat);
    if (options.mode === "iframe") url.searchParams.set("iframe", "true");
    return url;
}

function frame(url) {
    const element = document.createElement("iframe");
    element.src = url.href;
    element.title = "Connect an account";
    element.style.cssText = "position:fixed;inset:0;width:100%;height:100%;border:0;z-index:2147483647;background:rgba(0,0,0,.6)";
    document.body.append(element);
    element.focus();
    return { window: element.contentWindow, isClosed: () => !element.isConnected, close: () => element.remove() };
}

function popup(url, { width = 700, height = 800 }) {
    const left = Math.max(0, (screen.availWidth - width) / 2);
    const top = Math.max(0, (screen.availHeight - height) / 2);
    const opened = window.open(url.href, "_blank", `popup=yes,width=${width},height=${height},left=${left},top=${top}`);
    return opened && { window: opened, isClosed: () => opened.closed, close: () => opened.close() };
}

export function link(linkToken, options = {}) {
    const url = address(new URL(options.baseUrl || home).origin, linkToken, options);
    const shown = options.mode === "iframe" ? frame(url) : popup(url, options);
    if (!shown) return Promise.reject(failure("blocked", "The browser did not open the window."));
    return new Promise((resolve, reject) => {
        const end = (act, value) => {
            clearInterval(watch);
            window.removeEventListener("message", hear);
            shown.close();
            act(value);
        };
        const closed = () => end(reject, failure("closed", "The window was closed before anything was linked."));
        const hear = ({ origin, source, data }) => {
            if (origin !== url.origin || source !== shown.window) return;
            if (data === "closed") return closed();
            if (!data || data.is_truto !== true) return;
            const { result, integration, integrated_account_id, error, error_type } = data;
            if (result === "success") end(resolve, { integration, integrated_account_id });
            else end(reject, failure(error_type, error, { integration }));
        };
        const watch = setInterval(() => shown.isClosed() && closed(), 200);
        window.addEventListener("message", hear);
    });
}
