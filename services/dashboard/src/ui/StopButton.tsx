/** Stop one batch: asked, stopping, or refused with the server's reason. */

import type { BatchView } from "../contract";
import { useWorld } from "../live/world";
import { stop, useStopAttempt } from "../stopping";
import { Icon } from "./Icon";
import { Foreign } from "./parts";

export function StopButton({ batch }: { batch: Pick<BatchView, "id" | "state"> }) {
  const attempt = useStopAttempt(batch.id);
  const isStopping = attempt?.asked || batch.state === "stopping";
  if (useWorld().at !== null) return null; // What was can't be stopped any more.
  return (
    <button
      type="button"
      className="stop"
      data-testid="stop"
      disabled={isStopping}
      aria-label={`Stop ${batch.id}`}
      onClick={() => void stop(batch.id)}
    >
      <Icon name="stop" />
      {isStopping ? "Stopping…" : "Stop"}
    </button>
  );
}

export function StopError({ id }: { id: string }) {
  const attempt = useStopAttempt(id);
  if (!attempt || attempt.asked) return null;
  return (
    <p className="row-error" data-testid="stop-error" role="alert">
      <Icon name="warning" /> Not stopped: <Foreign>{attempt.error}</Foreign>
    </p>
  );
}
