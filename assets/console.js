// The console's one script. Every page works without it: it only adds live updates, times in the reader's zone, the
// selection's sum and the keys. It never computes with amounts as floats, and writes text only as text.
"use strict";

const main = () => document.getElementById("main");
const rows = () => [...document.querySelectorAll("tr[data-row]")];
const boxes = () => [...document.querySelectorAll("input[type=checkbox][name=id]")];
const chosen = () => boxes().filter((box) => box.checked);

// ---- times: UTC as served, or the reader's zone
const ZONE = "capture.zone";
const zone = () => (localStorage.getItem(ZONE) === "local" ? "local" : "utc");

function showTimes() {
    const local = zone() === "local";
    const button = document.getElementById("zone");
    if (button) {
        button.textContent = local ? "Local" : "UTC";
        button.hidden = false;
    }
    for (const time of document.querySelectorAll("time[datetime]")) {
        time.dataset.utc ??= time.textContent;
        const at = new Date(time.dateTime);
        time.textContent = local && !Number.isNaN(at.valueOf()) ? inZone(at, time.dataset.form) : time.dataset.utc;
        time.title = time.dateTime;
    }
}

function inZone(at, form) {
    const day = { day: "numeric", month: "short" };
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
    switch (form) {
        case "clock":
            return new Intl.DateTimeFormat(undefined, { ...clock, timeZoneName: "short" }).format(at);
        case "day":
            return new Intl.DateTimeFormat(undefined, { ...day, hour: "2-digit", minute: "2-digit", hour12: false }).format(at);
        default:
            return new Intl.DateTimeFormat(undefined, { ...day, year: "numeric", ...clock, timeZoneName: "short" }).format(at);
    }
}

// ---- the selection: how many, and how much by currency, in whole minor units
function decimal(minor, exponent) {
    const digits = minor.toString().padStart(exponent + 1, "0");
    const whole = digits.slice(0, digits.length - exponent).replace(/\B(?=(\d{3})+$)/g, ",");
    return exponent === 0 ? whole : `${whole}.${digits.slice(-exponent)}`;
}

function showSelection() {
    const bar = document.getElementById("selection");
    if (!bar) return;
    const sums = new Map();
    for (const row of rows()) {
        const box = row.querySelector("input[name=id]");
        if (!box) continue;
        row.setAttribute("aria-selected", String(box.checked));
        if (!box.checked) continue;
        const { currency, exponent, minor } = row.dataset;
        const sum = sums.get(currency) ?? { minor: 0n, exponent: Number(exponent) };
        sum.minor += BigInt(minor);
        sums.set(currency, sum);
    }
    const count = chosen().length;
    const all = document.getElementById("all-matching");
    const everything = all !== null && all.value !== "";
    bar.hidden = count === 0 && !everything;
    bar.querySelector("[data-count]").textContent = everything ? "All that match" : `${count} selected`;
    bar.querySelector("[data-sum]").textContent = everything
        ? "the preview counts them"
        : [...sums].map(([currency, sum]) => `${decimal(sum.minor, sum.exponent)} ${currency}`).join(" + ");
    for (const link of bar.querySelectorAll("[data-select-all]")) link.hidden = everything;
    const head = document.getElementById("pick-all");
    if (head) {
        head.checked = count > 0 && count === boxes().length;
        head.indeterminate = count > 0 && count < boxes().length;
    }
    showPaused();
}

function clearSelection() {
    for (const box of boxes()) box.checked = false;
    const all = document.getElementById("all-matching");
    if (all) all.value = "";
    showSelection();
}

// ---- live updates, which wait while somebody has chosen rows or writes
const live = () => Number(main()?.dataset.live ?? 0);
// A server that takes longer than this to answer is told of as one that does not: what is shown is old by then.
const LONGEST_ANSWER = 10_000;

// On whatever page updates wait, it says so.
function showPaused() {
    const paused = document.getElementById("paused");
    if (paused) paused.hidden = live() === 0 || !isBusy();
}

function isBusy() {
    const all = document.getElementById("all-matching");
    const field = document.activeElement;
    const writes = field instanceof HTMLElement && field.matches("main input:not([type=checkbox]), main select, main textarea");
    const written = [...document.querySelectorAll("main textarea, main input[data-keep]")].some((each) => each.value !== "");
    return chosen().length > 0 || (all !== null && all.value !== "") || writes || written || document.querySelector("dialog[open]") !== null;
}

// Where the focus can be: kept by its place, so that an update takes nobody's away.
const places = () => [...document.querySelectorAll("main a[href], main button, main input, main summary, main select, main textarea")];

let round;
let asking = false;

async function refresh() {
    if (asking) return;
    asking = true;
    clearTimeout(round);
    if (live() > 0 && !document.hidden && !isBusy()) {
        const lost = document.getElementById("lost");
        try {
            const signal = AbortSignal.timeout(LONGEST_ANSWER);
            const answer = await fetch(location.href, { headers: { "x-console-live": "1" }, credentials: "same-origin", redirect: "manual", signal });
            if (answer.type === "opaqueredirect" || answer.status === 401) {
                location.reload();
                return;
            }
            const text = await answer.text();
            if (answer.ok && !isBusy()) {
                const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
                if (fresh) {
                    const at = rows().findIndex((row) => row.classList.contains("at"));
                    const open = [...document.querySelectorAll("main details")].map((each) => each.open);
                    const focused = places().indexOf(document.activeElement);
                    main().replaceWith(document.adoptNode(fresh));
                    [...document.querySelectorAll("main details")].forEach((each, n) => { if (n < open.length) each.open = open[n]; });
                    rows()[at]?.classList.add("at");
                    if (focused !== -1) places()[focused]?.focus({ preventScroll: true });
                    show();
                }
            }
            if (lost) lost.hidden = answer.ok;
        } catch {
            if (lost) lost.hidden = false;
        }
    }
    showPaused();
    asking = false;
    round = setTimeout(refresh, Math.max(2, live() || 5) * 1000);
}

// ---- keys
function move(by) {
    const all = rows();
    if (all.length === 0) return;
    const at = all.findIndex((row) => row.classList.contains("at"));
    const next = Math.min(all.length - 1, Math.max(0, at === -1 ? 0 : at + by));
    all[at]?.classList.remove("at");
    all[next].classList.add("at");
    all[next].scrollIntoView({ block: "nearest" });
    all[next].querySelector("a")?.focus({ preventScroll: true });
}

function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof HTMLElement && event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
        if (typing) event.target.blur();
        else clearSelection();
        return;
    }
    if (typing || document.querySelector("dialog[open]")) return;
    const here = document.querySelector("tr.at input[name=id]");
    switch (event.key) {
        case "/": {
            const field = document.querySelector("[data-search]");
            const filters = field?.closest("details");
            if (filters) filters.open = true;
            field?.focus();
            break;
        }
        case "j": move(1); break;
        case "k": move(-1); break;
        case "x":
            if (here) { here.checked = !here.checked; showSelection(); }
            break;
        case "r":
            if (here && chosen().length === 0 && !document.getElementById("all-matching")?.value) here.checked = true;
            showSelection();
            document.querySelector("[data-replay]")?.click();
            break;
        case "?": document.getElementById("keys")?.showModal(); break;
        default: return;
    }
    event.preventDefault();
}

// ---- wiring
function show() {
    const keys = document.getElementById("show-keys");
    if (keys) keys.hidden = false;
    showTimes();
    showSelection();
}

document.addEventListener("keydown", key);
document.addEventListener("change", (event) => {
    if (event.target.id === "pick-all") for (const box of boxes()) box.checked = event.target.checked;
    showSelection();
});
document.addEventListener("click", (event) => {
    const button = event.target.closest("button, a");
    if (!button) return;
    if (button.id === "zone") {
        localStorage.setItem(ZONE, zone() === "local" ? "utc" : "local");
        showTimes();
    } else if (button.matches("[data-select-all]")) {
        document.getElementById("all-matching").value = "1";
        showSelection();
    } else if (button.matches("[data-clear]")) {
        clearSelection();
    } else if (button.id === "show-keys") {
        document.getElementById("keys").showModal();
    }
});
// On a narrow screen the places scroll sideways: the one that one is at is in sight.
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// The focus has moved on only when the event is over.
for (const event of ["focusin", "focusout", "input", "click", "keydown"]) document.addEventListener(event, () => setTimeout(showPaused));
// What was not seen was not updated either.
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
// Coming back by the browser's history may bring ticks along.
addEventListener("pageshow", show);
show();
round = setTimeout(refresh, Math.max(2, live() || 5) * 1000);
