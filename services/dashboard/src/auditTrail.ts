/** The trail of a batch: its commands, ends and notes, and the commands that were refused. */

import type { EventView, StoredRefusal } from "./contract";
import { spaced } from "./words";

export interface Entry {
  sequence: number;
  time: string;
  who: string;
  /** Where a person's command came from. */
  address: string | null;
  what: string;
  why: string;
  commandId: string | null;
  /** Why nothing was done, for a refused command. */
  refusal: string | null;
}

/** Both in the order of the log; of the past only what had happened by then. */
export function entriesOf(
  events: readonly EventView[],
  refusals: readonly StoredRefusal[],
  at: number | null,
): Entry[] {
  const refused = refusals.filter(({ sequence }) => at === null || sequence <= at);
  return [...events.map(entryOfEvent), ...refused.map(entryOfRefusal)].sort(
    (one, other) => one.sequence - other.sequence,
  );
}

function entryOfEvent({ sequence, stored_at, event }: EventView): Entry {
  return {
    sequence,
    time: stored_at,
    ...actorOf(event["actor"]),
    what: what(event),
    why: why(event),
    commandId: textOr(event["command_id"]),
    refusal: null,
  };
}

function entryOfRefusal({ sequence, event }: StoredRefusal): Entry {
  const { command, status, detail, reason, repeated } = event;
  const again = repeated > 0 ? ` (asked ${repeated} times more before)` : "";
  return {
    sequence,
    time: event.time,
    ...actorOf(event.actor),
    what: `${spaced(command)} refused`,
    why: reason,
    commandId: event.command_id,
    refusal: `${status}: ${detail}${again}`,
  };
}

function actorOf(actor: unknown): Pick<Entry, "who" | "address"> {
  const { kind, id, address } = (actor ?? {}) as Record<string, unknown>;
  const who = typeof id === "string" ? `${String(kind)} ${id}` : "unknown";
  return { who, address: textOr(address) };
}

/** "batch.stop_requested.v1" as "stop requested", with what it was about. */
function what(event: Record<string, unknown>): string {
  const name = String(event["type"]).replace(/^batch\./, "").replace(/\.v\d+$/, "");
  const words = spaced(name.replaceAll(".", " "));
  const about = [event["mode"], event["priority"], event["rule"], event["budget"]];
  const told = about.filter((value) => typeof value === "string");
  return told.length > 0 ? `${words}: ${told.map((one) => spaced(String(one))).join(", ")}` : words;
}

function why(event: Record<string, unknown>): string {
  const finding = (event["finding"] ?? {}) as Record<string, unknown>;
  const error = (event["error"] ?? {}) as Record<string, unknown>;
  const said = [event["reason"], error["message"], finding["cause"], event["message"]];
  return String(said.find((words) => typeof words === "string" && words !== "") ?? "");
}

function textOr(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
