import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Unanswered } from "../src/unanswered";
import { addWebhook } from "../src/webhooks";

const BODY = { url: "https://example.org", events: ["batch.failed"], description: "" };
const SECRET = { webhook: { id: "one" }, secret: "s" };

/** What each request carried as its key, and what it is answered; null: nothing comes back. */
let keys: string[];
let answers: (Response | null)[];

beforeEach(() => {
  keys = [];
  vi.stubGlobal("location", { host: "here" });
  vi.stubGlobal("fetch", (_: string, { headers }: { headers: Record<string, string> }) => {
    keys.push(headers["Idempotency-Key"] ?? "");
    const answer = answers.shift();
    return answer ? Promise.resolve(answer) : Promise.reject(new TypeError("cut off"));
  });
});

afterEach(() => vi.unstubAllGlobals());

describe("a webhook that is added", () => {
  test.each([
    ["its answer was lost", () => null],
    ["a server between could not tell", () => Response.json({}, { status: 504 })],
  ])("is the same one when it is sent again after %s", async (_, lost) => {
    answers = [lost(), Response.json(SECRET)];
    const unanswered = new Unanswered();
    await expect(unanswered.ask(BODY, addWebhook)).rejects.toThrow();
    expect(await unanswered.ask(BODY, addWebhook)).toEqual(SECRET);
    expect(keys[0]).not.toBe("");
    expect(keys[1]).toBe(keys[0]);
  });

  test("is another one after an answer, a refusal, or with another body", async () => {
    answers = [Response.json(SECRET), Response.json({}, { status: 422 }), null, null];
    const unanswered = new Unanswered();
    await unanswered.ask(BODY, addWebhook);
    await expect(unanswered.ask(BODY, addWebhook)).rejects.toThrow();
    await expect(unanswered.ask(BODY, addWebhook)).rejects.toThrow();
    const other = { ...BODY, description: "another" };
    await expect(unanswered.ask(other, addWebhook)).rejects.toThrow();
    expect(new Set(keys).size).toBe(4);
  });
});
