/** Stop one batch: asked, stopping, or refused with the server's reason. */

import { memo } from "react";

import type { BatchView } from "../contract";
import { useWorld } from "../live/world";
import { stop, useStopAttempt } from "../stopping";
import { Icon } from "./Icon";
import { Foreign } from "./parts";

interface Stopped {
  batch: Pick<BatchView, "id" | "state">;
}

export const StopButton = memo(function StopButton({ batch }: Stopped) {
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
}, isSameStop);

function isSameStop(a: Stopped, b: Stopped): boolean {
  return a.batch.id === b.batch.id && a.batch.state === b.batch.state;
}

export const StopError = memo(function StopError({ id }: { id: string }) {
  const attempt = useStopAttempt(id);
  if (!attempt || attempt.asked) return null;
  return (
    <p className="row-error" data-testid="stop-error" role="alert">
      <Icon name="warning" /> Not stopped: <Foreign>{attempt.error}</Foreign>
    </p>
  );
});
