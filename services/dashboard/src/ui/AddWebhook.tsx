/** The form that adds a webhook, and the secret that is shown once. */

import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { copyText } from "../clipboard";
import { Problem } from "../http";
import { Unanswered } from "../unanswered";
import { addWebhook, WEBHOOK_EVENTS } from "../webhooks";
import { spaced, wordsOf } from "../words";
import { Field } from "./Field";
import { Icon } from "./Icon";
import { Foreign } from "./parts";

export function AddWebhook() {
  const queries = useQueryClient();
  const [url, setUrl] = useState("");
  const [description, setDescription] = useState("");
  const [events, setEvents] = useState<readonly string[]>(WEBHOOK_EVENTS);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [secret, setSecret] = useState("");
  // A repeat after a lost answer can't add a second webhook, and gets the secret of the first.
  const [unanswered] = useState(() => new Unanswered());
  const send = async (): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      setSecret((await unanswered.ask({ url, events, description }, addWebhook)).secret);
      setUrl("");
      setDescription("");
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(wordsOf(error), 0));
    } finally {
      setBusy(false);
      await queries.invalidateQueries({ queryKey: ["webhooks"] });
    }
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    void send();
  };
  const errorOf = (name: string): string | undefined =>
    problem?.fields.find(({ field }) => field.split(".").at(-1) === name)?.message;
  const isElsewhere =
    problem !== null && errorOf("url") === undefined && errorOf("description") === undefined;
  return (
    <form className="form add-webhook" noValidate onSubmit={submit} data-testid="add-webhook">
      <div className="field-pair">
        <Field name="url" of="webhook" label="Address" error={errorOf("url")}>
          {(attributes) => (
            <input
              {...attributes}
              type="url"
              autoComplete="off"
              placeholder="https://example.org/millstream"
              value={url}
              onChange={(event) => setUrl(event.target.value)}
            />
          )}
        </Field>
        <Field
          name="description"
          of="webhook"
          label="What it is for (optional)"
          error={errorOf("description")}
        >
          {(attributes) => (
            <input
              {...attributes}
              autoComplete="off"
              value={description}
              onChange={(event) => setDescription(event.target.value)}
            />
          )}
        </Field>
      </div>
      <fieldset className="choices">
        <legend>Told when a batch is</legend>
        {WEBHOOK_EVENTS.map((name) => (
          <label key={name}>
            <input
              type="checkbox"
              checked={events.includes(name)}
              onChange={(event) =>
                setEvents(
                  WEBHOOK_EVENTS.filter((one) =>
                    one === name ? event.target.checked : events.includes(one),
                  ),
                )
              }
            />
            {spaced(name.replace("batch.", ""))}
          </label>
        ))}
      </fieldset>
      {problem && isElsewhere && (
        <p className="form-error" role="alert" data-testid="webhook-error">
          <Icon name="warning" />
          <Foreign>{problem.fields[0]?.message ?? problem.message}</Foreign>
        </p>
      )}
      <div>
        <button type="submit" className="primary" disabled={isBusy} data-testid="webhook-add">
          Add webhook
        </button>
      </div>
      {secret && <Secret key={secret} secret={secret} forget={() => setSecret("")} />}
    </form>
  );
}

function Secret({ secret, forget }: { secret: string; forget(): void }) {
  const [words, setWords] = useState("Copy");
  return (
    <p className="secret" role="status" data-testid="webhook-secret">
      Its messages are signed with this secret, which is not shown again:{" "}
      <code>{secret}</code>{" "}
      <button
        type="button"
        onClick={() =>
          void copyText(secret).then((isDone) => setWords(isDone ? "Copied" : "Not copied"))
        }
      >
        {words}
      </button>{" "}
      <button type="button" className="quiet" onClick={forget}>
        Hide it
      </button>
    </p>
  );
}
