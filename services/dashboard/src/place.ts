/** What the address says: which page, which batch, which moment, which filters. */

import { useSyncExternalStore } from "react";

export type PageName =
  | "hub"
  | "batches"
  | "batch"
  | "samples"
  | "statistics"
  | "replay"
  | "nodes"
  | "settings"
  | "nowhere";

export interface Place {
  page: PageName;
  /** The batch of a batch page, else empty. */
  id: string;
  query: URLSearchParams;
}

const BATCH = /^\/batches\/([^/]+)\/?$/;
/** How the details of a batch were addressed before they were a page. */
const OLD_BATCH = /^#(batch_[0-9a-f_]+)$/;
const PAGES: Record<string, PageName> = {
  "/": "hub",
  "/index.html": "hub",
  "/batches": "batches",
  "/samples": "samples",
  "/statistics": "statistics",
  "/replay": "replay",
  "/nodes": "nodes",
  "/settings": "settings",
};

/** Browsers refuse more than a hundred changes of the address in ten seconds. */
const REST_MS = 150;

const listeners = new Set<() => void>();
/** The address that holds already and is written once the browser has rested. */
let waiting: string | null = null;
let resting: ReturnType<typeof setTimeout> | undefined;
let held = "";
let isReturn = false;
let place: Place = { page: "hub", id: "", query: new URLSearchParams() };

/** The place that the address names; the same object until the address changes. */
export function currentPlace(): Place {
  const old = OLD_BATCH.exec(location.hash);
  if (old) history.replaceState(null, "", batchAddress(old[1] ?? ""));
  const { pathname, search } = here();
  const address = pathname + search;
  if (address === held) return place;
  held = address;
  const id = BATCH.exec(pathname)?.[1];
  const page = id ? "batch" : (PAGES[pathname.replace(/(.)\/$/, "$1")] ?? "nowhere");
  place = { page, id: id ? decoded(id) : "", query: new URLSearchParams(search) };
  return place;
}

const here = (): Pick<URL, "pathname" | "search"> =>
  waiting === null ? location : new URL(waiting, location.href);

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // A stray percent sign: no batch is named so, and the server says it.
  }
}

function onPlace(listener: () => void): () => void {
  if (listeners.size === 0) {
    window.addEventListener("popstate", onMove);
    window.addEventListener("hashchange", onMove);
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// The browser went elsewhere by itself: what waited was for the place that it has left.
function onMove(): void {
  waiting = null;
  isReturn = true;
  tell();
}

function write(): void {
  if (waiting !== null) history.replaceState(null, "", waiting);
  waiting = null;
}

/** Write now; what comes within the rest that follows waits, and only the last of it is written. */
function writeAndRest(): void {
  write();
  resting = setTimeout(() => {
    resting = undefined;
    if (waiting !== null) writeAndRest();
  }, REST_MS);
}

function tell(): void {
  for (const listener of [...listeners]) listener();
}

export function usePlace(): Place {
  return useSyncExternalStore(onPlace, currentPlace);
}

export function hubAddress(at: number | null): string {
  return at === null ? "/" : `/?at=${at}`;
}

export function batchAddress(id: string, at: number | null = null, tab = ""): string {
  const query = [at === null ? "" : `at=${at}`, tab && `tab=${tab}`].filter(Boolean).join("&");
  return `/batches/${encodeURIComponent(id)}${query && `?${query}`}`;
}

/** Go to another address of this page; `replace` leaves no step to go back to. */
export function go(address: string, replace = false): void {
  const isOther = new URL(address, location.href).pathname !== here().pathname;
  if (isOther) isReturn = false;
  if (replace) {
    waiting = address;
    if (resting === undefined) writeAndRest();
  } else {
    write();
    history.pushState(null, "", address);
  }
  if (isOther) window.scrollTo(0, 0);
  tell();
}

/** Whether this page was come to by the browser's own steps, back or forth. */
export const hasReturned = (): boolean => isReturn;

export function showBatch(id: string, at: number | null = null): void {
  go(batchAddress(id, at));
}

/** The present address with these parameters changed; null takes one away. */
export function addressWith(changes: Record<string, string | null>): string {
  const { pathname, search } = here();
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return pathname + (text ? `?${text}` : "");
}

/** One parameter of the address, or `fallback`, and the way to change it. */
export function useParameter(name: string, fallback = ""): [string, (value: string) => void] {
  const value = usePlace().query.get(name) ?? fallback;
  const change = (next: string): void =>
    go(addressWith({ [name]: next === fallback ? null : next }), true);
  return [value, change];
}

/** The sequence of the past that is looked at, or null for the present. */
export function useAt(): number | null {
  return readAt(usePlace().query);
}

export function readAt(query: URLSearchParams): number | null {
  const text = query.get("at") ?? "";
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}
