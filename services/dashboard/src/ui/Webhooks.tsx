/** Who is told of batches' turns: the webhooks, what they were sent, and what can be done to them. */

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { notify } from "../notices";
import {
  listDeliveries,
  listWebhooks,
  removeWebhook,
  switchWebhook,
  testWebhook,
  type Delivery,
  type Webhook,
} from "../webhooks";
import { localTime, plural, spaced, wordsOf } from "../words";
import { AddWebhook } from "./AddWebhook";
import { Confirm, Later } from "./later";
import { BatchLink } from "./Link";
import { Empty, Foreign, Trouble } from "./parts";

const KEY = ["webhooks"];
const REFRESH_MS = 5_000;

export function Webhooks() {
  const answer = useQuery({
    queryKey: KEY,
    queryFn: ({ signal }) => listWebhooks(signal),
    refetchInterval: REFRESH_MS,
  });
  const webhooks = answer.data?.webhooks ?? [];
  return (
    <section className="card" aria-labelledby="webhooks-title">
      <h2 id="webhooks-title">Webhooks</h2>
      <p className="muted">
        Addresses that are told when a batch ends, gets stuck or reaches a budget: signed, in order,
        at least once.
      </p>
      {answer.error && (
        <Trouble
          what="The webhooks could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
      <AddWebhook />
      {answer.isPending && <Empty>Reading the webhooks…</Empty>}
      {answer.data && webhooks.length === 0 && (
        <Empty testid="webhooks-empty">No address is told yet. Add one above.</Empty>
      )}
      <ul className="rows">
        {webhooks.map((webhook) => (
          <Row key={webhook.id} webhook={webhook} />
        ))}
      </ul>
    </section>
  );
}

function Row({ webhook }: { webhook: Webhook }) {
  const { id, url, events, description, is_active, last } = webhook;
  const queries = useQueryClient();
  const [isBusy, setBusy] = useState(false);
  const [isRemoving, setRemoving] = useState(false);
  const [isOpen, setOpen] = useState(false);
  const act = async (what: string, ask: () => Promise<unknown>): Promise<void> => {
    setBusy(true);
    try {
      await ask();
    } catch (error) {
      notify({ kind: "error", title: `${what} failed`, text: wordsOf(error) });
    } finally {
      setBusy(false);
      await queries.invalidateQueries({ queryKey: KEY });
    }
  };
  return (
    <li className="error-group webhook" data-testid="webhook" data-webhook={id}>
      <p>
        <b>
          <Foreign>{url}</Foreign>
        </b>{" "}
        {!is_active && <span className="tag">off</span>}
      </p>
      {description && (
        <p>
          <Foreign>{description}</Foreign>
        </p>
      )}
      <p className="muted">
        {events.map((one) => spaced(one.replace("batch.", ""))).join(", ")} · added{" "}
        {localTime(webhook.created_at)} by <Foreign>{webhook.created_by}</Foreign> ·{" "}
        <span className="mono">{id}</span>
      </p>
      <p data-testid="webhook-last">{last ? <Outcome delivery={last} /> : "Nothing was sent yet."}</p>
      <div className="commands">
        <button
          type="button"
          data-testid="webhook-test"
          disabled={isBusy}
          onClick={() => void act("The test", async () => tell(await testWebhook(id)))}
        >
          Send a test
        </button>
        <button
          type="button"
          data-testid="webhook-switch"
          disabled={isBusy}
          onClick={() => void act("The change", () => switchWebhook(id, !is_active))}
        >
          {is_active ? "Switch off" : "Switch on"}
        </button>
        <button
          type="button"
          data-testid="webhook-deliveries"
          aria-expanded={isOpen}
          onClick={() => setOpen(!isOpen)}
        >
          Deliveries
        </button>
        <button
          type="button"
          className="stop"
          data-testid="webhook-remove"
          disabled={isBusy}
          onClick={() => setRemoving(true)}
        >
          Remove
        </button>
      </div>
      {isOpen && <Deliveries id={id} />}
      <Later when={isRemoving}>
        <Confirm
          isOpen={isRemoving}
          title="Remove this webhook?"
          action="Remove it"
          onClose={() => setRemoving(false)}
          onConfirm={() => void act("The removal", () => removeWebhook(id))}
        >
          <Foreign>{url}</Foreign> is told of nothing more, and what it was told is forgotten.
        </Confirm>
      </Later>
    </li>
  );
}

function tell(delivery: Delivery): void {
  const isDelivered = delivery.state === "delivered";
  notify({
    kind: isDelivered ? "success" : "error",
    title: isDelivered ? "The test was delivered" : "The test was not delivered",
    text: isDelivered
      ? `Answered ${delivery.status} in ${Math.round(delivery.latency_ms)} ms.`
      : delivery.error,
  });
}

const STATES: Record<Delivery["state"], string> = {
  delivered: "delivered",
  retrying: "is tried again",
  given_up: "was given up",
};

function Outcome({ delivery }: { delivery: Delivery }) {
  const { type, state, attempts, last_at, next_at, status, error } = delivery;
  return (
    <span className={state === "delivered" ? undefined : "is-bad"}>
      {spaced(type.replace("batch.", ""))} {STATES[state]}, {localTime(last_at)}
      {status !== null && `, answered ${status}`}
      {attempts > 1 && `, after ${plural(attempts, "attempt")}`}
      {next_at && `, next at ${localTime(next_at)}`}
      {error && (
        <>
          : <Foreign>{error}</Foreign>
        </>
      )}
    </span>
  );
}

function Deliveries({ id }: { id: string }) {
  const answer = useQuery({
    queryKey: [...KEY, id],
    queryFn: ({ signal }) => listDeliveries(id, signal),
    refetchInterval: REFRESH_MS,
  });
  if (answer.error) {
    return (
      <Trouble
        what="The deliveries could not be read"
        words={wordsOf(answer.error)}
        retry={() => void answer.refetch()}
      />
    );
  }
  if (!answer.data) return <Empty>Reading the deliveries…</Empty>;
  if (answer.data.deliveries.length === 0) return <Empty>Nothing was sent yet.</Empty>;
  return (
    <ol className="deliveries">
      {answer.data.deliveries.map((delivery) => (
        <li key={delivery.id} data-testid="delivery" data-state={delivery.state}>
          <Outcome delivery={delivery} />{" "}
          {delivery.batch_id && <BatchLink id={delivery.batch_id} />}
        </li>
      ))}
    </ol>
  );
}
